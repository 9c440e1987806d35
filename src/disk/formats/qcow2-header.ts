import type { ByteSource, InspectionOptions } from './contract.ts'
import { refuseFile } from './contract.ts'
import { checkVirtualSize } from './numbers.ts'
import {
  refuseBacking,
  refuseCorrupt,
  refuseDataFile,
  refuseEncrypted,
  refuseFeature,
  refuseTables,
  refuseTruncated,
} from './qcow2-refuse.ts'
import { readUpTo } from './source.ts'

export const QCOW2_MAGIC = 0x514649fb

const HEADER_V2_BYTES = 72
const HEADER_V3_BYTES = 104
/** With the type of compression and its padding; what may come behind it is not defined yet. */
const HEADER_KNOWN_BYTES = 112
const CLUSTER_BITS_MIN = 9
const CLUSTER_BITS_MAX = 21
/** A cluster of 32 parts of 512 bytes. */
const EXTENDED_L2_CLUSTER_BITS_MIN = 14
const REFCOUNT_ORDER_MAX = 6

const DIRTY = 1n << 0n
const CORRUPT = 1n << 1n
const DATA_FILE = 1n << 2n
const COMPRESSION = 1n << 3n
const EXTENDED_L2 = 1n << 4n
const LAZY_REFCOUNTS = 1n << 0n
const BITMAPS = 1n << 0n
const RAW_DATA_FILE = 1n << 1n

/** Of a qcow2 file; what needs no comparison with the file's own size has been checked. */
export interface Qcow2Header {
  readonly version: 2 | 3
  readonly headerBytes: number
  readonly clusterBits: number
  readonly clusterBytes: number
  readonly virtualBytes: number
  readonly compression: 'zlib' | 'zstd'
  readonly hasExtendedL2: boolean
  /** Whether the extension that tells of bitmaps is to be believed. */
  readonly hasBitmaps: boolean
  readonly l1Offset: number
  readonly l1Count: number
  readonly refcountsOffset: number
  readonly refcountsClusterCount: number
  readonly snapshotsOffset: number
  readonly snapshotCount: number
}

/**
 * An offset or a size of 64 bits, big-endian. Above 2^53 it is rounded, and still above the size of any file: a number that is
 * smaller than a file's size is exact.
 */
export function readOffset(bytes: Buffer, at: number): number {
  return bytes.readUInt32BE(at) * 2 ** 32 + bytes.readUInt32BE(at + 4)
}

/**
 * Source of the layout and of every rule: QEMU's docs/interop/qcow2, read 2026-11; where QEMU itself takes less than is
 * written there, so do we.
 */
export async function readQcow2Header(source: ByteSource, options: InspectionOptions): Promise<Qcow2Header> {
  const bytes = await readUpTo(source, 0, HEADER_KNOWN_BYTES, options.signal)
  if (bytes.length < HEADER_V2_BYTES) throw refuseTruncated('Its header ends')
  const version = bytes.readUInt32BE(4)
  if (version !== 2 && version !== 3) throw refuseVersion(version)
  if (version === 3 && bytes.length < HEADER_V3_BYTES) throw refuseTruncated('Its header ends')
  // The name itself is never read: any offset and any length mean that there is one, whatever its spelling.
  if (readOffset(bytes, 8) !== 0 || bytes.readUInt32BE(16) !== 0) throw refuseBacking()
  if (bytes.readUInt32BE(32) !== 0) throw refuseEncrypted()
  const features = version === 3 ? readFeatures(bytes) : undefined
  const clusterBits = bytes.readUInt32BE(20)
  if (clusterBits < CLUSTER_BITS_MIN || clusterBits > CLUSTER_BITS_MAX) {
    throw refuseTables('Its clusters have a size that does not exist')
  }
  if (features?.hasExtendedL2 === true && clusterBits < EXTENDED_L2_CLUSTER_BITS_MIN) {
    throw refuseTables('Its clusters are too small for the parts they are said to have')
  }
  const headerBytes = features?.headerBytes ?? HEADER_V2_BYTES
  const clusterBytes = 2 ** clusterBits
  if (headerBytes > clusterBytes) throw refuseTables('Its header does not fit in its first cluster')
  const virtualBytes = readOffset(bytes, 24)
  checkVirtualSize(virtualBytes, options.virtualBytesMax)
  return {
    version,
    headerBytes,
    clusterBits,
    clusterBytes,
    virtualBytes,
    compression: features?.compression ?? 'zlib',
    hasExtendedL2: features?.hasExtendedL2 ?? false,
    hasBitmaps: features?.hasBitmaps ?? false,
    l1Offset: readOffset(bytes, 40),
    l1Count: bytes.readUInt32BE(36),
    refcountsOffset: readOffset(bytes, 48),
    refcountsClusterCount: bytes.readUInt32BE(56),
    snapshotsOffset: readOffset(bytes, 64),
    snapshotCount: bytes.readUInt32BE(60),
  }
}

