import { Claims } from './claims.ts'
import type { ByteSource } from './contract.ts'
import { refuseFile } from './contract.ts'
import { isInside, readInside, refuseTruncated, SECTOR_BYTES } from './numbers.ts'
import { TABLE_ENTRIES, type VmdkHeader } from './vmdk-header.ts'

/** 2 TiB of grains of 4 KiB, 32 TiB of the usual 64 KiB. */
const TABLES_MAX = 2 ** 20
const DIRECTORY_WINDOW = 4096
const MARKER_BYTES = 12
const ZERO_GRAIN = 1

/**
 * Follows the directory and every grain table: each place is inside the file, and no grain is used for two places of
 * the disk or for the tables themselves. Linear in the tables, whatever they say.
 */
export async function walkGrains(file: ByteSource, header: VmdkHeader, signal?: AbortSignal): Promise<void> {
  const tableSectors = TABLE_ENTRIES * header.grainSectors
  const capacity = Number(header.capacity)
  const tableCount = Math.ceil(capacity / tableSectors)
  if (tableCount > TABLES_MAX) throw refuseTables()
  const directory = checkDirectory(file, header, header.directory ?? 0n, tableCount)
  // What is in the second directory is of no matter: it is read by nobody who does not write.
  if (header.redundantDirectory !== undefined) {
    checkDirectory(file, header, header.redundantDirectory, tableCount)
  }
  const check = header.isCompressed ? compressedGrains(file, header) : plainGrains(file, header)
  for (let first = 0; first < tableCount; first += DIRECTORY_WINDOW) {
    const count = Math.min(DIRECTORY_WINDOW, tableCount - first)
    const entries = await readInside(file, directory + first * 4, count * 4, signal)
    for (let index = 0; index < count; index++) {
      const sector = entries.readUInt32LE(index * 4)
      if (sector === 0) continue
      if (!header.isCompressed && sector + (TABLE_ENTRIES * 4) / SECTOR_BYTES > Number(header.overhead)) {
        throw refuseTables()
      }
      const table = await readInside(file, sector * SECTOR_BYTES, TABLE_ENTRIES * 4, signal)
      const firstGrain = (first + index) * TABLE_ENTRIES
      const grainCount = Math.min(TABLE_ENTRIES, Math.ceil(capacity / header.grainSectors) - firstGrain)
      for (let grain = 0; grain < grainCount; grain++) {
        const place = table.readUInt32LE(grain * 4)
        if (place === 0 || (place === ZERO_GRAIN && header.hasZeroGrains)) continue
        const checking = check(firstGrain + grain, place, signal)
        if (checking !== undefined) await checking
      }
    }
  }
}

type CheckGrain = (grain: number, sector: number, signal?: AbortSignal) => Promise<void> | undefined

/** Byte offset of a directory that is inside the file, before the grains where there is such a border, and not on the text. */
function checkDirectory(file: ByteSource, header: VmdkHeader, sector: bigint, tableCount: number): number {
  if (sector < BigInt(1 + header.descriptorSectors)) throw refuseTables()
  if (sector * BigInt(SECTOR_BYTES) > BigInt(file.sizeBytes)) throw refuseTruncated()
  const offset = Number(sector) * SECTOR_BYTES
  const end = offset + tableCount * 4
  if (end > file.sizeBytes) throw refuseTruncated()
  if (!header.isCompressed && end > Number(header.overhead) * SECTOR_BYTES) throw refuseTables()
  return offset
}

/** Grains of equal size behind the tables, all at the same distance of a whole grain from each other, each used once. */
function plainGrains(file: ByteSource, header: VmdkHeader): CheckGrain {
  const { grainSectors } = header
  const overhead = Number(header.overhead)
  const claims = new Claims(Math.ceil(file.sizeBytes / SECTOR_BYTES / grainSectors))
  let remainder: number | undefined
  return (grain, sector) => {
    const neededSectors = Math.min(grainSectors, Number(header.capacity) - grain * grainSectors)
    if (!isInside(file, sector * SECTOR_BYTES, neededSectors * SECTOR_BYTES)) throw refuseTruncated()
    remainder ??= sector % grainSectors
    if (sector < overhead || sector % grainSectors !== remainder) throw refuseTables()
    if (!claims.claim(Math.floor(sector / grainSectors))) throw refuseTables()
    return undefined
  }
}

/**
 * Each grain of a stream says itself which place of the disk it is for, so none can stand for two. It is not inflated
 * here: qemu inflates into the room of one grain and no further, and fails where there is more.
 */
function compressedGrains(file: ByteSource, header: VmdkHeader): CheckGrain {
  // qemu reads two grains' room from the place of one: no more may it say it has.
  const packedBytesMax = 2 * header.grainSectors * SECTOR_BYTES - MARKER_BYTES
  return async (grain, sector, signal) => {
    const offset = sector * SECTOR_BYTES
    const marker = await readInside(file, offset, MARKER_BYTES, signal)
    const packedBytes = marker.readUInt32LE(8)
    if (marker.readBigUInt64LE(0) !== BigInt(grain) * BigInt(header.grainSectors)) throw refuseTables()
    if (packedBytes === 0 || packedBytes > packedBytesMax) throw refuseTables()
    if (!isInside(file, offset, MARKER_BYTES + packedBytes)) throw refuseTruncated()
  }
}

function refuseTables() {
  return refuseFile(
    'tables',
    'The tables of this VMDK lead to places where no data can be: it is damaged, or made to do harm. Export it again, or write it anew with: qemu-img convert -O qcow2.',
  )
}
