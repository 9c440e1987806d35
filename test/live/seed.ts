import type { TestContext } from 'node:test'

/** A new one for each run, printed; CALOTYPE_TEST_SEED gives one again. */
export function newSeed(t: TestContext): number {
  const seed = Number(process.env.CALOTYPE_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31))
  t.diagnostic(`seed ${seed}`)
  return seed
}
