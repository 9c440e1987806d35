import { refuseFile } from './contract.ts'
import { isZero, SECTOR_BYTES } from './numbers.ts'

export const VMDK_MARK = 'KDMV'

const FLAG = {
  newlines: 1 << 0,
  redundantDirectory: 1 << 1,
  zeroGrains: 1 << 2,
  compressed: 1 << 16,
  markers: 1 << 17,
}
const FLAGS_KNOWN = FLAG.newlines | FLAG.redundantDirectory | FLAG.zeroGrains | FLAG.compressed | FLAG.markers

/** What the directory's place says where the footer has to be asked for it. */
const AT_THE_END = 0xffffffffffffffffn

const GRAIN_SECTORS_MIN = 8
const GRAIN_SECTORS_MAX = 2048
export const TABLE_ENTRIES = 512

/** The header of a hosted sparse file ("Virtual Disk Format 5.0"), also its footer. Places and sizes in sectors. */
export interface VmdkHeader {
  readonly version: number
  readonly capacity: bigint
  readonly grainSectors: number
  readonly descriptorSectors: number
  /** Undefined: the footer says. */
  readonly directory: bigint | undefined
  /** Undefined where the file has none. */
  readonly redundantDirectory: bigint | undefined
  /** Where, in a file that is not compressed, tables end and grains begin. */
  readonly overhead: bigint
  readonly hasZeroGrains: boolean
  readonly isCompressed: boolean
}

/** Checks all of it that can be checked without the rest of the file. `bytes`: one sector. */
export function parseVmdkHeader(bytes: Buffer): VmdkHeader {
  const version = bytes.readUInt32LE(4)
  if (version < 1 || version > 3) {
    throw refuseFile(
      'version',
      'This VMDK has a version that is not known here (1 to 3 are). Write it anew with: qemu-img convert -O qcow2.',
    )
  }
  const flags = bytes.readUInt32LE(8)
  if ((flags & ~FLAGS_KNOWN) !== 0 || !isZero(bytes.subarray(79, SECTOR_BYTES))) {
    throw refuseFile(
      'feature-bits',
      'This VMDK says that it uses something that is not known here. Write it anew with: qemu-img convert -O qcow2.',
    )
  }
  if (bytes[72] !== 0) {
    throw refuseFile(
      'unclean',
      'This VMDK was not closed properly. Start and shut down its machine where it came from, then export it again.',
    )
  }
  // Line ends of four kinds, which a transfer as text would have changed.
  if (bytes.toString('latin1', 73, 77) !== '\n \r\n') throw refuseHeader()

  const isCompressed = bytes.readUInt16LE(77) === 1
  const marks = flags & (FLAG.compressed | FLAG.markers)
  if (bytes.readUInt16LE(77) > 1 || marks !== (isCompressed ? FLAG.compressed | FLAG.markers : 0)) {
    throw refuseHeader()
  }

  const grain = bytes.readBigUInt64LE(20)
  if (
    grain < GRAIN_SECTORS_MIN ||
    grain > GRAIN_SECTORS_MAX ||
    (grain & (grain - 1n)) !== 0n ||
    bytes.readUInt32LE(44) !== TABLE_ENTRIES
  ) {
    throw refuseFile(
      'tables',
      'The pieces of this VMDK have a size that no tool writes. Write it anew with: qemu-img convert -O qcow2.',
    )
  }
  return {
    version,
    capacity: bytes.readBigUInt64LE(12),
    grainSectors: Number(grain),
    descriptorSectors: descriptorSectors(bytes.readBigUInt64LE(28), bytes.readBigUInt64LE(36)),
    redundantDirectory: (flags & FLAG.redundantDirectory) !== 0 ? bytes.readBigUInt64LE(48) : undefined,
    directory: bytes.readBigUInt64LE(56) === AT_THE_END ? undefined : bytes.readBigUInt64LE(56),
    overhead: bytes.readBigUInt64LE(64),
    hasZeroGrains: (flags & FLAG.zeroGrains) !== 0,
    isCompressed,
  }
}

/** Tools look for the text behind the header whatever the header says: nowhere else may it be. */
function descriptorSectors(sector: bigint, count: bigint): number {
  if (sector === 0n || count === 0n) {
    throw refuseFile(
      'extents',
      'This VMDK is one of several files of a disk. Join them first: vmware-vdiskmanager -r SOURCE.vmdk -t 0 TARGET.vmdk.',
    )
  }
  if (sector !== 1n || count > 128n) {
    throw refuseFile(
      'extents',
      'The description in this VMDK is not where it belongs. Write the file anew with: qemu-img convert -O qcow2.',
    )
  }
  return Number(count)
}

/** True where two headers of one file tell the same disk; where its directory is, the footer alone may know. */
export function isSameDisk(one: VmdkHeader, other: VmdkHeader): boolean {
  return (
    one.version === other.version &&
    one.capacity === other.capacity &&
    one.grainSectors === other.grainSectors &&
    one.descriptorSectors === other.descriptorSectors &&
    one.hasZeroGrains === other.hasZeroGrains &&
    one.isCompressed === other.isCompressed
  )
}

export function refuseHeader() {
  return refuseFile(
    'corrupt',
    'The header of this VMDK contradicts itself: it is damaged. Export it again, and transfer it as binary data.',
  )
}
