import type { ByteSource, InspectionOptions } from './contract.ts'
import { refuseFile } from './contract.ts'
import { checkVirtualSize, uint64LE } from './numbers.ts'
import { readUpTo } from './source.ts'

/** 'QED' and a zero. */
export const QED_MAGIC = 0x00444551
const HEADER_BYTES = 72
const CLUSTER_BYTES_MIN = 2 ** 12
const CLUSTER_BYTES_MAX = 2 ** 26
const TABLE_CLUSTER_COUNT_MAX = 16
/** Ours: the format knows tables of 1 GiB, which a reader would have to hold in memory. */
const TABLE_BYTES_MAX = 32 * 1024 * 1024

const BACKING_FILE = 1n
const NEED_CHECK = 2n
const BACKING_IS_RAW = 4n

/** Of a QED file; what needs no comparison with the file's own size has been checked. */
export interface QedHeader {
  readonly clusterBytes: number
  /** Of the L1 table and of each L2 table. */
  readonly tableBytes: number
  /** In front of the first cluster that anything may lie in. */
  readonly headBytes: number
  readonly l1Offset: number
  readonly virtualBytes: number
}

const AGAIN =
  'Convert it to qcow2 where it was made (qemu-img convert -f qed -O qcow2 OLD NEW), and bring that in.'

export function refuseQedTables(what: string): Error {
  return refuseFile('tables', `${what}: the QED file is damaged, or made to deceive. ${AGAIN}`)
}

export function refuseQedTruncated(what: string): Error {
  return refuseFile(
    'truncated',
    `${what} behind the end of the QED file: the file is cut, or damaged. Send it again, whole, with a checksum.`,
  )
}

/** Source of the layout and its rules: QEMU's docs/interop/qed_spec, read 2026-11. */
export async function readQedHeader(source: ByteSource, options: InspectionOptions): Promise<QedHeader> {
  const bytes = await readUpTo(source, 0, HEADER_BYTES, options.signal)
  if (bytes.length < HEADER_BYTES) throw refuseQedTruncated('Its header ends')
  checkFeatures(bytes)
  const clusterBytes = bytes.readUInt32LE(4)
  const tableClusterCount = bytes.readUInt32LE(8)
  const headClusterCount = bytes.readUInt32LE(12)
  if (!isPowerOfTwo(clusterBytes, CLUSTER_BYTES_MIN, CLUSTER_BYTES_MAX)) {
    throw refuseQedTables('Its clusters have a size that does not exist')
  }
  const tableBytes = tableClusterCount * clusterBytes
  if (!isPowerOfTwo(tableClusterCount, 1, TABLE_CLUSTER_COUNT_MAX) || tableBytes > TABLE_BYTES_MAX) {
    throw refuseQedTables('Its tables have a size that cannot be')
  }
  if (headClusterCount === 0) throw refuseQedTables('Its header has no size')
  // Above 2^53 it is rounded, and still above any limit.
  const virtualBytes = bytes.readUInt32LE(52) * 2 ** 32 + bytes.readUInt32LE(48)
  checkVirtualSize(virtualBytes, options.virtualBytesMax)
  if (virtualBytes > (tableBytes / 8) ** 2 * clusterBytes) {
    throw refuseQedTables('Its disk is larger than its tables can tell of')
  }
  return {
    clusterBytes,
    tableBytes,
    headBytes: headClusterCount * clusterBytes,
    l1Offset: uint64LE(bytes, 40),
    virtualBytes,
  }
}

function checkFeatures(bytes: Buffer): void {
  const features = bytes.readBigUInt64LE(16)
  // The name itself is never read. A place or a length for one without the bit is refused too: nobody writes that.
  const hasName = bytes.readUInt32LE(56) !== 0 || bytes.readUInt32LE(60) !== 0
  if ((features & (BACKING_FILE | BACKING_IS_RAW)) !== 0n || hasName) {
    throw refuseFile(
      'backing-file',
      'The QED file is only the difference to another file (a backing file), which is never opened. ' +
        'Flatten it first: qemu-img convert -O qcow2 OLD NEW.',
    )
  }
  const others = bytes.readBigUInt64LE(24) | bytes.readBigUInt64LE(32)
  if ((features & ~NEED_CHECK) !== 0n || others !== 0n) {
    throw refuseFile(
      'feature-bits',
      `The QED file uses a feature that this version of Calotype does not know. ${AGAIN}`,
    )
  }
  if ((features & NEED_CHECK) !== 0n) {
    throw refuseFile(
      'unclean',
      'The QED file was not closed, so its tables may be wrong. Check it first (qemu-img check -r all FILE), then bring it in again.',
    )
  }
}

function isPowerOfTwo(value: number, min: number, max: number): boolean {
  return value >= min && value <= max && Number.isInteger(Math.log2(value))
}
