import assert from 'node:assert/strict'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { CopyPlan } from '../../src/image/copy.ts'
import { calotype, calotypeJson } from '../clean/command.ts'
import {
  api,
  beginCopy,
  bringIn,
  CHUNK_BYTES,
  change,
  collect,
  contentOf,
  copy,
  done,
  exportedSha256,
  HOME,
  imageOf,
  MIB,
  newDisk,
  newFlowPlace,
  newProject,
  removeImage,
  SLOWEST,
  sha256,
  untilPulling,
} from './flow-place.ts'

const SIZE_BYTES = 24 * MIB

test('between folders: the plan says what moves, a second version moves what changed, the bytes are the same', async (t: TestContext) => {
  const place = await newFlowPlace(t)
  const disk = newDisk(SIZE_BYTES)
  const first = await bringIn(place, 'first', disk)
  const at = 5 * CHUNK_BYTES
  disk.fill(7, at, at + CHUNK_BYTES)
  newDisk(CHUNK_BYTES * 2).copy(disk, 40 * CHUNK_BYTES)
  const second = await bringIn(place, 'second', disk)

  const copyWords = (id: string) => ['image', 'copy', id, '--region', HOME, '--to', 'hk', '--dry-run']
  for (const [image, movedBytesMin, movedBytesMax] of [
    [first, SIZE_BYTES - 2 * CHUNK_BYTES, SIZE_BYTES * 1.02],
    // What changed is three chunks, of which one compresses to nothing, and what the map says of them.
    [second, CHUNK_BYTES, 3 * CHUNK_BYTES],
  ] as const) {
    const plan = await calotypeJson<CopyPlan>(place, ...copyWords(image.id))
    assert.deepEqual(plan.targets[0]?.blockers, [])
    const { image: made, task } = await copy(place, image.id, { targetRegions: ['hk'] })
    assert.equal(made.digest, image.digest)
    assert.equal(task.output.by, 'pull')
    const said = `moved ${task.movedBytes}, planned ${plan.moveBytes}`
    t.diagnostic(said)
    assert.ok(Math.abs(task.movedBytes - plan.moveBytes) <= plan.moveBytes * 0.02, said)
    assert.ok(task.movedBytes >= movedBytesMin && task.movedBytes <= movedBytesMax, said)
  }
  const { images } = await api<{ images: { id: string; name: string }[] }>(place, 'GET', '/v1/images', {
    query: { region: 'hk', name: 'second' },
  })
  assert.equal(await exportedSha256(place, 'hk', images[0]?.id ?? ''), sha256(disk))
  // All of it is there: only the name is new.
  const again = await copy(place, second.id, { targetRegions: ['hk'], name: 'again' })
  assert.equal(again.task.movedBytes, 0)
  const plan = await calotypeJson<CopyPlan>(place, ...copyWords(second.id))
  assert.deepEqual([plan.moveBytes, plan.targets[0]?.savedBytes], [0, again.task.savedBytes])
  assert.ok(again.task.savedBytes > SIZE_BYTES - 4 * CHUNK_BYTES, `saved ${again.task.savedBytes}`)

  for (const [more, said] of [
    [['--to', 'hk', '--rekey'], /project/],
    [['--to', HOME], /same project and region/],
    [['--to', 'mars'], /mars/],
  ] as const) {
    const ran = await calotype(place, ...['image', 'copy', second.id, '--region', HOME], ...more)
    assert.equal(ran.exitCode, 1, `${more.join(' ')} ${ran.stdout}`)
    assert.match(ran.stderr, said)
  }
})

