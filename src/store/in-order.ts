import assert from 'node:assert/strict'

/**
 * Runs `run` on up to `countMax` items at once and yields the results in the order of the items. When one fails, or
 * the reader stops early, the others are awaited before this ends, so nothing runs on behind the caller's back.
 */
export async function* inOrder<Item, Result>(
  items: Iterable<Item> | AsyncIterable<Item>,
  countMax: number,
  run: (item: Item) => Promise<Result>,
): AsyncGenerator<[Item, Result]> {
  assert(countMax >= 1)
  const running: [Item, Promise<Result>][] = []
  try {
    for await (const item of items) {
      const result = run(item)
      // The failure is seen when its turn comes; until then it is not an unhandled one.
      result.catch(() => {})
      running.push([item, result])
      if (running.length < countMax) continue
      const first = running.shift()
      if (first !== undefined) yield [first[0], await first[1]]
    }
    for (let first = running.shift(); first !== undefined; first = running.shift()) {
      yield [first[0], await first[1]]
    }
  } finally {
    await Promise.allSettled(running.map(([, result]) => result))
  }
}
