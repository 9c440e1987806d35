import type { Scrubbed } from '../contract.ts'

/** Kinds of places that scrubbing makes zero, as a report names them. */
export type Place =
  | 'free clusters'
  | 'lost clusters'
  | 'cluster ends'
  | 'file records'
  | 'directory indexes'
  | 'log'
  | 'shadow copy header'
  | 'behind the volume'

/** Counts what scrubbing does. */
export class Tally {
  readonly #places = new Map<Place, { count: number; bytes: number }>()

  /** Nothing is added for zero bytes: the tally of a second scrub is empty. */
  add(place: Place, bytes: number): void {
    if (bytes === 0) return
    const sum = this.#places.get(place) ?? { count: 0, bytes: 0 }
    sum.count += 1
    sum.bytes += bytes
    this.#places.set(place, sum)
  }

  result(): Scrubbed {
    return this.#places
  }
}

/** How many bytes differ between two of one length. */
export function countChanges(before: Buffer, after: Buffer): number {
  if (before.equals(after)) return 0
  let count = 0
  // Not with an iterator: this goes over every record that was ever deleted.
  for (let at = 0; at < after.length; at += 1) if (after[at] !== before[at]) count += 1
  return count
}

const ZEROES = Buffer.alloc(64 * 1024)

export function isZero(bytes: Buffer): boolean {
  for (let at = 0; at < bytes.length; at += ZEROES.length) {
    const lengthBytes = Math.min(ZEROES.length, bytes.length - at)
    if (bytes.compare(ZEROES, 0, lengthBytes, at, at + lengthBytes) !== 0) return false
  }
  return true
}
