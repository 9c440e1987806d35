import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { assertFrugal, assertWhole, Deaths, NEVER, withStory } from './kill-deaths.ts'
import { type Death, type Order, openStore, type Word } from './kill-world.ts'

const KILLS_EACH_MAX = 3

// How many packs a kill may cost: one; where packs are taken whole, three of these beside. Source: docs/copies.md, "A copy's life".
for (const [name, takesPacks, count, packCount] of [
  ['in pieces', false, 13, 1],
  ['in whole packs', true, 12, 4],
] as const) {
  test(`the target's process is killed ${count} times during copies ${name}; the copies come out whole`, async (t) => {
    const seed = Math.floor(Math.random() * 2 ** 31)
    t.diagnostic(`seed ${seed}`)
    const deaths = new Deaths(seed)
    let known = 60
    let storyCount = 0
    let midCount = 0
    try {
      while (deaths.killCount < count) {
        await withStory(deaths, 8 * deaths.pick(3), async (story) => {
          const { folder, digest } = story
          const killsMax = 1 + deaths.pick(KILLS_EACH_MAX)
          const orders: Death[] = []
          let askedBytes = 0
          let isDone = false
          for (let killed = 0; !isDone; killed = orders.length) {
            const death = killed < killsMax ? deaths.draw(known) : NEVER
            orders.push(death)
            const notePath = join(folder, `note-${orders.length}`)
            const child = await deaths.take()
            child.once('message', (word: Word) => {
              if (word.is === 'done' && orders.length === 1) known = word.callCount
            })
            child.send({ is: 'pull', folder, digest, death, takesPacks, notePath } satisfies Order)
            const [code, signal] = await once(child, 'exit')
            assert(
              signal === 'SIGKILL' || code === 0,
              `seed ${seed}: fails by itself: ${JSON.stringify(orders)}`,
            )
            isDone = code === 0
            const bytes = Number(await readFile(notePath, 'utf8').catch(() => '0'))
            askedBytes += bytes
            if (!isDone) deaths.killCount++
            if (!isDone && bytes > 0) midCount++
          }
          const told = `seed ${seed}, story ${++storyCount}: ${JSON.stringify(orders)}`
          const target = await openStore(folder, 'target', { clean: true })
          try {
            await assertWhole(target, story, told)
          } finally {
            target.close()
          }
          assertFrugal(askedBytes, story, orders.length - 1, packCount, told)
        })
      }
    } finally {
      await deaths.dispose()
    }
    t.diagnostic(`${deaths.killCount} kills in ${storyCount} copies, ${midCount} once bytes were read`)
    assert.ok(midCount > 0)
  })
}
