/** Lets so many at a time do something; the others wait, in the order of asking. */
export class Turns {
  #free: number
  readonly #waiting = new Set<() => void>()

  constructor(count: number) {
    this.#free = count
  }

  /** Resolves when it is the caller's turn, which ends when he calls the answer. Throws the signal's reason before that. */
  async take(signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted()
    if (this.#free > 0) this.#free--
    else await this.#queue(signal)
    return () => this.#give()
  }

  #give(): void {
    const [next] = this.#waiting
    if (next === undefined) {
      this.#free++
      return
    }
    this.#waiting.delete(next)
    next()
  }

  async #queue(signal: AbortSignal): Promise<void> {
    const turn = Promise.withResolvers<void>()
    const giveUp = () => {
      // Who has his turn already keeps it, and gives it back as if there had been no signal.
      this.#waiting.delete(turn.resolve)
      turn.reject(signal.reason)
    }
    this.#waiting.add(turn.resolve)
    signal.addEventListener('abort', giveUp, { once: true })
    await turn.promise.finally(() => signal.removeEventListener('abort', giveUp))
  }
}
