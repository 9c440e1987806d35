import { cachedSource } from './cached-source.ts'
import type { ByteSource } from './contract.ts'
import { fileChanged, type UnitTable } from './disk-map.ts'
import { isInside, readInside, SECTOR_BYTES } from './numbers.ts'
import { parseVmdkHeader, TABLE_ENTRIES } from './vmdk-header.ts'

const TABLE_BYTES = TABLE_ENTRIES * 4
const ZERO_GRAIN = 1

/** The grain tables of a monolithicSparse VMDK that `inspectVmdk` accepted. One page is one table. */
export async function openVmdkTable(source: ByteSource, signal?: AbortSignal): Promise<UnitTable> {
  const file = cachedSource(source)
  const header = parseVmdkHeader(await readInside(file, 0, SECTOR_BYTES, signal))
  const { grainSectors, directory, hasZeroGrains } = header
  if (header.isCompressed || directory === undefined) throw fileChanged()
  const unitBytes = grainSectors * SECTOR_BYTES
  const sizeBytes = Number(header.capacity) * SECTOR_BYTES
  const overhead = Number(header.overhead)
  /** Before the grains: there are the tables. */
  const checkTable = (sector: number, lengthBytes: number) => {
    const isBefore = sector + lengthBytes / SECTOR_BYTES <= overhead
    if (!isBefore || !isInside(source, sector * SECTOR_BYTES, lengthBytes)) throw fileChanged()
  }
  const directorySector = Number(directory)
  checkTable(directorySector, Math.ceil(sizeBytes / unitBytes / TABLE_ENTRIES) * 4)

  return {
    sizeBytes,
    unitBytes,
    async read(first, places) {
      const entry = await file.read(directorySector * SECTOR_BYTES + (first / TABLE_ENTRIES) * 4, 4)
      const tableSector = entry.readUInt32LE(0)
      if (tableSector === 0) return
      checkTable(tableSector, TABLE_BYTES)
      const table = await file.read(tableSector * SECTOR_BYTES, TABLE_BYTES)
      for (let index = 0; index < places.length; index++) {
        const sector = table.readUInt32LE(index * 4)
        if (sector === 0 || (sector === ZERO_GRAIN && hasZeroGrains)) continue
        const neededBytes = Math.min(unitBytes, sizeBytes - (first + index) * unitBytes)
        if (sector < overhead || !isInside(source, sector * SECTOR_BYTES, neededBytes)) throw fileChanged()
        places[index] = sector * SECTOR_BYTES
      }
    },
  }
}
