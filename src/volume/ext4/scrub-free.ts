import { damaged } from '../refuse.ts'
import { crc32c } from './checksum.ts'
import { firstBlockOf } from './groups.ts'
import { type Place, type ScrubContext, zeroUnused } from './scrub-context.ts'

/**
 * Zeroes every block that nothing has claimed: free ones, and those that are marked as in use without being so. The bitmaps
 * stay. Needs all claims to be made.
 */
export async function scrubFree(context: ScrubContext): Promise<void> {
  const { superblock, groups, medium } = context.ext4
  const { blocksPerGroup, blockCount, blockBytes } = superblock
  const nothing = new Uint8Array(blocksPerGroup / 8)
  const free = new BlockRuns(context, 'free blocks')
  const lost = new BlockRuns(context, 'lost blocks')
  for (let index = 0; index < superblock.groupCount; index++) {
    const group = groups.get(index)
    const first = firstBlockOf(superblock, index)
    const claims = context.claims.page(index) ?? nothing
    let bitmap: Uint8Array = claims
    if (!group.isBlockUninit) {
      const bytes = await medium.read(group.blockBitmap * blockBytes, blocksPerGroup / 8)
      if (superblock.hasMetadataChecksum) {
        const crc = crc32c(superblock.checksumSeed, bytes)
        if ((superblock.descriptorBytes >= 64 ? crc : crc & 0xffff) !== group.blockBitmapChecksum) {
          throw damaged(`the checksum of the block bitmap of group ${index} is wrong`)
        }
      }
      bitmap = bytes
    }
    const count = Math.min(blocksPerGroup, blockCount - first)
    for (let byte = 0; byte * 8 < count; byte++) {
      const claimed = claims[byte] as number
      const used = bitmap[byte] as number
      if ((claimed & ~used) !== 0) throw damaged(`group ${index} has blocks in use that are marked as free`)
      if (claimed === 0xff) continue
      const block = first + byte * 8
      if (used === 0 && byte * 8 + 8 <= count) {
        const waiting = free.add(block, 8)
        if (waiting !== undefined) await waiting
        continue
      }
      for (let bit = 0; bit < 8 && byte * 8 + bit < count; bit++) {
        const mask = 1 << bit
        if ((used & mask) === 0) await free.add(block + bit, 1)
        else if ((claimed & mask) === 0) await lost.add(block + bit, 1)
      }
    }
  }
  await free.flush()
  await lost.flush()
  await context.pool.drain()
}

/** Zeroes blocks that come in rising order, those side by side in one call. */
class BlockRuns {
  readonly #context: ScrubContext
  readonly #place: Place
  #first = 0
  #count = 0

  constructor(context: ScrubContext, place: Place) {
    this.#context = context
    this.#place = place
  }

  /** A promise only where there is something to wait for: this is called for every eight blocks of a volume. */
  add(first: number, count: number): Promise<void> | undefined {
    if (this.#first + this.#count === first) {
      this.#count += count
      return undefined
    }
    const flushed = this.flush()
    this.#first = first
    this.#count = count
    return flushed
  }

  flush(): Promise<void> | undefined {
    const { blockBytes } = this.#context.ext4.superblock
    const offset = this.#first * blockBytes
    const lengthBytes = this.#count * blockBytes
    this.#count = 0
    if (lengthBytes === 0) return undefined
    return this.#context.pool.run(() => zeroUnused(this.#context, this.#place, offset, lengthBytes))
  }
}
