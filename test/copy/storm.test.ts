import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { verifyAll, waitForTask } from '../../demo/steps.ts'
import { ServerRefusal } from '../../src/cli/failure.ts'
import { seededRandom } from '../../src/objects/failing.fixture.ts'
import { noise } from '../../src/store/disks.fixture.ts'
import type { ShownTask } from '../../src/wire/native/show.ts'
import { HOME } from '../e2e/failure-steps.ts'
import { REGIONS } from '../e2e/harness.ts'
import {
  assertNoOrphans,
  beginCopy,
  type Copied,
  type CopyPlace,
  call,
  collectAll,
  deleteImage,
  getTask,
  importDisk,
  listImages,
  newCopyPlace,
  retry,
} from './copy-place.ts'

const BATCH_COUNT = 20
const SOURCE_COUNT = 5
const CHUNK_BYTES = 64 * 1024
const ACTIONS_MAX = 5
const PAUSE_MS_MAX = 250

interface Source {
  readonly region: string
  readonly id: string
  readonly digest: string
}

/** What may be said of something that somebody else has ended, held or taken away at the same moment. */
async function mayBeRefused(work: Promise<unknown>, refusals: Map<string, number>): Promise<void> {
  try {
    await work
  } catch (error) {
    if (!(error instanceof ServerRefusal) || !['conflict', 'absent'].includes(error.kind)) throw error
    refusals.set(error.kind, (refusals.get(error.kind) ?? 0) + 1)
  }
}

/** Images that have most of their bytes in common, some of them in each region. */
async function makeSources(place: CopyPlace, pick: (countMax: number) => number): Promise<Source[]> {
  const sources: Source[] = []
  for (let i = 0; i < SOURCE_COUNT; i++) {
    const seeds = Array.from({ length: 16 + pick(24) }, (_, j) =>
      pick(4) === 0 ? 1001 + 100 * i + j : 1 + j,
    )
    const image = await importDisk(
      place,
      `source-${i}`,
      Buffer.concat(seeds.map((seed) => noise(CHUNK_BYTES, seed))),
    )
    assert(image.digest !== null)
    sources.push({ region: HOME, id: image.id, digest: image.digest })
    const region = REGIONS[1 + (i % 3)] as string
    const made = await beginCopy(place, image.id, { targetRegions: [region], name: `source-${i}` })
    assert.equal((await waitForTask(place.server, made.taskId)).state, 'done')
    sources.push({ region, id: made.copies[0]?.imageId ?? '', digest: image.digest })
  }
  return sources
}

const listTasks = async (place: CopyPlace, query: object): Promise<readonly ShownTask[]> =>
  (await call<{ tasks: ShownTask[] }>(place, 'GET', '/v1/tasks', { query: { limit: 500, ...query } })).tasks

/** Lets go on what is held, until nothing is under way. */
async function settle(place: CopyPlace): Promise<void> {
  for (;;) {
    const [first, ...others] = await listTasks(place, { live: true })
    if (first === undefined) return
    for (const task of [first, ...others]) {
      const go = { body: { paused: false } }
      if (task.state === 'paused')
        await mayBeRefused(call(place, 'PATCH', `/v1/tasks/${task.id}`, go), new Map())
    }
    await call(place, 'GET', `/v1/tasks/${first.id}`, { query: { waitMs: 500 } })
  }
}

