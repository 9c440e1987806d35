import { refuseFile } from './contract.ts'
import { isZero, SECTOR_BYTES, uint64BE } from './numbers.ts'

export const VHD_MARK = 'conectix'
export const VHD_VERSION = 0x00010000
export const VHD_FIXED = 2
export const VHD_DYNAMIC = 3
const VHD_DIFFERENCING = 4

/** Bit 1 has no meaning and is always set; without bit 0, which marks a file that will be thrown away. */
const FEATURES_KNOWN = 0b11
/** The largest geometry that can be told: larger disks all say it, and their size is the other number. */
const GEOMETRY_SECTORS_MAX = 65535 * 16 * 255
/** 2 040 GiB: no reader takes more. */
const SECTORS_MAX = 0xff000000

/**
 * Programs that mean the size they write (Hyper-V, Disk2vhd, XenServer, XenConverter, qemu with force_size), as qemu 7.2
 * knows them. Azure ('wa') means it too, but only later versions know: with its two sizes apart a disk would be cut.
 */
const MEAN_SIZE = new Set(['win ', 'd2v ', 'tap\0', 'CTXS', 'qem2'])
/** The program whose guests saw the geometry. */
const MEANS_GEOMETRY = 'vpc '

export interface VhdFooter {
  readonly type: typeof VHD_FIXED | typeof VHD_DYNAMIC
  readonly virtualBytes: number
  /** Of the second header; for a fixed disk of no meaning. */
  readonly headerOffset: bigint
}

/** `bytes`: the 512 of it. Source: Microsoft's "Virtual Hard Disk Image Format Specification", version 1.0. */
export function parseVhdFooter(bytes: Buffer): VhdFooter {
  if (bytes.readUInt32BE(64) !== vhdChecksum(bytes, 64)) throw refuseVhd()
  if (bytes.readUInt32BE(12) !== VHD_VERSION) {
    throw refuseFile(
      'version',
      'This VHD has a version that is not known here. Convert it to VHDX: Convert-VHD SOURCE.vhd TARGET.vhdx.',
    )
  }
  const type = bytes.readUInt32BE(60)
  if (type === VHD_DIFFERENCING) throw refuseVhdParent()
  if ((bytes.readUInt32BE(8) & ~FEATURES_KNOWN) !== 0 || !isZero(bytes.subarray(85))) throw refuseFeatures()
  if (type !== VHD_FIXED && type !== VHD_DYNAMIC) throw refuseFeatures()
  if (bytes[84] !== 0) {
    throw refuseFile(
      'unclean',
      'This VHD belongs to a machine in a saved state. Start the machine and shut it down, then bring the file again.',
    )
  }
  return { type, virtualBytes: virtualSize(bytes), headerOffset: bytes.readBigUInt64BE(16) }
}

/**
 * What qemu makes of it, so that both read the same disk. The size and the geometry may tell different disks, and who
 * wrote the file decides which one a guest saw; where that is not known, half of the tools would cut the disk short.
 */
function virtualSize(bytes: Buffer): number {
  const sizeBytes = uint64BE(bytes, 48)
  const sectors = bytes.readUInt16BE(56) * bytes.readUInt8(58) * bytes.readUInt8(59)
  const creator = bytes.toString('latin1', 28, 32)
  const isSize = MEAN_SIZE.has(creator) || sectors === GEOMETRY_SECTORS_MAX
  const isCertain = isSize || creator === MEANS_GEOMETRY || sizeBytes === sectors * SECTOR_BYTES
  if (!isCertain) {
    throw refuseFile(
      'size',
      'This VHD tells two sizes, and its maker is not known for which one counts. Convert it to VHDX: Convert-VHD SOURCE.vhd TARGET.vhdx, or to raw: VBoxManage clonemedium SOURCE.vhd TARGET.img --format RAW.',
    )
  }
  const virtualBytes = isSize ? sizeBytes : sectors * SECTOR_BYTES
  if (virtualBytes > SECTORS_MAX * SECTOR_BYTES) {
    throw refuseFile(
      'size',
      'A VHD ends at 2040 GiB. Convert it to VHDX: Convert-VHD SOURCE.vhd TARGET.vhdx.',
    )
  }
  return virtualBytes
}

/** All bytes but the checksum's own four, summed and turned over. */
export function vhdChecksum(bytes: Buffer, at: number): number {
  let sum = 0
  for (let index = 0; index < bytes.length; index++) {
    if (index < at || index >= at + 4) sum += bytes[index] ?? 0
  }
  return ~sum >>> 0
}

export function refuseVhd() {
  return refuseFile('corrupt', 'This VHD is damaged: its own checks fail. Export it again.')
}

export function refuseVhdParent() {
  return refuseFile(
    'parent',
    'This VHD holds only what differs from another one. Merge it into its parent first: Merge-VHD, or Convert-VHD SOURCE.vhd TARGET.vhdx.',
  )
}

export function refuseFeatures() {
  return refuseFile(
    'feature-bits',
    'This VHD says that it uses something that is not known here. Convert it to VHDX: Convert-VHD SOURCE.vhd TARGET.vhdx.',
  )
}
