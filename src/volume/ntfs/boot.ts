import type { Medium } from '../contract.ts'
import { damaged, refuse } from '../refuse.ts'
import { readSize } from './bytes.ts'
import type { Geometry } from './model.ts'

/** Bitmaps of clusters are held in memory, several at a time: 96 MiB each at most. */
const CLUSTERS_MAX = 96 * 1024 * 1024 * 8

/** Reads the boot sector. Refuses what is no NTFS, does not fit the medium or is larger than memory allows. */
export async function readGeometry(medium: Medium): Promise<Geometry> {
  if (medium.sizeBytes < 4096) throw damaged('the volume is shorter than any NTFS')
  const boot = await medium.read(0, 512)
  if (boot.toString('latin1', 3, 11) !== 'NTFS    ') throw damaged('the boot sector is not that of an NTFS')
  const sectorBytes = boot.readUInt16LE(0x0b)
  if (![256, 512, 1024, 2048, 4096].includes(sectorBytes))
    throw damaged('the boot sector has an odd sector size')
  const clusterBytes = sectorBytes * sectorsPerCluster(boot.readUInt8(0x0d))
  if (clusterBytes < 512 || clusterBytes > 2 * 1024 * 1024) {
    throw damaged('the boot sector has an odd cluster size')
  }
  const sizeBytes = readSize(boot, 0x28, 'the count of sectors') * sectorBytes
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes > medium.sizeBytes) {
    throw damaged('the file system is larger than its partition')
  }
  const clusterCount = Math.floor(sizeBytes / clusterBytes)
  if (clusterCount > CLUSTERS_MAX) {
    throw refuse(
      'too-large',
      'The volume has more clusters than can be cleaned. Use larger clusters, or leave this disk out.',
    )
  }
  const recordBytes = blockBytes(boot.readInt8(0x40), clusterBytes)
  const indexBytes = blockBytes(boot.readInt8(0x44), clusterBytes)
  if (![1024, 2048, 4096].includes(recordBytes)) throw damaged('the boot sector has an odd record size')
  if (!isIndexBytes(indexBytes)) throw damaged('the boot sector has an odd index block size')
  const mftLcn = readSize(boot, 0x30, 'the place of the MFT')
  const mftMirrorLcn = readSize(boot, 0x38, 'the place of the mirror of the MFT')
  if (mftLcn >= clusterCount || mftMirrorLcn >= clusterCount || mftLcn === 0) {
    throw damaged('the MFT lies outside of the volume')
  }
  if ((mftLcn + 1) * clusterBytes > sizeBytes || mftLcn * clusterBytes + recordBytes > sizeBytes) {
    throw damaged('the MFT lies outside of the volume')
  }
  const serial = boot.readBigUInt64LE(0x48).toString(16).toUpperCase().padStart(16, '0')
  return {
    sectorBytes,
    clusterBytes,
    recordBytes,
    indexBytes,
    sizeBytes,
    clusterCount,
    mftLcn,
    mftMirrorLcn,
    serial,
  }
}

export function isIndexBytes(bytes: number): boolean {
  return bytes >= 512 && bytes <= 65_536 && (bytes & (bytes - 1)) === 0
}

/** Up to 128 it is the count, from 129 on the power of two is 256 minus it. */
function sectorsPerCluster(code: number): number {
  const count = code <= 128 ? code : 256 - code <= 21 ? 2 ** (256 - code) : 0
  if (count === 0 || (count & (count - 1)) !== 0) throw damaged('the boot sector has an odd cluster size')
  return count
}

/** In clusters if above zero, else the power of two of its bytes. */
function blockBytes(code: number, clusterBytes: number): number {
  if (code > 0) return code * clusterBytes
  return code >= -31 && code < 0 ? 2 ** -code : 0
}
