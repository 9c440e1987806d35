/** At most so many inside at once; the others wait in the order they came. */
export interface Gate {
  /** Resolves with the way out. Rejects if the signal is aborted while waiting. `who`: the project that asks. */
  enter(signal: AbortSignal, who?: string): Promise<() => void>
}

/**
 * `bytes`: reads or writes whole disks. `fetches`: takes in what others send, which takes as long as they like; so no
 * project has all of its places. `files`: tells what a file is, in seconds. `power`: makes, starts, stops machines. `none`:
 * waits for others, or enters other gates for what it does itself.
 */
export interface Gates {
  /** Reads whole images for nothing but a digest: never in the way of anything else. */
  readonly digests: Gate
  readonly fetches: Gate
  readonly files: Gate
  readonly bytes: Gate
  readonly power: Gate
  readonly none: Gate
}

/** `placesEach`: of them for one project; its others wait, and those of other projects go past them. */
export function createGate(places: number, placesEach = Number.POSITIVE_INFINITY): Gate {
  let inside = 0
  const insideEach = new Map<string, number>()
  const waiting = new Set<{ readonly who: string; readonly go: () => void }>()

  const hasPlace = (who: string) => inside < places && (insideEach.get(who) ?? 0) < placesEach
  const count = (who: string, by: 1 | -1) => {
    inside += by
    const each = (insideEach.get(who) ?? 0) + by
    if (each === 0) insideEach.delete(who)
    else insideEach.set(who, each)
  }
  /** The first one that may. */
  const letIn = () => {
    for (const next of waiting) {
      if (!hasPlace(next.who)) continue
      waiting.delete(next)
      next.go()
      return
    }
  }
  const wayOut = (who: string) => {
    let left = false
    return () => {
      if (left) return
      left = true
      count(who, -1)
      letIn()
    }
  }
  return {
    async enter(signal, who = '') {
      signal.throwIfAborted()
      if (hasPlace(who)) {
        count(who, 1)
        return wayOut(who)
      }
      await new Promise<void>((resolve, reject) => {
        const go = () => {
          count(who, 1)
          signal.removeEventListener('abort', stop)
          resolve()
        }
        const one = { who, go }
        const stop = () => {
          waiting.delete(one)
          reject(signal.reason)
        }
        waiting.add(one)
        signal.addEventListener('abort', stop, { once: true })
      })
      return wayOut(who)
    },
  }
}

export function createGates(): Gates {
  return {
    digests: createGate(1),
    bytes: createGate(2),
    fetches: createGate(16, 4),
    files: createGate(16),
    power: createGate(4),
    none: createGate(Number.POSITIVE_INFINITY),
  }
}
