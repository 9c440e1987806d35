import { cachedSource } from './cached-source.ts'
import type { ByteSource } from './contract.ts'
import { fileChanged, type UnitTable } from './disk-map.ts'
import { isInside, readInside, SECTOR_BYTES, uint64LE } from './numbers.ts'

const BLOCK_BYTES = 1024 * 1024
/** From here on an entry says that there is no block. */
const NO_BLOCK = 0xfffffffe

/** The map of a VDI that `inspectVdi` accepted. */
export async function openVdiTable(source: ByteSource, signal?: AbortSignal): Promise<UnitTable> {
  const file = cachedSource(source)
  const header = await readInside(file, 0, SECTOR_BYTES, signal)
  const mapOffset = header.readUInt32LE(340)
  const dataOffset = header.readUInt32LE(344)
  const sizeBytes = uint64LE(header, 368)
  const blockCount = Math.ceil(sizeBytes / BLOCK_BYTES)
  const isBehindHeader = mapOffset >= SECTOR_BYTES && mapOffset + blockCount * 4 <= dataOffset
  if (!isBehindHeader || dataOffset > source.sizeBytes) throw fileChanged()

  return {
    sizeBytes,
    unitBytes: BLOCK_BYTES,
    async read(first, places) {
      const entries = await file.read(mapOffset + first * 4, places.length * 4)
      for (let index = 0; index < places.length; index++) {
        const block = entries.readUInt32LE(index * 4)
        if (block >= NO_BLOCK) continue
        const place = dataOffset + block * BLOCK_BYTES
        const neededBytes = Math.min(BLOCK_BYTES, sizeBytes - (first + index) * BLOCK_BYTES)
        if (block >= blockCount || !isInside(source, place, neededBytes)) throw fileChanged()
        places[index] = place
      }
    },
  }
}
