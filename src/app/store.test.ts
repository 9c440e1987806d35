import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { Fault } from '../image/fault.ts'
import type { Digest, ImageId, ProjectId, TaskId } from '../image/ids.ts'
import { chargedBytes, chargeProblems } from '../tasks/quota.ts'
import { type AppPlace, AWAY, FAR, HOME, newAppPlace } from './fixture.ts'

const fault = (kind: Fault['kind'], subject: Fault['subject'], reason?: string) => (error: unknown) =>
  error instanceof Fault &&
  error.kind === kind &&
  error.subject === subject &&
  (reason === undefined || error.reason === reason)

describe('quotas and what stores hold', () => {
  let place: AppPlace
  beforeEach(async () => {
    place = await newAppPlace({ imagesPerRegionMax: 100 })
  })
  afterEach(() => place.close())

  const sized = async (name: string, dataBytes: number) => {
    const imageId = await place.availableImage(name)
    await place.catalog.rows.updateTable('image').set({ dataBytes }).where('id', '=', imageId).execute()
    return imageId
  }
  const charged = () => chargedBytes(place.catalog.rows, place.root.defaultProjectId)
  const copy = (imageId: ImageId) =>
    place.app.images.copy(place.root, { regionId: HOME, imageId, targetRegionIds: [AWAY] })
  const quota = (bytes: number | null) =>
    place.app.projects.setQuota(place.root, place.root.defaultProjectId, bytes)

  test('of 20 copies at once a quota that admits 3 lets 3 through, and is never exceeded (I7)', async () => {
    const imageId = await sized('i', 1000)
    await quota(4500)
    const answers = await Promise.allSettled(Array.from({ length: 20 }, () => copy(imageId)))
    assert.equal(answers.filter(({ status }) => status === 'fulfilled').length, 3)
    for (const answer of answers) {
      if (answer.status === 'rejected') assert.ok(fault('full', 'project', 'quota')(answer.reason))
    }
    const [refused] = answers.filter((answer) => answer.status === 'rejected')
    assert.match(
      String(refused?.reason.message),
      /^Project org-\w+ is charged 4000 bytes, 1000 bytes more are wanted, and its quota is 4500 bytes\./,
    )
    assert.equal(await charged(), 4000)
    assert.deepEqual(await chargeProblems(place.catalog.rows, AWAY), [])
  })

  test('a batch is charged whole or not at all; one that is deleted gives its reservation back', async () => {
    const imageId = await sized('i', 1000)
    await quota(2999)
    const both = { regionId: HOME, imageId, targetRegionIds: [AWAY, FAR] }
    await assert.rejects(place.app.images.copy(place.root, both), fault('full', 'project', 'quota'))
    assert.equal(await charged(), 1000)
    const [made] = (await copy(imageId)).copies
    assert.equal(await charged(), 2000)
    await place.app.images.remove(place.root, { regionId: AWAY, imageIds: [made?.imageId as ImageId] })
    assert.equal(await charged(), 1000)
  })

  test('who is over his quota is refused at once, and the quota may be raised or taken away', async () => {
    const imageId = await sized('i', 1000)
    const machineId = await place.runningMachine(imageId)
    assert.deepEqual(await quota(400), { chargedBytes: 1000 })
    const capture = () =>
      place.app.images.capture(place.root, { regionId: HOME, machineId, name: 'c', disks: 'all' as const })
    await assert.rejects(capture(), fault('full', 'project', 'quota'))
    await assert.rejects(copy(imageId), fault('full', 'project', 'quota'))
    // Set below what there is, it is no violation of I7; more than there was at that time would be one.
    assert.deepEqual(await chargeProblems(place.catalog.rows, HOME), [])
    await place.catalog.rows.updateTable('image').set({ dataBytes: 1001 }).execute()
    assert.match(
      (await chargeProblems(place.catalog.rows, HOME)).join(),
      /^I7: project org-\w+ is charged 1001/,
    )
    await quota(null)
    await capture()
    const [project] = await place.app.projects.list(place.root)
    assert.deepEqual([project?.quotaBytes, project?.chargedBytes], [null, 1001])
  })

  test('a quota is set by those alone whose right reaches beyond the project', async () => {
    const { keyId } = await place.app.users.create(place.root, 'ada')
    const { defaultProjectId } = place.root
    await place.app.users.attach(place.root, 'ada', 'CalotypeFullAccess', defaultProjectId)
    const ada = await place.caller(keyId)
    await assert.rejects(
      place.app.projects.setQuota(ada, defaultProjectId, null),
      fault('denied', 'policy', 'implicit'),
    )
    await assert.rejects(
      place.app.projects.setQuota(place.root, 'org-nobody' as ProjectId, 1),
      fault('absent', 'project'),
    )
    await place.app.users.attach(place.root, 'ada', 'CalotypeFullAccess')
    await place.app.projects.setQuota(ada, defaultProjectId, 5000)
  })

  test('an available image that is deleted leaves a task that releases it, one being made does not', async () => {
    const imageId = await place.availableImage('i')
    const [made] = (await copy(imageId)).copies
    await place.app.images.remove(place.root, { regionId: HOME, imageIds: [imageId] })
    await place.app.images.remove(place.root, { regionId: AWAY, imageIds: [made?.imageId as ImageId] })
    const tasks = await place.catalog.rows
      .selectFrom('task')
      .select(['input', 'regionId'])
      .where('kind', '=', 'release-image')
      .execute()
    assert.deepEqual(
      tasks.map(({ input, regionId }) => [JSON.parse(input), regionId]),
      [[{ holder: imageId, regionId: HOME, digest: 'd'.repeat(64) }, HOME]],
    )
  })

  test('a region is collected and scrubbed once at a time, and each may be cancelled', async () => {
    const { store, tasks } = place.app
    const both = { regionIds: [HOME, AWAY], isDryRun: false }
    const { taskIds } = await store.collect(place.root, both)
    assert.equal(taskIds.length, 2)
    const inputs = await place.catalog.rows.selectFrom('task').select('input').execute()
    assert.deepEqual(JSON.parse(inputs[0]?.input ?? ''), { regionId: HOME, isDryRun: false, graceMs: 1000 })
    await assert.rejects(
      store.collect(place.root, { regionIds: [AWAY], isDryRun: true }),
      fault('conflict', 'task'),
    )
    const scrub = { regionIds: [HOME], all: false, repair: true }
    const scrubbing = await store.scrub(place.root, scrub)
    await assert.rejects(store.scrub(place.root, scrub), fault('conflict', 'task'))
    for (const id of [...taskIds, ...scrubbing.taskIds]) await tasks.cancel(place.root, id as TaskId)
    await store.collect(place.root, { ...both, graceMs: 0 })
    await store.scrub(place.root, { ...scrub, all: true })
    const { keyId } = await place.app.users.create(place.root, 'ada')
    await place.app.users.attach(place.root, 'ada', 'CalotypeFullAccess', place.root.defaultProjectId)
    const ada = await place.caller(keyId)
    await assert.rejects(store.collect(ada, both), fault('denied', 'policy'))
    await assert.rejects(store.scrub(ada, scrub), fault('denied', 'policy'))
  })

  test('usage shows a user his project, and regions to those alone who may see all', async () => {
    const digest = 'd'.repeat(64) as Digest
    const first = await sized('first', 1000)
    const { projectId } = await place.app.projects.create(place.root, 'second')
    const bytes = { packBytes: 900, liveBytes: 700, reclaimableBytes: 100, condemnedBytes: 50 }
    const image = { digest, logicalBytes: 4096, dataBytes: 1000, storedBytes: 700 }
    place.usage = { ...bytes, images: [{ ...image, uniqueBytes: 500, sharedBytes: 200 }] }
    const { signal } = new AbortController()
    const all = await place.app.store.usage(place.root, { regionIds: [HOME] }, signal)
    assert.deepEqual(
      all.images.map((one) => [one.id, one.uniqueBytes, one.sharedBytes, one.dataBytes]),
      [[first, 500, 200, 1000]],
    )
    assert.deepEqual(all.regions, [{ id: HOME, ...bytes }])
    assert.deepEqual(
      all.projects.map(({ name, imageCount, chargedBytes }) => [name, imageCount, chargedBytes]),
      [
        ['default', 1, 1000],
        ['second', 0, 0],
      ],
    )
    // A second image of the same content: what is stored is neither's own.
    const other = await sized('other', 1000)
    await place.catalog.rows.updateTable('image').set({ projectId }).where('id', '=', other).execute()
    const { keyId } = await place.app.users.create(place.root, 'ada')
    await place.app.users.attach(place.root, 'ada', 'CalotypeFullAccess', projectId)
    const ada = await place.caller(keyId)
    await assert.rejects(place.app.store.usage(ada, { regionIds: [HOME] }, signal), fault('denied', 'policy'))
    const own = await place.app.store.usage(ada, { regionIds: [HOME], projectId }, signal)
    assert.deepEqual(
      own.images.map((one) => [one.id, one.uniqueBytes, one.sharedBytes]),
      [[other, 0, 700]],
    )
    assert.deepEqual([own.regions, own.projects.length], [[], 1])
    // Nor, where it is a snapshot that has the same.
    await place.catalog.rows.deleteFrom('image').where('id', '=', first).execute()
    const machineId = await place.runningMachine(await place.availableImage('base'))
    const { snapshotId } = await place.availableSnapshot(machineId, 0)
    await place.catalog.rows
      .updateTable('image')
      .set({ digest: 'c'.repeat(64) })
      .where('name', '=', 'base')
      .execute()
    const unique = async () =>
      (await place.app.store.usage(ada, { regionIds: [HOME], projectId }, signal)).images[0]?.uniqueBytes
    assert.equal(await unique(), 500)
    await place.catalog.rows.updateTable('snapshot').set({ digest }).where('id', '=', snapshotId).execute()
    assert.equal(await unique(), 0)
  })
})
