/** Work under one key runs one after the other, in the order of asking; other keys do not wait. */
export class KeyedLock {
  readonly #tails = new Map<string, Promise<unknown>>()

  run<T>(key: string, work: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(key) ?? Promise.resolve()
    const result = before.then(work, work)
    const tail = result.then(
      () => {},
      () => {},
    )
    this.#tails.set(key, tail)
    tail.then(() => {
      if (this.#tails.get(key) === tail) this.#tails.delete(key)
    })
    return result
  }

  /** As `run`, for work that ends when the answer is called. Throws the signal's reason if that comes before the turn. */
  async take(key: string, signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted()
    const turn = Promise.withResolvers<void>()
    const end = Promise.withResolvers<void>()
    const giveUp = () => {
      turn.reject(signal.reason)
      end.resolve()
    }
    signal.addEventListener('abort', giveUp, { once: true })
    this.run(key, () => {
      turn.resolve()
      return end.promise
    })
    try {
      await turn.promise
      return end.resolve
    } finally {
      signal.removeEventListener('abort', giveUp)
    }
  }

  /** Waits for all work that was asked for. */
  async idle(): Promise<void> {
    while (this.#tails.size > 0) await Promise.all(this.#tails.values())
  }
}
