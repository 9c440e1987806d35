interface Sample {
  readonly atMs: number
  readonly doneBytes: number
  readonly movedBytes: number
}

const WINDOW_MS = 10_000

/**
 * Bytes a second over the last ten seconds, of the bytes moved where those rise, else of those done; null until there is something
 * to measure. What falls, or a clock that was set back, begins it anew. Where nothing was told for longer than that, it goes
 * back to what was told last.
 */
export class Rate {
  #samples: Sample[] = []

  add(sample: Sample): number | null {
    const last = this.#samples.at(-1)
    if (
      last !== undefined &&
      (sample.atMs < last.atMs || sample.doneBytes < last.doneBytes || sample.movedBytes < last.movedBytes)
    ) {
      this.#samples = []
    }
    this.#samples.push(sample)
    while ((this.#samples[1]?.atMs ?? sample.atMs) < sample.atMs - WINDOW_MS) this.#samples.shift()
    const first = this.#samples[0] ?? sample
    const elapsedMs = sample.atMs - first.atMs
    if (elapsedMs === 0) return null
    const movedBytes = sample.movedBytes - first.movedBytes
    const bytes = movedBytes > 0 ? movedBytes : sample.doneBytes - first.doneBytes
    return Math.round((bytes * 1000) / elapsedMs)
  }
}
