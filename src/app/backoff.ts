/** What was refused is asked again after 1, 2, 4 … 60 minutes. Kept in memory: after a restart all is asked once. */
export interface Backoff {
  /** Whether its time has not come yet. */
  isHeld(key: string): boolean
  /** It failed, `atMs` if not now. */
  fail(key: string, atMs?: number): void
  /** How often it has failed since it last went well. */
  countOf(key: string): number
  clear(key: string): void
  /** Forgets what nobody has asked about for long. */
  sweep(): void
}

const WAIT_MS = 60_000
const WAIT_MS_MAX = 60 * WAIT_MS
/** Longer than any wait, so that only what is no longer tried is forgotten. */
const FORGET_MS = 2 * WAIT_MS_MAX

export function createBackoff(clock: () => number): Backoff {
  const failed = new Map<string, { readonly count: number; readonly nextAtMs: number }>()
  return {
    isHeld: (key) => {
      const one = failed.get(key)
      if (one === undefined) return false
      // A clock that was set back keeps nothing waiting for longer than it ever would have.
      const leftMs = one.nextAtMs - clock()
      return leftMs > 0 && leftMs <= WAIT_MS_MAX
    },
    fail(key, atMs = clock()) {
      const count = (failed.get(key)?.count ?? 0) + 1
      failed.set(key, {
        count,
        nextAtMs: atMs + Math.min(WAIT_MS_MAX, WAIT_MS * 2 ** Math.min(count - 1, 10)),
      })
    },
    countOf: (key) => failed.get(key)?.count ?? 0,
    clear: (key) => void failed.delete(key),
    sweep() {
      for (const [key, { nextAtMs }] of failed) if (nextAtMs + FORGET_MS < clock()) failed.delete(key)
    },
  }
}
