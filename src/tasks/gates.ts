/** Of tasks: 0 to this, the higher first. */
export const PRIORITY_MAX = 9
/** Of a task of which nobody says one. */
export const PRIORITY_USUAL = 5

/** Who goes first of those that wait. */
export interface Order {
  /** Higher first. Asked at every choice, so that it may change while its task waits. */
  readonly priority: () => number
  /** Of one priority: the earlier first, and those without one last. */
  readonly deadlineAtMs?: number | undefined
  /** Then: the one whose source has the fewest inside. */
  readonly source?: string | undefined
  /** Then: who asked first. Numbers compared one by one, as a time and a place in one request. */
  readonly asked?: readonly [number, number] | undefined
}

/** At most so many inside at once; the others wait in their order, those alike in the order they came. */
export interface Gate {
  /** Resolves with the way out. Rejects if the signal is aborted while waiting. `who`: the project that asks. */
  enter(signal: AbortSignal, who?: string, order?: Order): Promise<() => void>
}

/**
 * `bytes`: reads or writes whole disks. `copies`: fetches what a region lacks of an image. `fetches`: takes in what others send,
 * which takes as long as they like; so no project has all of its places. `files`: tells what a file is, in seconds.
 * `power`: makes, starts, stops machines. `none`: waits for others, or enters other gates for what it does itself.
 */
export interface Gates {
  /** Reads whole images for nothing but a digest: never in the way of anything else. */
  readonly digests: Gate
  readonly fetches: Gate
  readonly files: Gate
  readonly bytes: Gate
  readonly copies: Gate
  readonly power: Gate
  readonly none: Gate
}

interface Asking {
  readonly who: string
  readonly order: Order
  readonly go: () => void
}

const PLAIN: Order = { priority: () => PRIORITY_USUAL }

/**
 * `placesEach`: of them for one project; its others wait, and those of other projects go past them. `isFair`: before their
 * order counts which project has the fewest inside, then which was let in longest ago, as an order is its project's own word.
 */
export function createGate(
  places: number,
  {
    placesEach = Number.POSITIVE_INFINITY,
    isFair = false,
  }: { readonly placesEach?: number; readonly isFair?: boolean } = {},
): Gate {
  let inside = 0
  const insideEach = new Map<string, number>()
  const insideBySource = new Map<string, number>()
  const waiting = new Set<Asking>()
  /** Of each project, when it was last let in, counted in all who were. */
  const turns = new Map<string, number>()
  let turnCount = 0

  const add = (to: Map<string, number>, key: string, by: 1 | -1) => {
    const count = (to.get(key) ?? 0) + by
    if (count === 0) to.delete(key)
    else to.set(key, count)
  }
  const hasPlace = (who: string) => inside < places && (insideEach.get(who) ?? 0) < placesEach
  const count = (who: string, { source }: Order, by: 1 | -1) => {
    inside += by
    add(insideEach, who, by)
    if (source !== undefined) add(insideBySource, source, by)
    if (isFair && by === 1) turns.set(who, ++turnCount)
  }
  /** Least first, compared number by number. */
  const rank = ({ who, order }: Asking) => [
    isFair ? (insideEach.get(who) ?? 0) : 0,
    isFair ? (turns.get(who) ?? 0) : 0,
    -order.priority(),
    order.deadlineAtMs ?? Number.POSITIVE_INFINITY,
    order.source === undefined ? 0 : (insideBySource.get(order.source) ?? 0),
    ...(order.asked ?? [0, 0]),
  ]
  const isBefore = (one: readonly number[], other: readonly number[]) => {
    const index = one.findIndex((number, at) => number !== other[at])
    return index !== -1 && (one[index] ?? 0) < (other[index] ?? 0)
  }
  /** The first in order of those that may. */
  const letIn = () => {
    let first: { readonly asking: Asking; readonly rank: readonly number[] } | undefined
    for (const asking of waiting) {
      if (!hasPlace(asking.who)) continue
      const its = rank(asking)
      if (first === undefined || isBefore(its, first.rank)) first = { asking, rank: its }
    }
    if (first === undefined) return
    waiting.delete(first.asking)
    first.asking.go()
  }
  const wayOut = (who: string, order: Order) => {
    let left = false
    return () => {
      if (left) return
      left = true
      count(who, order, -1)
      letIn()
    }
  }
  return {
    async enter(signal, who = '', order = PLAIN) {
      signal.throwIfAborted()
      if (hasPlace(who)) {
        count(who, order, 1)
        return wayOut(who, order)
      }
      await new Promise<void>((resolve, reject) => {
        const go = () => {
          count(who, order, 1)
          signal.removeEventListener('abort', stop)
          resolve()
        }
        const one = { who, order, go }
        const stop = () => {
          waiting.delete(one)
          reject(signal.reason)
        }
        waiting.add(one)
        signal.addEventListener('abort', stop, { once: true })
      })
      return wayOut(who, order)
    },
  }
}

export function createGates({ copies = 4 }: { readonly copies?: number } = {}): Gates {
  return {
    digests: createGate(1),
    bytes: createGate(2),
    copies: createGate(copies, { isFair: true }),
    fetches: createGate(16, { placesEach: 4 }),
    files: createGate(16),
    power: createGate(4),
    none: createGate(Number.POSITIVE_INFINITY),
  }
}
