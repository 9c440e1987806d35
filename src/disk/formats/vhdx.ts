import { cachedSource } from './cached-source.ts'
import { Claims } from './claims.ts'
import type { ByteSource, FormatInspector, InspectedDisk, InspectionOptions } from './contract.ts'
import { refuseFile } from './contract.ts'
import { checkVirtualSize, readInside, refuseTruncated } from './numbers.ts'
import { readUpTo } from './source.ts'
import { readVhdxParameters, type VhdxParameters } from './vhdx-metadata.ts'
import { readVhdxRegions, VHDX_UNIT_BYTES, type VhdxRegion, type VhdxRegions } from './vhdx-regions.ts'

export const VHDX_MARK = 'vhdxfile'
/** 2 MiB x 2^23: a table of 64 MiB, which qemu reads at once. */
const ENTRIES_MAX = 2 ** 23
const TABLE_WINDOW = 8192
/** Sectors of a chunk, between two entries for the bitmaps that only files with a parent have. */
const CHUNK_SECTORS = 2 ** 23

const STATE = { notPresent: 0, undefined: 1, zero: 2, unmapped: 3, present: 6, partlyPresent: 7 }

export const vhdxInspector: FormatInspector = {
  format: 'vhdx',
  async matches(source, signal) {
    return (await readUpTo(source, 0, 8, signal)).toString('latin1') === VHDX_MARK
  },
}

/** A VHDX that holds everything itself and was closed properly. Source: Microsoft's [MS-VHDX]. */
export async function inspectVhdx(source: ByteSource, options: InspectionOptions): Promise<InspectedDisk> {
  const { signal } = options
  const file = cachedSource(source)
  if (!(await vhdxInspector.matches(source, signal))) throw refuseTables()
  const regions = await readVhdxRegions(file, signal)
  const parameters = await readVhdxParameters(file, regions.metadata, signal)
  checkVirtualSize(parameters.virtualBytes, options.virtualBytesMax)
  await walkTable(file, regions, parameters, signal)
  return {
    format: 'vhdx',
    offset: 0,
    lengthBytes: source.sizeBytes,
    virtualBytes: parameters.virtualBytes,
    variant: parameters.isFixed ? 'fixed' : 'dynamic',
  }
}

/** Each block is inside the file, on none of the regions, and used once. */
async function walkTable(
  file: ByteSource,
  regions: VhdxRegions,
  { virtualBytes, blockBytes }: VhdxParameters,
  signal?: AbortSignal,
): Promise<void> {
  const blockCount = Math.ceil(virtualBytes / blockBytes)
  const chunkBlocks = (CHUNK_SECTORS * 512) / blockBytes
  const entryCount = blockCount + Math.floor((blockCount - 1) / chunkBlocks)
  if (entryCount > ENTRIES_MAX || entryCount * 8 > regions.blocks.lengthBytes) throw refuseTables()
  const blockUnits = blockBytes / VHDX_UNIT_BYTES
  const claims = claimRegions(file, regions)
  for (let first = 0; first < entryCount; first += TABLE_WINDOW) {
    const count = Math.min(TABLE_WINDOW, entryCount - first)
    const table = await readInside(file, regions.blocks.offset + first * 8, count * 8, signal)
    for (let index = 0; index < count; index++) {
      const low = table.readUInt32LE(index * 8)
      // Bits 3 to 19 have no meaning yet; the rest are MiB.
      if ((low & 0xffff8) !== 0) throw refuseTables()
      const state = low & 7
      const isBitmap = (first + index + 1) % (chunkBlocks + 1) === 0
      if (isBitmap ? state !== STATE.notPresent : !isStateKnown(state)) throw refuseTables()
      if (state !== STATE.present) continue
      const unit = table.readUInt32LE(index * 8 + 4) * 4096 + (low >>> 20)
      if ((unit + blockUnits) * VHDX_UNIT_BYTES > file.sizeBytes) throw refuseTruncated()
      if (!claims.claim(unit, blockUnits)) throw refuseTables()
    }
  }
}

/** 'partlyPresent' needs a parent for the other part. Blocks that are not there keep a place at most as a memory of it. */
function isStateKnown(state: number): boolean {
  return state <= STATE.unmapped || state === STATE.present
}

function claimRegions(file: ByteSource, regions: VhdxRegions): Claims {
  const claims = new Claims(Math.ceil(file.sizeBytes / VHDX_UNIT_BYTES))
  const claim = ({ offset, lengthBytes }: VhdxRegion) => {
    if (!claims.claim(offset / VHDX_UNIT_BYTES, lengthBytes / VHDX_UNIT_BYTES)) throw refuseTables()
  }
  claim({ offset: 0, lengthBytes: VHDX_UNIT_BYTES })
  for (const region of [regions.log, regions.blocks, regions.metadata]) claim(region)
  return claims
}

function refuseTables() {
  return refuseFile(
    'tables',
    'The table of this VHDX leads to places where no data can be: it is damaged, or made to do harm. Write it anew with: Convert-VHD SOURCE.vhdx TARGET.vhdx.',
  )
}
