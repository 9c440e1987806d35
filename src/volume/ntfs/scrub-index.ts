import { damaged, refuse } from '../refuse.ts'
import { eachStretch } from './attributes.ts'
import { undoFixup } from './fixup.ts'
import { findIndex } from './index.ts'
import { ATTRIBUTE, type Attribute, type Ntfs, type NtfsFile } from './model.ts'
import { blockWithoutSlack } from './scrub-node.ts'
import { withSameFixup } from './scrub-record.ts'
import { countChanges, isZero, type Tally } from './scrub-tally.ts'

const READ_BYTES = 1024 * 1024

/** Of one index; one bit for each is held in memory. */
const BLOCKS_MAX = 2 ** 26

/** An index with blocks outside of its record. Holds no view of the record it was read from. */
export interface IndexWork {
  readonly number: number
  readonly allocation: Attribute
  readonly blockBytes: number
  readonly blockCount: number
  /** One bit for each block. */
  readonly used: Buffer
  readonly isOfNames: boolean
}

/** All of a file that have blocks. Throws refuse('damaged') if one does not say which of its blocks it uses. */
export async function findIndexWork(ntfs: Ntfs, file: NtfsFile): Promise<readonly IndexWork[]> {
  const { number } = file.record
  const found: IndexWork[] = []
  for (const allocation of file.attributes) {
    if (allocation.type !== ATTRIBUTE.indexAllocation) continue
    const index = findIndex(file, allocation.name, ntfs)
    const rootValue = index?.root.value
    if (index?.bitmap === undefined || rootValue === undefined)
      throw damaged(`an index of file record ${number} is not whole`)
    const { blockCount, blockBytes, bitmap } = index
    const usedBytes = Math.ceil(blockCount / 8)
    if (allocation.runs.some(({ lcn }) => lcn === null))
      throw damaged(`an index of file record ${number} has holes`)
    if (blockCount > BLOCKS_MAX)
      throw refuse(
        'too-large',
        'A directory of the volume is larger than can be cleaned. Leave this disk out.',
      )
    if (bitmap.dataBytes < usedBytes)
      throw damaged(`the map of an index of file record ${number} is too short`)
    found.push({
      number,
      allocation,
      blockBytes,
      blockCount,
      used: await ntfs.readAttribute(bitmap, 0, usedBytes),
      isOfNames: rootValue.readUInt32LE(0) === ATTRIBUTE.fileName,
    })
  }
  return found
}

/** Zeroes the blocks that an index does not use, and what earlier entries have left in the others. */
export async function scrubIndex(ntfs: Ntfs, work: IndexWork, tally: Tally): Promise<void> {
  const { number, allocation, blockBytes, blockCount, used, isOfNames } = work
  const step = Math.max(1, Math.floor(READ_BYTES / blockBytes))
  for (let first = 0; first < blockCount; first += step) {
    const count = Math.min(step, blockCount - first)
    const bytes = await ntfs.readAttribute(allocation, first * blockBytes, count * blockBytes)
    for (let block = first; block < first + count; block += 1) {
      const raw = bytes.subarray((block - first) * blockBytes, (block - first + 1) * blockBytes)
      const offset = block * blockBytes
      if (((used[block >>> 3] ?? 0) & (1 << (block & 7))) === 0) {
        if (isZero(raw)) continue
        for (const { at, lengthBytes } of eachStretch(
          allocation.runs,
          ntfs.geometry.clusterBytes,
          offset,
          blockBytes,
        ))
          if (at !== null) await ntfs.medium.zero(at, lengthBytes)
        tally.add('directory indexes', blockBytes)
        continue
      }
      const whole = Buffer.from(raw)
      if (raw.toString('latin1', 0, 4) !== 'INDX' || !undoFixup(whole))
        throw damaged(`index block ${block} of file record ${number} cannot be read`)
      const clean = withSameFixup(blockWithoutSlack(whole, isOfNames, number))
      if (clean.equals(raw)) continue
      await ntfs.writeAttribute(allocation, offset, clean)
      tally.add('directory indexes', countChanges(raw, clean))
    }
  }
}
