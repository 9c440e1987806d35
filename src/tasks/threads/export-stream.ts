import type { ExportJob } from '../store-jobs.ts'
import { askLane, type Lane } from './export-lane.ts'
import { cutAtRuns, type Item, SLAB_BYTES } from './export-runs.ts'
import type { ExportSlabs } from './export-slabs.ts'
import type { ExportAsk, ExportPlan } from './export-thread.ts'
import type { RegionPlace } from './region.ts'

export interface StreamOptions {
  readonly place: RegionPlace
  readonly job: ExportJob
  readonly plan: ExportPlan
  /** Who is to make the next piece. */
  readonly laneFor: () => Lane
  readonly slabs: ExportSlabs
  readonly signal: AbortSignal
}

/** What the reader has in hand and what is made ahead of him: with one that stands still, all that is in memory. */
const AHEAD_BYTES_MAX = 20 * 1024 * 1024
/** Runs of zeroes take no memory, so that making goes on behind them; but there may be terabytes of them. */
const AHEAD_COUNT_MAX = 64
/** Several times the window of the compressor: frames that do not know each other cost next to nothing. */
const FRAME_BYTES = 4 * 1024 * 1024
const ZEROES = Buffer.alloc(SLAB_BYTES)

let streamCount = 0

/** A piece for the reader, and what is to be done when it asks for the next one. */
interface Made {
  readonly bytes: Uint8Array
  readonly release?: () => void
}

/**
 * One reader of one exported file: asks for pieces ahead, and hands them out in their order, each good until the next one is
 * asked for. Read once.
 */
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
    const { zeroRuns, cutsAt } = this.#options.plan
    const items = cutAtRuns(zeroRuns, offset, offset + lengthBytes, SLAB_BYTES, cutsAt)
    return this.#inTurn(items, async (item) =>
      item.isInRun ? { bytes: ZEROES.subarray(0, item.lengthBytes) } : this.#make(item),
    )
  }

  /** All of the file, as zstd frames. */
  packed(): AsyncIterable<Uint8Array> {
    const { sizeBytes, zeroRuns, cutsAt } = this.#options.plan
    const pack = async (item: Item): Promise<Made> => ({
      bytes: await this.#ask<Uint8Array>({ is: 'pack', ...rangeOf(item) }),
    })
    /** That of a whole frame of zeroes, which in a large file comes again and again. */
    let zeroFrame: Promise<Made> | undefined
    const items = cutAtRuns(zeroRuns, 0, sizeBytes, FRAME_BYTES, cutsAt)
    return this.#inTurn(items, (item) => {
      if (!item.isInRun || item.lengthBytes < FRAME_BYTES) return pack(item)
      zeroFrame ??= pack(item)
      return zeroFrame
    })
  }

  /** SHA-256 of a range. */
  async hash(offset: number, lengthBytes: number): Promise<Buffer> {
    const item = { offset, lengthBytes, isInRun: false }
    const make = async () => ({ bytes: await this.#ask<Uint8Array>({ is: 'hash', ...rangeOf(item) }) })
    for await (const digest of this.#inTurn([item], make)) return Buffer.from(digest)
    throw new Error('one piece has one digest')
  }

  async *#inTurn(items: Iterable<Item>, make: (item: Item) => Promise<Made>): AsyncGenerator<Uint8Array> {
    const { signal } = this.#options
    const stop = () => {
      for (const reject of this.#waiting) reject(signal.reason)
      this.#leave()
    }
    signal.throwIfAborted()
    signal.addEventListener('abort', stop, { once: true })
    const ahead: { readonly made: Promise<Made>; readonly heldBytes: number }[] = []
    try {
      let aheadBytes = 0
      for (const item of items) {
        const made = make(item)
        // Awaited in its turn; until then a failure must not count as unhandled.
        made.catch(() => {})
        const heldBytes = item.isInRun ? 0 : item.lengthBytes
        ahead.push({ made, heldBytes })
        aheadBytes += heldBytes
        while (aheadBytes >= AHEAD_BYTES_MAX || ahead.length >= AHEAD_COUNT_MAX) {
          const first = ahead.shift()
          if (first === undefined) break
          const { bytes, release } = await first.made
          yield bytes
          release?.()
          aheadBytes -= first.heldBytes
          signal.throwIfAborted()
        }
      }
      for (let first = ahead.shift(); first !== undefined; first = ahead.shift()) {
        const { bytes, release } = await first.made
        yield bytes
        release?.()
        signal.throwIfAborted()
      }
    } finally {
      signal.removeEventListener('abort', stop)
      this.#leave()
      // What nobody will see. Of what he has in hand who leaves early nobody knows when he is through.
      for (const { made } of ahead) made.then(({ release }) => release?.()).catch(() => {})
    }
  }

  async #make(item: Item): Promise<Made> {
    const { slabs } = this.#options
    const slab = await this.#ask<ArrayBuffer>({ is: 'make', ...rangeOf(item), slab: slabs.take() })
    return { bytes: new Uint8Array(slab, 0, item.lengthBytes), release: () => slabs.give(slab) }
  }

  #ask<Result>(what: Work): Promise<Result> {
    const { place, job, plan, laneFor } = this.#options
    const lane = laneFor()
    const key = this.#key
    if (!this.#lanes.has(lane)) {
      this.#lanes.add(lane)
      send(lane, { is: 'open', key, place, job, dataRuns: plan.dataRuns })
    }
    return new Promise<Result>((resolve, reject) => {
      this.#waiting.add(reject)
      askLane<Result>(lane, { ...what, key }, what.is === 'make' ? [what.slab] : [])
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

type Range = Pick<Item, 'offset' | 'lengthBytes'>
type Work = Range & ({ readonly is: 'make'; readonly slab: ArrayBuffer } | { readonly is: 'pack' | 'hash' })

const rangeOf = ({ offset, lengthBytes }: Range): Range => ({ offset, lengthBytes })

/** A thread that has ended tells so where bytes are waited for. */
function send(lane: Lane, ask: ExportAsk): void {
  lane.thread.ask(ask).catch(() => {})
}
