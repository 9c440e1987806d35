import type { ExportJob } from '../store-jobs.ts'
import { askLane, type Lane } from './export-lane.ts'
import { cutAtRuns, type Item, SLAB_BYTES } from './export-runs.ts'
import type { ExportAsk, ExportPlan } from './export-thread.ts'
import type { RegionPlace } from './region.ts'

export interface StreamOptions {
  readonly place: RegionPlace
  readonly job: ExportJob
  readonly plan: ExportPlan
  /** Who is to make the next piece. */
  readonly laneFor: () => Lane
  readonly signal: AbortSignal
}

/** So much is made ahead of the reader: with a reader that stands still, all that is in memory. */
const AHEAD_BYTES_MAX = 16 * 1024 * 1024
/** Runs of zeroes take no memory, so that making goes on behind them; but there may be terabytes of them. */
const AHEAD_COUNT_MAX = 64
/** Several times the window of the compressor: frames that do not know each other cost next to nothing. */
const FRAME_BYTES = 4 * 1024 * 1024
const ZEROES = Buffer.alloc(SLAB_BYTES)

let streamCount = 0

/** One reader of one exported file: asks for pieces ahead, and hands them out in their order. Read once. */
export class ExportStream {
  readonly #options: StreamOptions
  readonly #key = streamCount++
  readonly #lanes = new Set<Lane>()
  /** Rejects what is waited for. */
  readonly #waiting = new Set<(error: unknown) => void>()

  constructor(options: StreamOptions) {
    this.#options = options
  }

  range(offset: number, lengthBytes: number): AsyncIterable<Uint8Array> {
    const items = cutAtRuns(this.#options.plan.zeroRuns, offset, offset + lengthBytes, SLAB_BYTES)
    return this.#inTurn(items, async (item) =>
      item.isInRun ? ZEROES.subarray(0, item.lengthBytes) : this.#ask<Uint8Array>('make', item),
    )
  }

  /** All of the file, as zstd frames. */
  packed(): AsyncIterable<Uint8Array> {
    const { plan } = this.#options
    /** That of a whole frame of zeroes, which in a large file comes again and again. */
    let zeroFrame: Promise<Uint8Array> | undefined
    const items = cutAtRuns(plan.zeroRuns, 0, plan.sizeBytes, FRAME_BYTES)
    return this.#inTurn(items, (item) => {
      if (!item.isInRun || item.lengthBytes < FRAME_BYTES) return this.#ask<Uint8Array>('pack', item)
      zeroFrame ??= this.#ask<Uint8Array>('pack', item)
      return zeroFrame
    })
  }

  /** SHA-256 of a range. */
  async hash(offset: number, lengthBytes: number): Promise<Buffer> {
    const item = { offset, lengthBytes, isInRun: false }
    for await (const digest of this.#inTurn([item], () => this.#ask<Uint8Array>('hash', item))) {
      return Buffer.from(digest)
    }
    throw new Error('one piece has one digest')
  }

  async *#inTurn(
    items: Iterable<Item>,
    make: (item: Item) => Promise<Uint8Array>,
  ): AsyncGenerator<Uint8Array> {
    const { signal } = this.#options
    const stop = () => {
      for (const reject of this.#waiting) reject(signal.reason)
      this.#leave()
    }
    signal.throwIfAborted()
    signal.addEventListener('abort', stop, { once: true })
    try {
      const ahead: { readonly bytes: Promise<Uint8Array>; readonly heldBytes: number }[] = []
      let aheadBytes = 0
      for (const item of items) {
        const bytes = make(item)
        // Awaited in its turn; until then a failure must not count as unhandled.
        bytes.catch(() => {})
        const heldBytes = item.isInRun ? 0 : item.lengthBytes
        ahead.push({ bytes, heldBytes })
        aheadBytes += heldBytes
        while (aheadBytes >= AHEAD_BYTES_MAX || ahead.length >= AHEAD_COUNT_MAX) {
          const first = ahead.shift()
          if (first === undefined) break
          yield await first.bytes
          aheadBytes -= first.heldBytes
          signal.throwIfAborted()
        }
      }
      for (const { bytes } of ahead) {
        yield await bytes
        signal.throwIfAborted()
      }
    } finally {
      signal.removeEventListener('abort', stop)
      this.#leave()
    }
  }

  #ask<Result>(is: 'make' | 'pack' | 'hash', item: Pick<Item, 'offset' | 'lengthBytes'>): Promise<Result> {
    const { place, job, plan, laneFor } = this.#options
    const lane = laneFor()
    if (!this.#lanes.has(lane)) {
      this.#lanes.add(lane)
      send(lane, { is: 'open', key: this.#key, place, job, dataRuns: plan.dataRuns })
    }
    const { offset, lengthBytes } = item
    return new Promise<Result>((resolve, reject) => {
      this.#waiting.add(reject)
      askLane<Result>(lane, { is, key: this.#key, offset, lengthBytes })
        .then(resolve, reject)
        .finally(() => this.#waiting.delete(reject))
    })
  }

  /** What is still being made for nobody is given up. */
  #leave(): void {
    for (const lane of this.#lanes) send(lane, { is: 'close', key: this.#key })
    this.#lanes.clear()
  }
}

/** A thread that has ended tells so where bytes are waited for. */
function send(lane: Lane, ask: ExportAsk): void {
  lane.thread.ask(ask).catch(() => {})
}
