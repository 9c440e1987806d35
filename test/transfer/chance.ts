import { randomInt } from 'node:crypto'
import type { TestContext } from 'node:test'

export interface Chance {
  /** A whole number below `end`. */
  (end: number): number
  bytes(count: number): Buffer
}

/** Numbers that follow from a seed, which the test prints; `TRANSFER_SEED` makes them the same again. */
export function seeded(t: TestContext): Chance {
  const seed = Number(process.env.TRANSFER_SEED ?? randomInt(2 ** 31))
  t.diagnostic(`seed: TRANSFER_SEED=${seed}`)
  let state = seed >>> 0
  // Mulberry32: plenty for choosing places, and noise that nothing compresses.
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return (mixed ^ (mixed >>> 14)) >>> 0
  }
  return Object.assign((end: number) => Math.floor((next() / 2 ** 32) * end), {
    bytes(count: number) {
      const words = new Uint32Array(Math.ceil(count / 4))
      for (let i = 0; i < words.length; i++) words[i] = next()
      return Buffer.from(words.buffer, 0, count)
    },
  })
}