test(`${BATCH_COUNT} batches at once over four regions, cancelled, held, retried and deleted at random, leave what they should`, async (t) => {
  const seed = Math.floor(Math.random() * 2 ** 31)
  t.diagnostic(`seed ${seed}`)
  const random = seededRandom(seed)
  const pick = (countMax: number) => Math.floor(random() * countMax)
  const place = await newCopyPlace(t, { CALOTYPE_COPIES_ATTEMPTS: '3' })
  const sources = await makeSources(place, pick)
  const digests = new Map<string, string>()
  const counts = new Map<string, number>()
  const refusals = new Map<string, number>()

  const change = (id: string, body: object) => call(place, 'PATCH', `/v1/tasks/${id}`, { body })
  const actions: Readonly<Record<string, (made: Copied, source: Source) => Promise<unknown>>> = {
    hold: ({ taskId }) => change(taskId, { paused: true }),
    'let go on': ({ taskId }) => change(taskId, { paused: false }),
    'hold one': ({ copies }) => change(copies[pick(copies.length)]?.taskId ?? '', { paused: true }),
    hurry: ({ taskId }) => change(taskId, { priority: pick(10) }),
    cancel: ({ taskId }) => call(place, 'DELETE', `/v1/tasks/${taskId}`),
    'cancel one': ({ copies }) =>
      call(place, 'DELETE', `/v1/tasks/${copies[pick(copies.length)]?.taskId ?? ''}`),
    'retry what has ended': async ({ taskId }) => {
      const task = await getTask(place, taskId)
      if (task.endedAtMs !== null && task.state !== 'done') await retry(place, taskId)
    },
    'delete the source': (_made, { region, id }) => deleteImage(place, region, id),
    'delete one': ({ copies }) => {
      const copy = copies[pick(copies.length)]
      return deleteImage(place, copy?.region ?? '', copy?.imageId ?? '')
    },
    collect: () => collectAll(place),
  }
  const names = Object.keys(actions)

  const batch = async (index: number) => {
    await delay(pick(PAUSE_MS_MAX))
    const source = sources[pick(sources.length)]
    assert(source !== undefined)
    const targetRegions = REGIONS.filter((region) => region !== source.region && pick(3) > 0)
    if (targetRegions.length === 0)
      targetRegions.push(REGIONS.find((region) => region !== source.region) ?? 'hk')
    const slow = pick(3) > 0 ? { bytesPerSecond: 300_000 + pick(3_000_000) } : {}
    const wish = { region: source.region, targetRegions, name: `batch-${index}`, priority: pick(10), ...slow }
    const made = await beginCopy(place, source.id, wish)
    for (const { imageId } of made.copies) digests.set(imageId, source.digest)
    for (let left = pick(ACTIONS_MAX + 1); left > 0; left--) {
      await delay(pick(PAUSE_MS_MAX))
      // A source goes seldom, or there would soon be none.
      const drawn = names[pick(names.length)] ?? 'hold'
      const name = drawn === 'delete the source' && pick(3) > 0 ? 'hold' : drawn
      counts.set(name, (counts.get(name) ?? 0) + 1)
      await mayBeRefused(actions[name]?.(made, source) ?? Promise.resolve(), refusals)
    }
  }
  await Promise.all(Array.from({ length: BATCH_COUNT }, (_, i) => mayBeRefused(batch(i), refusals)))
  await settle(place)
  t.diagnostic(`done: ${JSON.stringify([...counts])}; refused: ${JSON.stringify([...refusals])}`)

  let dataBytes = 0
  const ends = new Map<string, number>()
  for (const region of REGIONS) {
    for (const image of await listImages(place, region)) {
      ends.set(image.state, (ends.get(image.state) ?? 0) + 1)
      assert.notEqual(image.state, 'creating', `${image.id} is made by nobody (seed ${seed})`)
      const digest = digests.get(image.id)
      if (image.state === 'available' && digest !== undefined) assert.equal(image.digest, digest)
      if (image.state === 'available') dataBytes += image.dataBytes
      if (image.state === 'failed') assert.notEqual(image.reason, null)
    }
  }
  for (const task of await listTasks(place, {})) {
    assert.ok(
      task.doneBytes <= task.totalBytes,
      `${task.id} has done more than there is to do (seed ${seed})`,
    )
  }
  t.diagnostic(`images: ${JSON.stringify([...ends])}`)
  await verifyAll(place.server)
  await assertNoOrphans(place)
  const { projects } = await call<{ projects: { isDefault: boolean; chargedBytes: number }[] }>(
    place,
    'GET',
    '/v1/projects',
  )
  assert.equal(projects.find(({ isDefault }) => isDefault)?.chargedBytes, dataBytes, `seed ${seed}`)
})
