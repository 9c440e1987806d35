import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as eventLoopTurn } from 'node:timers/promises'
import type { PackId } from '../image/ids.ts'
import type { ObjectStore } from '../objects/contract.ts'
import { noise } from './disks.fixture.ts'
import { hashOfName } from './names.ts'
import { readPackContent } from './pack.ts'
import { PackWriter } from './pack-writer.ts'
import { memoryRegion, objectNames, TEST_DOMAIN, withRegions } from './region.fixture.ts'

const CHUNK_BYTES = 20_000

/** Lets the puts of `objects` wait from `close` on until `open`. */
function gateOf(objects: ObjectStore) {
  const put = objects.put.bind(objects)
  let opened: Promise<void> | undefined
  const gate = {
    putCount: 0,
    open: () => {},
    close() {
      const { promise, resolve } = Promise.withResolvers<void>()
      opened = promise
      gate.open = resolve
    },
  }
  objects.put = async (...args) => {
    gate.putCount++
    await opened
    return put(...args)
  }
  return gate
}

// A pack ends after 15 of these chunks. How many are begun in the second buffer when the first one becomes free decides
// whether they are moved to it.
for (const begunCount of [0, 1, 3, 4, 9, 14, 15]) {
  test(`every chunk is in one pack, with ${begunCount} begun while the pack before is written`, async () => {
    await withRegions([memoryRegion], async (region) => {
      const gate = gateOf(region.objects)
      await region.store.openSession('s1', TEST_DOMAIN)
      const writer = new PackWriter({
        region: region.store,
        sessionId: 's1',
        domain: TEST_DOMAIN,
        chunkBytes: CHUNK_BYTES,
      })
      const chunks = new Map<string, Buffer>()
      const add = () => {
        const bytes = noise(CHUNK_BYTES, 100 + chunks.size)
        const id = Buffer.alloc(32, chunks.size + 1)
        chunks.set(id.toString('hex'), bytes)
        return writer.add(id, bytes.length, (target, offset) => bytes.copy(target, offset))
      }
      gate.close()
      while (gate.putCount === 0) {
        await add()
        await eventLoopTurn()
      }
      let waiting: Promise<void> | undefined
      for (let i = 0; i < begunCount; i++) {
        assert.equal(waiting, undefined, 'there is room in the second buffer')
        waiting = add()
      }
      assert.equal(waiting !== undefined, begunCount === 15)
      gate.open()
      await waiting
      while (writer.durableBytes === 0) await eventLoopTurn()
      for (let i = 0; i < 40; i++) await add()
      await writer.finish()

      const found = new Map<string, Buffer>()
      for (const name of await objectNames(region.objects)) {
        if (!name.startsWith('packs/')) continue
        const { entries } = await readPackContent(region.objects, hashOfName(name as never) as PackId)
        for (const { id, offset, storedBytes } of entries) {
          assert.ok(!found.has(id.toString('hex')))
          found.set(id.toString('hex'), await region.objects.get(name as never, offset, storedBytes))
        }
      }
      assert.deepEqual(found, chunks)
    })
  })
}
