import { Fault } from '../image/fault.ts'

/** What the other side is waited for, in all, until it is looked at how much came. */
const LOOK_MS = 2 * 60 * 1000
const PACE_BYTES_PER_SECOND_MIN = 16 * 1024
/** No timer waits longer. */
const TIMER_MS_MAX = 2 ** 31 - 1
const SLOW = 'slow'

/**
 * The pieces of a body, as long as they bring at least 16 KiB in a second over two minutes of waiting for them; what whoever
 * takes them needs for it does not count. Else Fault 'unavailable' 'file', which `isSlow` tells from others.
 */
export async function* steady(
  body: AsyncIterable<Uint8Array>,
  clock: () => number,
): AsyncGenerator<Uint8Array> {
  let waitedMs = 0
  let cameBytes = 0
  let askedMs = clock()
  for await (const piece of body) {
    waitedMs += clock() - askedMs
    cameBytes += piece.length
    yield piece
    if (waitedMs >= LOOK_MS) {
      if (cameBytes * 1000 < PACE_BYTES_PER_SECOND_MIN * waitedMs) {
        const message = 'The server sends less than 16 KiB in a second. Try again later, or from elsewhere.'
        throw new Fault('unavailable', message, { subject: 'file', reason: SLOW })
      }
      waitedMs = 0
      cameBytes = 0
    }
    askedMs = clock()
  }
}

export const isSlow = (error: unknown): boolean => error instanceof Fault && error.reason === SLOW

/** `outer` until then, and from then on aborted with what `late` makes. To be ended by who made it. */
export function signalUntil(
  outer: AbortSignal,
  leftMs: number,
  late: () => Fault,
): { readonly signal: AbortSignal; end(): void } {
  const over = new AbortController()
  const timer = setTimeout(() => over.abort(late()), Math.min(Math.max(0, leftMs), TIMER_MS_MAX))
  return { signal: AbortSignal.any([outer, over.signal]), end: () => clearTimeout(timer) }
}
