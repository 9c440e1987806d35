import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import fc from 'fast-check'
import { Fault, isFault } from '../../src/image/fault.ts'
import { findId, spellId } from '../../src/image/ids.ts'
import { seededRandom } from '../../src/objects/failing.fixture.ts'
import { readPeerIdentity } from '../../src/peering.ts'
import { captureDisks } from '../../src/store/disks.fixture.ts'
import { pullImage } from '../../src/store/pull.ts'
import { memoryRegion, TEST_DOMAIN, withRegions } from '../../src/store/region.fixture.ts'
import type { ReadOnlyRegion } from '../../src/store/source.ts'
import type { ShownTask } from '../../src/wire/native/show.ts'
import { AWAY, HOME, until } from '../e2e/failure-steps.ts'
import {
  assertNoOrphans,
  beginCopy,
  type CopyPlace,
  call,
  getImage,
  getTask,
  importDisk,
  newCopyPlace,
} from './copy-place.ts'
import { diskOf, RANGE_BYTES } from './kill-world.ts'
import { openShakyWay, type ShakyWay } from './shaky-way.ts'

const OTHER = 'hk'
const MIB = 1024 ** 2

/** Two installations that know each other, with a way between them that breaks now and then. */
async function newPair(t: TestContext): Promise<{ near: CopyPlace; far: CopyPlace; way: ShakyWay }> {
  const way = await openShakyWay()
  t.after(() => way.close())
  const folder = await mkdtemp(join(tmpdir(), 'calo-pair-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  const [nearData, farData] = [await mkdtemp(join(tmpdir(), 'calo-')), await mkdtemp(join(tmpdir(), 'calo-'))]
  const start = async (
    name: string,
    data: string,
    peers: object,
    environment: Readonly<Record<string, string>>,
  ) => {
    const path = join(folder, `${name}.yaml`)
    // JSON is YAML.
    await writeFile(path, JSON.stringify({ peers }))
    const wrapper = () => ['sh', '-c', `exec "$@" --config ${path}`, 'sh']
    return newCopyPlace(t, environment, { data, wrapper })
  }
  const [nearIdentity, farIdentity] = [
    await readPeerIdentity({ data: nearData }),
    await readPeerIdentity({ data: farData }),
  ]
  const reader = { fingerprint: nearIdentity.fingerprint, projects: 'all' }
  const far = await start('far', farData, { earth: reader }, { CALOTYPE_PEERING_LISTEN: '127.0.0.1:0' })
  way.target = await until('its endpoint', async () => {
    const log = await readFile(join(farData, 'server.log'), 'utf8')
    const port = /"peering":"https:\/\/127\.0\.0\.1:(\d+)"/.exec(log)?.[1]
    return port === undefined ? undefined : Number(port)
  })
  const mars = { fingerprint: farIdentity.fingerprint, url: `https://127.0.0.1:${way.port}` }
  const near = await start('near', nearData, { mars }, {})
  return { near, far, way }
}

/** Looks through one door after the other, as long as the image is made; no answer is below the one before. */
async function watchImage(place: CopyPlace, project: string, region: string, imageId: string) {
  const seen: string[] = []
  let permille = 0
  let isAvailable = false
  const id = findId('image', imageId)
  assert(id !== undefined)
  const where = { Region: region, ProjectId: project, ImageId: spellId('image', id, 'uhost') }
  /** `unit`: of what the door counts in, in parts of a thousand. */
  const note = (door: string, shown: number, unit: number, state: boolean | undefined) => {
    seen.push(`${door} ${shown}`)
    assert.ok(shown >= Math.floor(permille / unit) * unit, `it falls: ${seen.slice(-6).join(', ')}`)
    assert.ok(shown <= 1000)
    if (isAvailable) assert.equal(shown, 1000, `it is available: ${seen.slice(-6).join(', ')}`)
    if (state !== undefined)
      assert.equal(shown === 1000, state, `1000 is available: ${seen.slice(-6).join(', ')}`)
    permille = Math.max(permille, shown)
    isAvailable ||= state === true
  }
  while (!isAvailable) {
    const { ProgressInfo } = (await place.server.uhost('GetImageCopyProgress', where)) as {
      ProgressInfo: string
    }
    assert.match(ProgressInfo, /^\d+\.\d\d$/)
    note('uhost', Math.round(Number(ProgressInfo) * 10), 1, undefined)
    const { ImageSet } = (await place.server.uhost('DescribeImage', where)) as {
      ImageSet: { State: string }[]
    }
    const state = ImageSet[0]?.State
    assert.ok(state === 'Making' || state === 'Copying' || state === 'Available', `${state}`)
    if (ProgressInfo === '100.00') assert.equal(state, 'Available')
    isAvailable ||= state === 'Available'
    const { Images } = (await place.server.wuying('DescribeImages', {
      RegionId: region,
      ImageId: [spellId('image', id, 'wuying')],
    })) as { Images: { Status: string; Progress: string }[] }
    const shown = Images[0]
    assert(shown !== undefined)
    note('wuying', Number.parseInt(shown.Progress, 10) * 10, 10, shown.Status === 'Available')
    const image = await getImage(place, region, imageId)
    note('native', image.progressPermille, 1, image.state === 'available')
  }
  return seen
}

/** Of a task, or of a batch: what is done never falls, and is all there is to do at its end. */
async function watchTask(
  place: CopyPlace,
  taskId: string,
): Promise<{ task: ShownTask; attemptCount: number }> {
  let before: ShownTask | undefined
  for (;;) {
    const task = await getTask(place, taskId)
    const told = `${JSON.stringify(before)} and then ${JSON.stringify(task)}`
    assert.ok(task.doneBytes <= task.totalBytes, told)
    if (before !== undefined) {
      assert.ok(task.doneBytes >= before.doneBytes, told)
      assert.ok(task.attemptCount >= before.attemptCount, told)
    }
    before = task
    if (task.endedAtMs === null) continue
    assert.equal(task.state, 'done', told)
    return { task, attemptCount: task.attemptCount }
  }
}

test('through every door progress rises only, and is whole only with Available, while the source breaks off', async (t) => {
  const seed = Math.floor(Math.random() * 2 ** 31)
  t.diagnostic(`seed ${seed}`)
  const random = seededRandom(seed)
  const { near, far, way } = await newPair(t)
  // Of several packs: what is done is counted when it is durable.
  const source = await importDisk(far, 'golden', randomBytes(40 * MIB))
  const { projects } = await call<{ projects: { id: string; isDefault: boolean }[] }>(
    near,
    'GET',
    '/v1/projects',
  )
  const project = projects.find(({ isDefault }) => isDefault)?.id ?? ''
  way.breaks.push(...Array.from({ length: 3 }, () => Math.round((6 + 8 * random()) * MIB)))
  t.diagnostic(`breaks after ${way.breaks.join(', ')} bytes`)
  const made = await beginCopy(near, source.id, {
    ...{ peer: 'mars', region: HOME, targetRegions: [AWAY, OTHER], bytesPerSecond: 12 * MIB },
  })
  const [batch, ...watched] = await Promise.all([
    watchTask(near, made.taskId),
    ...made.copies.map(({ taskId }) => watchTask(near, taskId)),
    ...made.copies.map(({ region, imageId }) => watchImage(near, project, region, imageId)),
  ])
  assert.equal(way.brokenCount, 3)
  const tasks = watched.flatMap((one) => ('task' in one ? [one] : []))
  assert.ok(
    tasks.some(({ attemptCount }) => attemptCount > 1),
    'a copy was tried again',
  )
  assert.ok(batch !== undefined && 'task' in batch)
  for (const seen of watched) {
    if (!('task' in seen))
      t.diagnostic(
        `${seen.length} answers of one image: ${[...new Set(seen.map((one) => one.split(' ')[1]))]}`,
      )
  }
  for (const { region, imageId } of made.copies) {
    assert.equal((await getImage(near, region, imageId)).digest, source.digest)
  }
  await assertNoOrphans(near)

  await t.test(
    'a copy whose source hangs, and one whose source is away, are over as soon as they are cancelled',
    async () => {
      const begin = async () => {
        const wish = { peer: 'mars', region: HOME, targetRegions: ['cn-shanghai'], bytesPerSecond: 2 * MIB }
        const begun = await beginCopy(near, source.id, wish)
        await until('bytes are moved', async () =>
          (await getTask(near, begun.taskId)).movedBytes > 0 ? true : undefined,
        )
        return begun.taskId
      }
      const cancel = async (id: string) => {
        const askedMs = performance.now()
        await call(near, 'DELETE', `/v1/tasks/${id}`)
        assert.equal((await getTask(near, id)).state, 'cancelled')
        t.diagnostic(`seen after ${Math.round(performance.now() - askedMs)} ms`)
      }
      const hanging = await begin()
      way.isStalled = true
      await cancel(hanging)
      way.isStalled = false
      const waiting = await begin()
      way.target = undefined
      way.breaks.push(0)
      const task = await until('it waits to try again', async () => {
        const now = await getTask(near, waiting)
        assert.equal(now.endedAtMs, null, now.reason ?? '')
        return now.step === 'wait' ? now : undefined
      })
      assert.notEqual(task.lastReason, null)
      await cancel(waiting)
      await assertNoOrphans(near)
    },
  )
})

test('whatever reads fail, no attempt begins below where the one before has ended', () =>
  fc.assert(
    fc.asyncProperty(
      fc.array(fc.nat({ max: 25 }), { maxLength: 5 }),
      fc.integer({ min: 10, max: 60 }),
      fc.nat({ max: 20 }),
      async (failures, chunkCount, heldCount) => {
        await withRegions([memoryRegion, memoryRegion], async (one, two) => {
          const [domain, target] = [TEST_DOMAIN, two.store]
          const seeds = Array.from({ length: chunkCount }, (_, i) => 1 + i)
          const capture = async (sessionId: string, layout: readonly number[]) =>
            (await captureDisks({ region: one.store, sessionId, domain, disks: [diskOf(layout)] })).digest
          if (heldCount > 0) {
            const digest = await capture('h', seeds.slice(0, heldCount))
            await pullImage({ source: one.store, target, digest, sessionId: 'h' })
          }
          const digest = await capture('s', seeds)
          let doneBytes = 0
          let totalBytes: number | undefined
          const attempt = (failAt: number | undefined) => {
            let count = 0
            const { store, objects } = one
            const source: ReadOnlyRegion = {
              getImage: (wanted, signal) => store.getImage(wanted, signal),
              getSecrets: (wanted, signal) => store.getSecrets(wanted, signal),
              locate: (ids) => store.locate(ids),
              objects: {
                traits: objects.traits,
                size: (name, signal) => objects.size(name, signal),
                get(name, ...where) {
                  if (count++ === failAt)
                    return Promise.reject(new Fault('unavailable', 'It does not answer.'))
                  return objects.get(name, ...where)
                },
              },
            }
            const limits = { rangeBytesMax: RANGE_BYTES, readsMax: 3 }
            const onProgress = (now: { doneBytes: number; totalBytes: number }) => {
              totalBytes ??= now.totalBytes
              assert.equal(now.totalBytes, totalBytes)
              assert.ok(
                now.doneBytes >= doneBytes && now.doneBytes <= totalBytes,
                `${doneBytes} ${now.doneBytes}`,
              )
              doneBytes = now.doneBytes
            }
            return pullImage({ source, target, digest, sessionId: 'p', limits, onProgress })
          }
          for (const failAt of failures) {
            const isDone = await attempt(failAt).then(
              () => true,
              (error: unknown) => {
                assert.ok(isFault(error, 'unavailable'))
                return false
              },
            )
            if (isDone) break
          }
          await attempt(undefined)
          assert.ok(totalBytes === undefined || doneBytes === totalBytes)
          assert.ok(two.store.hasImage(digest))
        })
      },
    ),
    { numRuns: 20 },
  ))
