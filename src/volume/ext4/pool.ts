/** Runs tasks side by side, a few at a time: most of the time of each is waiting for the medium. */
export class Pool {
  readonly #countMax: number
  readonly #running = new Set<Promise<void>>()
  #failure: { readonly error: unknown } | undefined

  constructor(countMax: number) {
    this.#countMax = countMax
  }

  /** Resolves as soon as there is room for the task. Throws what an earlier one threw. Not to be called from inside a task. */
  async run(task: () => Promise<void>): Promise<void> {
    while (this.#running.size >= this.#countMax) await Promise.race(this.#running)
    this.#throwFailure()
    const running: Promise<void> = task()
      .catch((error: unknown) => {
        this.#failure ??= { error }
      })
      .finally(() => this.#running.delete(running))
    this.#running.add(running)
  }

  /** Resolves when every task is done. Throws what one of them threw. */
  async drain(): Promise<void> {
    await Promise.all(this.#running)
    this.#throwFailure()
  }

  /** Resolves when every task is done, however it went. */
  async settle(): Promise<void> {
    await Promise.all(this.#running)
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure.error
  }
}
