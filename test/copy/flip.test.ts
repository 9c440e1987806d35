import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isFault } from '../../src/image/fault.ts'
import type { ObjectStore } from '../../src/objects/contract.ts'
import { seededRandom } from '../../src/objects/failing.fixture.ts'
import type { ObjectName } from '../../src/objects/names.ts'
import { assertHolds, captureDisks } from '../../src/store/disks.fixture.ts'
import { hashOfName } from '../../src/store/names.ts'
import { type PullOptions, pullImage } from '../../src/store/pull.ts'
import {
  memoryRegion,
  objectNames,
  TEST_DOMAIN,
  type TestRegion,
  withRegions,
} from '../../src/store/region.fixture.ts'
import { verifyRegion } from '../../src/store/verify.ts'
import { diskOf, RANGE_BYTES } from './kill-world.ts'

const DISKS = [diskOf(Array.from({ length: 18 }, (_, i) => 1 + 2 * i)), diskOf([0, 2, 4, 6])]
const limits = { rangeBytesMax: RANGE_BYTES }
const KINDS = ['packs', 'pages', 'images', 'signatures']

/** Reads with one bit that is wrong, where it is asked to be. */
class FlippingObjects implements ObjectStore {
  readonly #inner: ObjectStore
  readonly #random: () => number
  /** Asked for each read, counted from 0. */
  isBad: (name: ObjectName, count: number) => boolean = () => false
  readonly bad = new Set<ObjectName>()
  count = 0

  constructor(inner: ObjectStore, random: () => number) {
    this.#inner = inner
    this.#random = random
  }

  get traits() {
    return this.#inner.traits
  }
  put: ObjectStore['put'] = (...wish) => this.#inner.put(...wish)
  size: ObjectStore['size'] = (...wish) => this.#inner.size(...wish)
  list: ObjectStore['list'] = (...wish) => this.#inner.list(...wish)
  remove: ObjectStore['remove'] = (...wish) => this.#inner.remove(...wish)

  get: ObjectStore['get'] = async (name, ...where) => {
    const bytes = Buffer.from(await this.#inner.get(name, ...where))
    if (!this.isBad(name, this.count++)) return bytes
    this.bad.add(name)
    const at = Math.floor(this.#random() * bytes.length)
    bytes[at] = (bytes[at] ?? 0) ^ (1 << Math.floor(this.#random() * 8))
    return bytes
  }
}

async function withFlips(
  seed: number,
  body: (source: TestRegion, target: TestRegion, flips: FlippingObjects) => Promise<void>,
): Promise<void> {
  await withRegions([memoryRegion, memoryRegion], async (source, target) => {
    const flips = new FlippingObjects(source.objects, seededRandom(seed))
    await source.reopen(flips)
    await body(source, target, flips)
  })
}

const capture = async (region: TestRegion) =>
  (await captureDisks({ region: region.store, sessionId: 's', domain: TEST_DOMAIN, disks: DISKS })).digest

for (const options of [
  { check: 'whole', takesPacks: false },
  { check: 'seal', takesPacks: false },
  { check: 'seal', takesPacks: true },
] satisfies Partial<PullOptions>[]) {
  const how = `${options.check}${options.takesPacks ? ', packs as they are' : ''}`

  test(`whichever answer of the source has a wrong bit once, no bad image comes of it (${how})`, async (t) => {
    const seed = Math.floor(Math.random() * 2 ** 31)
    t.diagnostic(`seed ${seed}`)
    const ends = new Map<string, number>()
    let n = 0
    for (let isOver = false; !isOver; n++) {
      await withFlips(seed + n, async (source, target, flips) => {
        const digest = await capture(source)
        const told = `seed ${seed}, read ${n}`
        flips.count = 0
        flips.isBad = (_name, count) => count === n
        const pull = () =>
          pullImage({
            ...options,
            limits,
            source: source.store,
            target: target.store,
            digest,
            sessionId: 'p',
          })
        const fault = await pull().then(
          () => undefined,
          (error: unknown) => error,
        )
        isOver = flips.bad.size === 0
        const [name = 'none'] = flips.bad
        const kind = name.split('/')[0] ?? ''
        if (fault !== undefined) {
          assert.ok(isFault(fault, 'corrupt'), new Error(`${told} of ${name}`, { cause: fault }))
          assert.notEqual(kind, 'packs', `${told}: what is wrong on the way is read again`)
          await target.store.abortSession('p')
          assert.deepEqual(await objectNames(target.objects), [], told)
          await pull()
        }
        ends.set(`${kind} ${fault === undefined}`, (ends.get(`${kind} ${fault === undefined}`) ?? 0) + 1)
        await assertHolds(target.store, digest, DISKS)
        assert.deepEqual((await verifyRegion({ region: target.store, deep: true })).problems, [], told)
        assert.deepEqual(target.store.listSessions(), [], told)
      })
    }
    t.diagnostic(`ends by kind of object, and whether the copy went on: ${JSON.stringify([...ends])}`)
    assert.ok((ends.get('packs true') ?? 0) > 1)
  })

  test(`an object that is wrong at the source is named, and nothing is left (${how})`, async (t) => {
    const seed = Math.floor(Math.random() * 2 ** 31)
    t.diagnostic(`seed ${seed}`)
    for (const kind of KINDS) {
      await withFlips(seed, async (source, target, flips) => {
        const digest = await capture(source)
        flips.isBad = (name) => name.startsWith(`${kind}/`) && (flips.bad.size === 0 || flips.bad.has(name))
        const pull = () =>
          pullImage({
            ...options,
            limits,
            source: source.store,
            target: target.store,
            digest,
            sessionId: 'p',
          })
        await assert.rejects(pull(), (error) => {
          assert.ok(isFault(error, 'corrupt'), new Error(kind, { cause: error }))
          const [bad] = flips.bad
          assert(bad !== undefined)
          const id = kind === 'images' ? digest : hashOfName(bad)
          assert.ok(error.message.includes(id), `'${error.message}' names ${bad}`)
          return true
        })
        await target.store.abortSession('p')
        assert.deepEqual(await objectNames(target.objects), [])
        flips.isBad = () => false
        await pull()
        await assertHolds(target.store, digest, DISKS)
        assert.deepEqual((await verifyRegion({ region: target.store, deep: true })).problems, [])
      })
    }
  })
}
