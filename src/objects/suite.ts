import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isFault } from '../image/fault.ts'
import type { ObjectStore } from './contract.ts'
import { parseObjectName } from './names.ts'

/** A new, empty store, a second view of the same bytes, and what takes it away. */
export interface ObjectStoreFixture {
  readonly objects: ObjectStore
  /** What another thread or process would see. */
  readonly again: () => Promise<ObjectStore>
  readonly dispose: () => Promise<void>
}

const text = (bytes: Uint8Array) => Buffer.from(bytes).toString('latin1')

async function names(objects: ObjectStore, prefix: string): Promise<string[]> {
  return (await Array.fromAsync(objects.list(prefix))).sort()
}

/** What every ObjectStore does. */
export function objectStoreSuite(what: string, make: () => Promise<ObjectStoreFixture>): void {
  const check = (title: string, body: (fixture: ObjectStoreFixture) => Promise<void>) =>
    test(`${what}: ${title}`, async () => {
      const fixture = await make()
      try {
        await body(fixture)
      } finally {
        await fixture.dispose()
      }
    })
  const name = parseObjectName('packs/ab/abcdef')

  check('what was put is read back, whole and in parts', async ({ objects, again }) => {
    assert.equal(await objects.put(name, Buffer.from('hello world')), 'stored')
    assert.equal(text(await objects.get(name, 0, 11)), 'hello world')
    assert.equal(text(await objects.get(name, 6, 3)), 'wor')
    assert.equal((await objects.get(name, 11, 0)).length, 0)
    assert.equal(await objects.size(name), 11)
    assert.equal(text(await (await again()).get(name, 0, 5)), 'hello')
  })

  check('a second put changes nothing', async ({ objects, again }) => {
    await objects.put(name, Buffer.from('first'))
    assert.equal(await objects.put(name, Buffer.from('second')), 'present')
    assert.equal(await (await again()).put(name, Buffer.from('third')), 'present')
    assert.equal(text(await objects.get(name, 0, 5)), 'first')
  })

  check('of many writers of one name exactly one stores', async ({ objects }) => {
    const bytes = Buffer.alloc(300_000, 7)
    const answers = await Promise.all(Array.from({ length: 8 }, () => objects.put(name, bytes)))
    assert.equal(answers.filter((answer) => answer === 'stored').length, 1)
    assert.ok((await objects.get(name, 0, bytes.length)).equals(bytes))
  })

  check('the bytes of a put belong to the caller again when it resolves', async ({ objects }) => {
    const bytes = Buffer.from(new SharedArrayBuffer(4))
    bytes.write('keep')
    await objects.put(name, bytes)
    bytes.fill(0)
    assert.equal(text(await objects.get(name, 0, 4)), 'keep')
  })

  check('absent and short objects are told apart', async ({ objects }) => {
    assert.equal(await objects.size(name), undefined)
    await assert.rejects(objects.get(name, 0, 1), (error) => isFault(error, 'absent'))
    await objects.put(name, Buffer.from('abc'))
    await assert.rejects(objects.get(name, 1, 3), (error) => isFault(error, 'corrupt'))
  })

  check('list finds by prefix, also inside the last part', async ({ objects }) => {
    for (const one of ['packs/aa/aa1', 'packs/ab/ab1', 'packs/ab/ab2', 'images/ab1', 'keys/public']) {
      await objects.put(parseObjectName(one), Buffer.from(one))
    }
    assert.deepEqual(await names(objects, 'packs/'), ['packs/aa/aa1', 'packs/ab/ab1', 'packs/ab/ab2'])
    assert.deepEqual(await names(objects, 'packs/a'), ['packs/aa/aa1', 'packs/ab/ab1', 'packs/ab/ab2'])
    assert.deepEqual(await names(objects, 'packs/ab/ab2'), ['packs/ab/ab2'])
    assert.deepEqual(await names(objects, 'image'), ['images/ab1'])
    assert.deepEqual(await names(objects, 'pages/'), [])
    assert.equal((await names(objects, '')).length, 5)
  })

  check('remove takes the object away and may run twice', async ({ objects }) => {
    await objects.put(name, Buffer.from('abc'))
    await objects.remove(name)
    await objects.remove(name)
    assert.equal(await objects.size(name), undefined)
    assert.deepEqual(await names(objects, ''), [])
    assert.equal(await objects.put(name, Buffer.from('new')), 'stored')
    assert.equal(text(await objects.get(name, 0, 3)), 'new')
  })

  check('an aborted put leaves the whole object or nothing', async ({ objects }) => {
    const bytes = Buffer.alloc(20 * 1024 * 1024, 3)
    const abort = new AbortController()
    const put = objects.put(name, bytes, abort.signal)
    abort.abort()
    const failed = await put.then(
      () => false,
      () => true,
    )
    assert.equal(await objects.size(name), failed ? undefined : bytes.length)
    await assert.rejects(objects.put(name, bytes, AbortSignal.abort()))
  })
}
