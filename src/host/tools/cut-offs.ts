import type { Fault } from '../../image/fault.ts'

/** Lets whoever stops or removes a machine end what is under way with it, rather than wait for it. */
export class CutOffs {
  readonly #open = new Map<string, Set<AbortController>>()

  /** `work` listens to its signal, also while it waits for its turn; the reason of the signal is the fault of `now`. */
  async during<T>(key: string, work: (cutOff: AbortSignal) => Promise<T>): Promise<T> {
    const cutOff = new AbortController()
    const open = this.#open.get(key) ?? new Set()
    this.#open.set(key, open.add(cutOff))
    try {
      return await work(cutOff.signal)
    } finally {
      open.delete(cutOff)
      if (open.size === 0) this.#open.delete(key)
    }
  }

  now(key: string, reason: Fault): void {
    for (const cutOff of this.#open.get(key) ?? []) cutOff.abort(reason)
  }
}
