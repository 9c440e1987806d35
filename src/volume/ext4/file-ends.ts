import type { Tally } from '../wipe.ts'
import type { Ext4 } from './inode.ts'
import type { Pool } from './pool.ts'
import { isZero } from './zeroes.ts'

const WAITING_MAX = 65_536
/** Ends that lie closer together are read in one piece: a round trip costs more than the bytes between them. */
const GAP_BYTES_MAX = 16_384
const READ_BYTES_MAX = 524_288

interface End {
  readonly offset: number
  readonly lengthBytes: number
}

/** What lies between the end of a file and that of its last block. Collected, so that neighbours can be read together. */
export class FileEnds {
  readonly #ext4: Ext4
  readonly #tally: Tally
  #waiting: End[] = []

  constructor(ext4: Ext4, tally: Tally) {
    this.#ext4 = ext4
    this.#tally = tally
  }

  get isFull(): boolean {
    return this.#waiting.length >= WAITING_MAX
  }

  add(end: End): void {
    this.#waiting.push(end)
  }

  /** Looks at all that were added and zeroes those that are not zero. */
  async flush(pool: Pool): Promise<void> {
    const ends = this.#waiting.sort((a, b) => a.offset - b.offset)
    this.#waiting = []
    let batch: End[] = []
    for (const end of ends) {
      const first = batch[0] ?? end
      const last = batch.at(-1) ?? end
      const isFar =
        end.offset - (last.offset + last.lengthBytes) > GAP_BYTES_MAX ||
        end.offset + end.lengthBytes - first.offset > READ_BYTES_MAX
      if (isFar) {
        const full = batch
        await pool.run(() => this.#zero(full))
        batch = []
      }
      batch.push(end)
    }
    await pool.run(() => this.#zero(batch))
    await pool.drain()
  }

  async #zero(batch: readonly End[]): Promise<void> {
    const first = batch[0]
    const last = batch.at(-1)
    if (first === undefined || last === undefined) return
    const { medium } = this.#ext4
    const bytes = await medium.readPast(first.offset, last.offset + last.lengthBytes - first.offset)
    for (const { offset, lengthBytes } of batch) {
      const start = offset - first.offset
      if (isZero(bytes, start, start + lengthBytes)) continue
      await medium.zero(offset, lengthBytes)
      this.#tally.add('file ends', lengthBytes)
    }
  }
}
