/** The place of a unit that is not in the file: it reads as zeroes. */
export const NOWHERE = -1

/** A run of the disk: its bytes follow each other in the file from `place` on, or are zeroes. */
export interface FileRun {
  readonly lengthBytes: number
  readonly place: number | undefined
}

/** Runs as they are found, the last one still growing. */
export class Runs {
  readonly #runs: FileRun[] = []
  #lengthBytes = 0
  #place = NOWHERE

  add(lengthBytes: number, place: number): void {
    const follows = this.#place === NOWHERE ? place === NOWHERE : place === this.#place + this.#lengthBytes
    if (follows) {
      this.#lengthBytes += lengthBytes
      return
    }
    this.#push()
    this.#lengthBytes = lengthBytes
    this.#place = place
  }

  end(): readonly FileRun[] {
    this.#push()
    return this.#runs
  }

  #push(): void {
    if (this.#lengthBytes === 0) return
    const place = this.#place === NOWHERE ? undefined : this.#place
    this.#runs.push({ lengthBytes: this.#lengthBytes, place })
  }
}
