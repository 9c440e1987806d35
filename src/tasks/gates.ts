/** At most so many inside at once; the others wait in the order they came. */
export interface Gate {
  /** Resolves with the way out. Rejects if the signal is aborted while waiting. */
  enter(signal: AbortSignal): Promise<() => void>
}

/** `bytes`: reads or writes whole disks. `power`: makes, starts, stops machines. `none`: waits for others. */
export interface Gates {
  readonly bytes: Gate
  readonly power: Gate
  readonly none: Gate
}

export function createGate(places: number): Gate {
  let inside = 0
  const waiting = new Set<() => void>()
  const leave = () => {
    inside--
    const [next] = waiting
    if (next === undefined) return
    waiting.delete(next)
    next()
  }
  const once = () => {
    let left = false
    return () => {
      if (left) return
      left = true
      leave()
    }
  }
  return {
    async enter(signal) {
      signal.throwIfAborted()
      if (inside < places) {
        inside++
        return once()
      }
      await new Promise<void>((resolve, reject) => {
        const go = () => {
          inside++
          signal.removeEventListener('abort', stop)
          resolve()
        }
        const stop = () => {
          waiting.delete(go)
          reject(signal.reason)
        }
        waiting.add(go)
        signal.addEventListener('abort', stop, { once: true })
      })
      return once()
    },
  }
}

export function createGates(): Gates {
  return { bytes: createGate(2), power: createGate(4), none: createGate(Number.POSITIVE_INFINITY) }
}
