import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { Fault } from '../image/fault.ts'
import type { Digest, ImageId, RegionId } from '../image/ids.ts'
import type { PeerImage } from '../peers/contract.ts'
import type { CopyInput } from '../tasks/copy-words.ts'
import { copiesOf, fault, firstOf } from './copies.fixture.ts'
import type { CopyWish } from './copy-contract.ts'
import { type AppPlace, AWAY, FAR, HOME, newAppPlace } from './fixture.ts'

describe('copies', () => {
  let place: AppPlace
  let imageId: ImageId
  let at: ReturnType<typeof copiesOf>
  beforeEach(async () => {
    place = await newAppPlace({ imagesPerRegionMax: 100 })
    imageId = await place.availableImage('golden')
    at = copiesOf(place, imageId)
  })
  afterEach(() => place.close())

  test('the way is what the places and projects are, and what is said of keys', async () => {
    const projectId = await at.second()
    const wayOf = async (more: Partial<CopyWish>) =>
      (await at.inputOf(firstOf((await at.copy(more)).copies).taskId)).way
    const across = { targetProjectId: projectId }
    assert.equal(await wayOf({}), 'pull')
    assert.equal(await wayOf({ ...across, targetRegionIds: [HOME] }), 'reference')
    assert.equal(await wayOf(across), 'pull')
    assert.equal(await wayOf({ ...across, targetRegionIds: [HOME], rekey: true }), 'rekey')
    place.copies.acrossProjects = 'rekey'
    assert.equal(await wayOf(across), 'rekey')
    assert.equal(await wayOf({ ...across, rekey: false }), 'pull')
    assert.equal(await wayOf({}), 'pull')
    await assert.rejects(at.copy({ rekey: true }), fault('invalid', 'image', 'same-project'))
  })

  test('of a damaged source is refused, unless it was begun before; what is deleted meanwhile is absent', async () => {
    const first = await at.copy({}, 'uhost')
    place.damaged.add('d'.repeat(64) as Digest)
    assert.deepEqual(await at.copy({}, 'uhost'), first, 'the same request, the same answer')
    const count = await at.countOf('image')
    for (const door of ['native', 'uhost', 'wuying'] as const) {
      await assert.rejects(at.copy({ name: 'other' }, door), fault('corrupt', 'image', 'damaged'))
    }
    const [targetProjectId, targetRegionIds] = [await at.second(), [HOME]]
    const here = at.copy({ targetProjectId, targetRegionIds })
    await assert.rejects(here, fault('corrupt', 'image', 'damaged'))
    // What is wrong with the request itself comes first.
    await assert.rejects(at.copy({ targetRegionIds }), fault('invalid', 'image', 'same-place'))
    assert.equal(await at.countOf('image'), count)
    place.sources.refuseDamaged = async () => {
      await place.catalog.rows.deleteFrom('image').where('id', '=', imageId).execute()
      throw new Fault('corrupt', 'It is damaged.', { subject: 'image' })
    }
    await assert.rejects(at.copy({ name: 'other' }), fault('absent', 'image'))
  })

  test('one that was paused for too long is cancelled, and says why; others are left alone', async () => {
    const paused = await at.copy()
    const other = await at.copy()
    const DAY_MS = 24 * 3_600_000
    const state = async ({ taskId }: typeof paused) => (await at.task(taskId)).state
    for (const [{ taskId }, agoMs] of [
      [paused, 30 * DAY_MS],
      [other, DAY_MS],
    ] as const) {
      await place.runner.cancel(taskId, { reason: 'Only what is paused is meant.' })
      // As the runner of copies leaves it.
      const row = { state: 'paused', step: '', progressAtMs: place.nowMs - agoMs }
      await at.rows().updateTable('task').set(row).where('id', '=', taskId).execute()
    }
    place.nowMs += 1
    await place.sweep()
    assert.deepEqual([await state(paused), await state(other)], ['paused', 'paused'], 'without a limit')
    place.copies.pausedMs = 30 * DAY_MS
    await place.sweep()
    assert.deepEqual([await state(paused), await state(other)], ['cancelled', 'paused'])
    assert.match((await at.task(paused.taskId)).reason ?? '', /^It was paused for more than 30 days/)
    place.nowMs += 29 * DAY_MS
    await place.sweep()
    assert.equal(await state(other), 'cancelled')
  })

  test('several targets are a batch, whose pulls share what they read', async () => {
    const projectId = await at.second()
    const targetRegionIds = [FAR, HOME, AWAY]
    const more = { targetProjectId: projectId, priority: 7, bytesPerSecond: 1000 }
    const { taskId, copies } = await at.copy({ ...more, targetRegionIds })
    assert.deepEqual(
      copies.map((one) => one.regionId),
      targetRegionIds,
    )
    const parent = await at.task(taskId)
    assert.deepEqual([parent.kind, parent.regionId, parent.priority], ['copy-batch', HOME, 7])
    for (const one of copies) {
      const child = await at.task(one.taskId)
      assert.deepEqual([child.parentId, child.regionId, child.priority], [taskId, one.regionId, 7])
      const input = JSON.parse(child.input) as CopyInput
      assert.deepEqual([input.isShared, input.bytesPerSecond, input.imageId], [true, 1000, one.imageId])
    }
    // A pull beside a reference reads alone.
    const pair = await at.copy({ targetProjectId: projectId, targetRegionIds: [HOME, AWAY] })
    for (const one of pair.copies) assert.equal((await at.inputOf(one.taskId)).isShared, false)
    const single = await at.copy()
    assert.deepEqual(single.taskId, firstOf(single.copies).taskId)
  })

  test('what makes no sense is refused before anything is listed', async () => {
    const count = await at.countOf('image')
    const region = fault('invalid', 'region')
    await assert.rejects(at.copy({ targetRegionIds: [] }), region)
    await assert.rejects(at.copy({ targetRegionIds: [AWAY, AWAY] }), region)
    await assert.rejects(at.copy({ targetRegionIds: ['nowhere' as RegionId] }), fault('absent', 'region'))
    for (const wrong of [{ priority: 10 }, { priority: 1.5 }, { withinMs: 0 }, { bytesPerSecond: 0 }]) {
      await assert.rejects(at.copy(wrong), fault('invalid', 'request'))
    }
    await assert.rejects(at.copy({ targetRegionIds: [AWAY, HOME] }), fault('invalid', 'image', 'same-place'))
    assert.deepEqual([await at.countOf('image'), await at.countOf('task')], [count, 0])
  })

  test('the right has to hold in every target', async () => {
    const { app, root } = place
    await app.users.putPolicy(root, 'near', {
      Version: '1',
      Statement: [
        { Effect: 'Allow', Action: 'calotype:CopyImage', Resource: '*' },
        { Effect: 'Deny', Action: 'calotype:CopyImage', Resource: `calotype:calotype:${FAR}:*:*` },
      ],
    })
    const { keyId } = await app.users.create(root, 'ada')
    await app.users.attach(root, 'ada', 'near')
    const user = await place.caller(keyId)
    await assert.rejects(
      app.images.copy(user, at.wish({ targetRegionIds: [AWAY, FAR] })),
      fault('denied', 'policy', 'explicit'),
    )
    await assert.rejects(
      app.images.planCopy(user, at.wish({ targetRegionIds: [FAR] })),
      fault('denied', 'policy', 'explicit'),
    )
    await app.images.copy(user, at.wish())
  })

  describe('repeats', () => {
    const batch = { targetRegionIds: [AWAY, FAR] }

    test('of two requests at once one makes a copy, and both hear of it', async () => {
      const before = await at.countOf('image')
      const answers = await Promise.all([1, 2, 3, 4].map(() => at.copy(batch, 'uhost')))
      for (const answer of answers) assert.deepEqual(answer, answers[0])
      assert.equal(await at.countOf('image'), before + 2)
      const [first] = await Promise.all([1, 2].map(() => at.copy({}, 'wuying')))
      assert.deepEqual(await at.copy({}, 'wuying'), first)
    })

    test('the answer is in the order asked, even when the source has gone', async () => {
      const first = await at.copy(batch, 'uhost')
      await at.rows().deleteFrom('image').where('id', '=', imageId).execute()
      const again = await at.copy({ targetRegionIds: [FAR, AWAY] }, 'uhost')
      assert.deepEqual(again, { ...first, copies: first.copies.toReversed() })
    })

    test('another request, another user or door, or our own door makes another copy', async () => {
      const projectId = await at.second()
      const first = await at.copy({}, 'uhost')
      const others: Partial<CopyWish>[] = [
        { name: 'other' },
        { description: 'other' },
        { tag: 'other' },
        { targetRegionIds: [FAR] },
        { targetRegionIds: [AWAY, FAR] },
        { targetProjectId: projectId },
      ]
      for (const other of others) assert.notEqual((await at.copy(other, 'uhost')).taskId, first.taskId)
      assert.notEqual((await at.copy({}, 'wuying')).taskId, first.taskId)
      const other = { ...place.root, userId: 'another', door: 'uhost' } as const
      assert.notEqual((await place.app.images.copy(other, at.wish())).taskId, first.taskId)
      assert.notEqual((await at.copy()).taskId, (await at.copy()).taskId)
      assert.deepEqual(await at.copy({ name: 'other' }, 'uhost'), await at.copy({ name: 'other' }, 'uhost'))
      // Whoever names the project that is meant anyway asks for the same.
      assert.deepEqual(await at.copy({ targetProjectId: place.root.defaultProjectId }, 'uhost'), first)
    })

    test('a batch one of whose images was deleted is no answer to who asks again', async () => {
      const first = await at.copy(batch, 'uhost')
      const [gone] = first.copies
      await place.app.images.remove(place.root, { regionId: AWAY, imageIds: [gone?.imageId as ImageId] })
      assert.equal((await at.task(first.taskId)).endedAtMs, null)
      const second = await at.copy(batch, 'uhost')
      assert.notEqual(second.taskId, first.taskId)
      for (const { imageId: id } of second.copies) assert.ok((await at.image(id)) !== undefined)
      // Of the two in one millisecond the whole one is the answer.
      assert.deepEqual(await at.copy(batch, 'uhost'), second)
    })

    test('only while it runs, for a while, and where it is not turned off', async () => {
      const first = await at.copy({}, 'uhost')
      place.nowMs += 600_000
      assert.deepEqual(await at.copy({}, 'uhost'), first)
      place.nowMs++
      const later = await at.copy({}, 'uhost')
      assert.notDeepEqual(later, first)
      await at.end(firstOf(later.copies), 'failed')
      await at.end(firstOf(first.copies), 'failed')
      const third = await at.copy({}, 'uhost')
      assert.notDeepEqual(third, later)
      place.copies.repeatMs = undefined
      assert.notDeepEqual(await at.copy({}, 'uhost'), third)
    })

    test('one that was cancelled and cannot be undone yet is no answer to who asks again', async () => {
      for (const door of ['uhost', 'wuying'] as const) {
        const first = await at.copy({}, door)
        // As `runner.cancel` leaves it while the store is away.
        const undoing = { state: 'running', step: 'undo', cancelRequested: 1 }
        await at.rows().updateTable('task').set(undoing).where('id', '=', first.taskId).execute()
        assert.notEqual((await at.copy({}, door)).taskId, first.taskId)
      }
    })
  })

  describe('a peer', () => {
    const theirs: PeerImage = {
      id: 'p'.repeat(17) as ImageId,
      digest: 'e'.repeat(64) as Digest,
      facts: {
        ...{ name: 'theirs', description: 'From afar.', tag: 'ops', osType: 'Windows', osName: 'W' },
        labels: [{ key: 'k', value: 'v' }],
        disks: [{ index: 0, sizeBytes: 4096, bus: 'virtio-scsi' }],
        config: { firmware: 'uefi', machineType: 'q35', cpuCount: 1, memoryBytes: 1 },
        ...{ consistency: 'filesystem', parent: undefined, imported: undefined, cleaning: undefined },
        ...{ dataBytes: 777, storedBytes: 5 },
      },
    }
    const asked = { peer: 'berlin', regionId: 'their-region' as RegionId, imageId: theirs.id }

    test('tells what the row of a copy needs', async () => {
      const questions: (readonly string[])[] = []
      place.peerImage = async (...question) => {
        questions.push(question)
        return theirs
      }
      const { taskId, copies } = await at.copy({ ...asked, name: 'mine' })
      assert.deepEqual(questions, [['berlin', 'their-region', theirs.id]])
      const { imageId: id } = firstOf(copies)
      const made = await place.app.images.get(place.root, { regionId: AWAY, imageId: id })
      assert.deepEqual(
        [
          made.name,
          made.description,
          made.tag,
          made.labels,
          made.osType,
          made.osName,
          made.disks,
          made.config,
        ],
        [
          ...['mine', 'From afar.', 'ops', theirs.facts.labels, 'Windows', 'W'],
          ...[theirs.facts.disks, theirs.facts.config],
        ],
      )
      assert.equal((await at.image(id))?.reservedBytes, 777)
      const { source, digest, way, dataBytes } = await at.inputOf(taskId)
      assert.deepEqual(
        [source, digest, way, dataBytes],
        [{ is: 'peer', peer: 'berlin', regionId: 'their-region' }, theirs.digest, 'pull', 777],
      )
    })

    test('is copied from into many regions, rekeyed if that is wanted, and never the same place', async () => {
      place.peerImage = async () => theirs
      const { taskId, copies } = await at.copy({ ...asked, regionId: HOME, targetRegionIds: [HOME, AWAY] })
      assert.equal((await at.task(taskId)).regionId, HOME)
      for (const one of copies) {
        const { way, isShared } = await at.inputOf(one.taskId)
        assert.deepEqual([way, isShared], ['pull', true])
      }
      const rekeyed = await at.copy({ ...asked, rekey: true })
      assert.equal((await at.inputOf(rekeyed.taskId)).way, 'rekey')
    })

    test('is asked for those alone whose policies speak of it', async () => {
      const { app, root } = place
      let askedCount = 0
      place.peerImage = async () => {
        askedCount++
        return theirs
      }
      const Action = ['calotype:CopyImage', 'calotype:RetryTask']
      const allow = (...kinds: string[]) => ({
        ...{ Effect: 'Allow', Action },
        Resource: kinds.map((kind) => `calotype:calotype:*:*:${kind}`),
      })
      const images = allow('image/*', 'task/*')
      const deny = (what: string) => ({ ...images, Effect: 'Deny', Resource: `calotype:calotype:${what}` })
      const everything = { Effect: 'Allow', Action, Resource: '*' }
      const user = async (name: string, ...Statement: unknown[]) => {
        await app.users.putPolicy(root, name, { Version: '1', Statement })
        const { keyId } = await app.users.create(root, name)
        await app.users.attach(root, name, name)
        return place.caller(keyId)
      }
      const both = at.wish({ ...asked, targetRegionIds: [AWAY, FAR] })
      const refused = [
        [await user('images', images), 'implicit'],
        [await user('other', images, allow('peer/paris')), 'implicit'],
        [await user('denied', everything, deny('*:*:peer/berlin')), 'explicit'],
        [await user('far', everything, deny(`${FAR}:*:peer/*`)), 'explicit'],
      ] as const
      for (const [caller, reason] of refused) {
        for (const ask of [app.images.copy, app.images.planCopy]) {
          await assert.rejects(ask(caller, both), (error) => {
            assert.ok(fault('denied', 'policy', reason)(error))
            assert.match((error as Fault).message, /resource 'peer\/berlin'/)
            return true
          })
        }
      }
      assert.equal(askedCount, 0)
      const made = await app.images.copy(await user('all', everything), both)
      await app.images.copy(await user('berlin', images, allow('peer/berlin')), both)
      assert.equal(askedCount, 2)
      for (const one of made.copies) await at.end(one, 'failed')
      await at.end({ taskId: made.taskId, imageId: firstOf(made.copies).imageId }, 'failed')
      for (const [caller, reason] of refused) {
        for (const { taskId } of [made.copies[1] ?? made, made]) {
          await assert.rejects(app.tasks.retry(caller, taskId), fault('denied', 'policy', reason))
        }
      }
      const berlin = await user('retrier', images, allow('peer/berlin'))
      assert.equal((await app.tasks.retry(berlin, made.taskId)).copies.length, 2)
    })

    test('that refuses or is unknown makes nothing', async () => {
      const count = await at.countOf('image')
      await assert.rejects(at.copy(asked), fault('absent', 'peer'))
      place.peerImage = async () => {
        throw new Fault('denied', 'No.', { subject: 'peer' })
      }
      await assert.rejects(at.copy(asked), fault('denied', 'peer'))
      await assert.rejects(place.app.images.planCopy(place.root, at.wish(asked)), fault('denied', 'peer'))
      assert.deepEqual([await at.countOf('image'), await at.countOf('task')], [count, 0])
    })
  })
})