/** Version 3's own fields. A bit that we do not know is refused in all three sets, though two of them ask for less. */
function readFeatures(
  bytes: Buffer,
): Pick<Qcow2Header, 'headerBytes' | 'compression' | 'hasExtendedL2' | 'hasBitmaps'> {
  const incompatible = bytes.readBigUInt64BE(72)
  const compatible = bytes.readBigUInt64BE(80)
  const autoclear = bytes.readBigUInt64BE(88)
  if ((incompatible & DATA_FILE) !== 0n || (autoclear & RAW_DATA_FILE) !== 0n) throw refuseDataFile()
  // Dirty only says that counts may be wrong which nobody looks at who reads.
  if ((incompatible & ~(DIRTY | CORRUPT | COMPRESSION | EXTENDED_L2)) !== 0n) {
    throw refuseFeature('a feature of a later version')
  }
  if ((compatible & ~LAZY_REFCOUNTS) !== 0n || (autoclear & ~BITMAPS) !== 0n) {
    throw refuseFeature('a feature of a later version')
  }
  if ((incompatible & CORRUPT) !== 0n) throw refuseCorrupt('The qcow2 file is marked as damaged')
  if (bytes.readUInt32BE(96) > REFCOUNT_ORDER_MAX) {
    throw refuseTables('Its reference counts have a width that does not exist')
  }
  const headerBytes = bytes.readUInt32BE(100)
  if (headerBytes < HEADER_V3_BYTES || headerBytes % 8 !== 0) {
    throw refuseTables('Its header has a length that does not exist')
  }
  return {
    headerBytes,
    compression: readCompression(bytes, headerBytes, (incompatible & COMPRESSION) !== 0n),
    hasExtendedL2: (incompatible & EXTENDED_L2) !== 0n,
    hasBitmaps: (autoclear & BITMAPS) !== 0n,
  }
}

/** The bit and the field have to say the same; what stands behind the field is not defined yet. */
function readCompression(bytes: Buffer, headerBytes: number, hasBit: boolean): 'zlib' | 'zstd' {
  if (headerBytes > HEADER_KNOWN_BYTES) throw refuseFeature('a longer header')
  const extra = bytes.subarray(HEADER_V3_BYTES, headerBytes)
  if (extra.length < headerBytes - HEADER_V3_BYTES) throw refuseTruncated('Its header ends')
  const type = extra[0] ?? 0
  if (type > 1 || extra.subarray(1).some((byte) => byte !== 0)) {
    throw refuseFeature('a compression of a later version')
  }
  if (hasBit !== (type === 1)) throw refuseCorrupt('The qcow2 file says two things of its compression')
  return type === 1 ? 'zstd' : 'zlib'
}

function refuseVersion(version: number): Error {
  return refuseFile(
    'version',
    version === 1
      ? 'The file is qcow, version 1. Convert it: qemu-img convert -f qcow -O qcow2 OLD NEW.'
      : 'The file is of a version of qcow2 that does not exist, or not yet. Convert it: qemu-img convert -O qcow2 OLD NEW.',
  )
}
