import { cachedSource } from './cached-source.ts'
import type { ByteSource } from './contract.ts'
import { fileChanged, type UnitTable } from './disk-map.ts'
import { isInside } from './numbers.ts'
import { readVhdxParameters } from './vhdx-metadata.ts'
import { readVhdxRegions, VHDX_UNIT_BYTES } from './vhdx-regions.ts'

/** Bytes of the disk between two entries for bitmaps, which only files with a parent have. */
const CHUNK_BYTES = 2 ** 32
const ENTRY_BYTES = 8
const PRESENT = 6
/** Not present, undefined, zero, unmapped. */
const ABSENT_MAX = 3

/** The block table of a VHDX that `inspectVhdx` accepted: without a parent, its log empty. */
export async function openVhdxTable(source: ByteSource, signal?: AbortSignal): Promise<UnitTable> {
  const file = cachedSource(source)
  const regions = await readVhdxRegions(file, signal)
  const { virtualBytes: sizeBytes, blockBytes } = await readVhdxParameters(file, regions.metadata, signal)
  const { blocks } = regions
  const taken = [{ offset: 0, lengthBytes: VHDX_UNIT_BYTES }, regions.log, blocks, regions.metadata]
  const chunkBlocks = CHUNK_BYTES / blockBytes
  const entryOf = (block: number) => block + Math.floor(block / chunkBlocks)
  const lastBlock = Math.ceil(sizeBytes / blockBytes) - 1
  if ((entryOf(lastBlock) + 1) * ENTRY_BYTES > blocks.lengthBytes) throw fileChanged()

  return {
    sizeBytes,
    unitBytes: blockBytes,
    async read(first, places) {
      const start = entryOf(first)
      const count = entryOf(first + places.length - 1) + 1 - start
      const entries = await file.read(blocks.offset + start * ENTRY_BYTES, count * ENTRY_BYTES)
      for (let index = 0; index < places.length; index++) {
        const at = (entryOf(first + index) - start) * ENTRY_BYTES
        const low = entries.readUInt32LE(at)
        const state = low & 0xfffff
        if (state <= ABSENT_MAX) continue
        if (state !== PRESENT) throw fileChanged()
        const place = (entries.readUInt32LE(at + 4) * 4096 + (low >>> 20)) * VHDX_UNIT_BYTES
        if (!isInside(source, place, blockBytes)) throw fileChanged()
        const isOn = (other: (typeof taken)[number]) =>
          place < other.offset + other.lengthBytes && other.offset < place + blockBytes
        if (taken.some(isOn)) throw fileChanged()
        places[index] = place
      }
    },
  }
}