test('a source that is deleted while copies run: they come well, and then nothing of it is left', async (t: TestContext) => {
  const place = await newFlowPlace(t)
  const disk = newDisk(4 * MIB)
  const before = await contentOf(place, HOME)
  const source = await bringIn(place, 'source', disk)
  const held = await beginCopy(place, source.id, { targetRegions: ['hk'], bytesPerSecond: SLOWEST })
  const running = await beginCopy(place, source.id, { targetRegions: ['cn-bj2'], bytesPerSecond: 2 * MIB })
  await untilPulling(place, held.taskId)
  await change(place, held.taskId, { paused: true })
  await removeImage(place, HOME, source.id)
  await assert.rejects(imageOf(place, HOME, source.id), { kind: 'absent' })
  // Also not for those who still read it.
  await collect(place, [HOME])
  await done(place, running.taskId)
  await collect(place, [HOME])
  assert.notDeepEqual(await contentOf(place, HOME), before, 'a held copy keeps the content')
  await api(place, 'DELETE', `/v1/tasks/${held.taskId}`)
  const ends = await api<{ state: string }>(place, 'GET', `/v1/tasks/${held.taskId}`, {
    query: { waitMs: 5000 },
  })
  assert.equal(ends.state, 'cancelled')
  await collect(place, [HOME, 'hk'])
  assert.deepEqual(await contentOf(place, HOME), before)
  assert.deepEqual(await contentOf(place, 'hk'), [])
  const [made] = running.copies
  const image = await imageOf(place, 'cn-bj2', made?.imageId ?? '')
  assert.equal(image.state, 'available')
  assert.equal(await exportedSha256(place, 'cn-bj2', image.id), sha256(disk))
})

/** The projects that have keys of their own in a region. */
const domainsOf = (place: { readonly data: string }, region: string) =>
  readdir(join(place.data, 'regions', region, 'objects', 'keys'))

test('into another project: by reference nothing moves; with new keys nothing is shared, and either outlives its source', async (t: TestContext) => {
  const place = await newFlowPlace(t)
  const [friends, strangers] = [await newProject(place, 'friends'), await newProject(place, 'strangers')]
  const disk = newDisk(12 * MIB)
  const source = await bringIn(place, 'source', disk)
  const before = await contentOf(place, HOME)
  const domains = await domainsOf(place, HOME)

  const lent = await copy(place, source.id, { targetProject: friends })
  assert.deepEqual(
    [lent.task.output.by, lent.task.movedBytes, lent.image.digest],
    ['reference', 0, source.digest],
  )
  const added = (await contentOf(place, HOME)).filter((name) => !before.includes(name))
  assert.deepEqual(
    added.map((name) => name.split('/')[0]),
    ['refs'],
  )
  assert.deepEqual(await domainsOf(place, HOME), domains)

  const words = ['image', 'copy', source.id, '--region', HOME, '--to-project', strangers, '--rekey']
  const plan = await calotypeJson<CopyPlan>(place, ...words, '--dry-run')
  assert.equal(plan.targets[0]?.way, 'rekey')
  const given = await copy(place, source.id, { targetProject: strangers, rekey: true })
  assert.equal(given.task.output.by, 'rekey')
  assert.notEqual(given.image.digest, source.digest)
  assert.equal((await domainsOf(place, HOME)).length, domains.length + 1)
  const { movedBytes } = given.task
  t.diagnostic(`rekeyed ${movedBytes}, planned ${plan.moveBytes}`)
  assert.ok(
    Math.abs(movedBytes - plan.moveBytes) <= plan.moveBytes * 0.02,
    `${movedBytes} of ${plan.moveBytes}`,
  )
  const one = await copy(place, source.id, { targetProject: strangers, rekey: true, targetRegions: ['hk'] })
  assert.equal(one.image.digest, given.image.digest, 'with the same keys it is the same image')

  const packs = (names: readonly string[]) => names.filter((name) => name.startsWith('packs/'))
  const ofBoth = packs(await contentOf(place, HOME))
  await removeImage(place, HOME, source.id)
  await removeImage(place, HOME, lent.image.id, friends)
  await collect(place, [HOME])
  const left = packs(await contentOf(place, HOME))
  // No pack of the one project holds anything of the other.
  assert.deepEqual(
    left,
    ofBoth.filter((name) => !before.includes(name)),
  )
  assert.equal(await exportedSha256(place, HOME, given.image.id, strangers), sha256(disk))
  assert.equal(await exportedSha256(place, 'hk', one.image.id, strangers), sha256(disk))
})
