import type { Extent } from '../disk/contract.ts'
import type { Run } from '../volume/contract.ts'
import { DataMap } from './data-map.ts'

/** Asked for at once, and known or not known as one: a server answers for so much in a millisecond where little is there. */
export const STATUS_BYTES = 1024 * 1024 * 1024
/** So many questions are under way where a range goes on: the server and we work side by side. */
const AHEAD_COUNT = 4

/** What was done to a disk: [from, to) was written, or is zero. */
export interface Marked {
  readonly from: number
  readonly to: number
  readonly isData: boolean
}

interface Question {
  readonly answered: Promise<void>
  /** In the order of their doing: the answer may or may not have them in it. */
  readonly missed: Marked[]
}

/**
 * Which parts of a disk may hold data, asked of its server once for each window, however many ask for it at once, and kept
 * right by being told of every change.
 */
export class BlockStatus {
  readonly #sizeBytes: number
  readonly #ask: (offset: number, lengthBytes: number) => Promise<readonly Extent[]>
  readonly #underWay: (from: number, to: number) => readonly Marked[]
  readonly #map: DataMap
  readonly #questions = new Map<number, Question>()

  /** `underWay`: changes of a range that have begun and may not have ended, oldest first. */
  constructor(
    sizeBytes: number,
    ask: (offset: number, lengthBytes: number) => Promise<readonly Extent[]>,
    underWay: (from: number, to: number) => readonly Marked[],
    windowBytes: number,
  ) {
    this.#sizeBytes = sizeBytes
    this.#ask = ask
    this.#underWay = underWay
    this.#map = new DataMap(windowBytes)
  }

  /** The parts of a range that may hold data; each as it is when it comes. */
  async *runs(offset: number, lengthBytes: number): AsyncGenerator<Run> {
    const { windowBytes } = this.#map
    const end = offset + lengthBytes
    for (let at = offset; at < end; ) {
      const window = Math.floor(at / windowBytes)
      const next = Math.min(end, (window + 1) * windowBytes)
      // Again if it was forgotten meanwhile, for want of room.
      while (!this.#map.isKnown(window)) await this.#learn(window, Math.ceil(end / windowBytes))
      // All at once, as what the caller does next may change it.
      yield* [...this.#map.runs(window, at, next)]
      at = next
    }
  }

  /** The same of a range inside one window where it is known without asking, else undefined. */
  knownRuns(offset: number, lengthBytes: number): readonly Run[] | undefined {
    const window = Math.floor(offset / this.#map.windowBytes)
    if (!this.#map.isKnown(window)) return undefined
    return [...this.#map.runs(window, offset, offset + lengthBytes)]
  }

  mark(change: Marked): void {
    const { windowBytes } = this.#map
    for (const [window, { missed }] of this.#questions) {
      if (change.from < (window + 1) * windowBytes && window * windowBytes < change.to) missed.push(change)
    }
    this.#apply(change)
  }

  forget(): void {
    this.#questions.clear()
    this.#map.forget()
  }

  async #learn(window: number, windowEnd: number): Promise<void> {
    const last = Math.min(windowEnd, window + AHEAD_COUNT)
    for (let ahead = window + 1; ahead < last; ahead++) {
      // It fails again when it is needed, if it does.
      if (!this.#map.isKnown(ahead)) this.#question(ahead).answered.catch(() => {})
    }
    await this.#question(window).answered
  }

  #question(window: number): Question {
    const known = this.#questions.get(window)
    if (known !== undefined) return known
    const { windowBytes } = this.#map
    const from = window * windowBytes
    const to = Math.min(this.#sizeBytes, from + windowBytes)
    const missed = [...this.#underWay(from, to)]
    const answered = this.#ask(from, to - from).then(
      (extents) => {
        // Forgotten meanwhile: what it says is of another time.
        if (this.#questions.get(window) !== question) return
        this.#questions.delete(window)
        this.#map.learn(window, extents)
        for (const change of missed) this.#apply(change, window)
      },
      (error: unknown) => {
        if (this.#questions.get(window) === question) this.#questions.delete(window)
        throw error
      },
    )
    const question: Question = { answered, missed }
    this.#questions.set(window, question)
    return question
  }

  /** To all that is known, or to one window of it. */
  #apply({ from, to, isData }: Marked, window?: number): void {
    const { windowBytes } = this.#map
    const start = window === undefined ? from : Math.max(from, window * windowBytes)
    const end = window === undefined ? to : Math.min(to, (window + 1) * windowBytes)
    if (isData) this.#map.wrote(start, end)
    else this.#map.zeroed(start, end, end === this.#sizeBytes)
  }
}
