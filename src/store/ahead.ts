/** The same items; the next one is under way while the reader works on the one before. */
export async function* ahead<Item>(items: AsyncGenerator<Item>): AsyncGenerator<Item> {
  let next = items.next()
  // Awaited in its turn; until then a failure must not count as unhandled.
  next.catch(() => {})
  try {
    for (let got = await next; got.done !== true; got = await next) {
      next = items.next()
      next.catch(() => {})
      yield got.value
    }
  } finally {
    // Nothing runs on behind the reader's back.
    await next.catch(() => {})
    await items.return(undefined)
  }
}
