import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { verifyAll, waitForTask } from '../../demo/steps.ts'
import { AWAY, HOME, inside, objectsOf, until } from '../e2e/failure-steps.ts'
import type { Place, PlaceOptions } from '../e2e/harness.ts'
import {
  assertNoOrphans,
  beginCopy,
  collectAll,
  deleteImage,
  getImage,
  getTask,
  importDisk,
  newCopyPlace,
  retry,
  sessionsOf,
} from './copy-place.ts'

const MIB = 1024 ** 2
const OTHER = 'hk'

/** The objects of the region once nothing but what is needed is there, without the keys of domains, which stay. */
async function heldIn(place: Place, region: string): Promise<string[]> {
  await collectAll(place)
  return (await objectsOf(place, region)).filter((name) => !name.startsWith('keys/'))
}

test('a source with a flipped bit: the copies fail, the pack is named, nothing is left; then it is mended', async (t) => {
  const place = await newCopyPlace(t)
  const source = await importDisk(place, 'golden', randomBytes(5 * MIB))
  const held = new Map([
    [AWAY, await heldIn(place, AWAY)],
    [OTHER, await heldIn(place, OTHER)],
  ])
  const folder = inside(place, `regions/${HOME}/objects/packs`)
  const files = (await readdir(folder, { recursive: true, withFileTypes: true })).filter((file) =>
    file.isFile(),
  )
  const packs = await Promise.all(
    files.map(async ({ parentPath, name }) => {
      const path = join(parentPath, name)
      return { path, sizeBytes: (await stat(path)).size }
    }),
  )
  const path = packs.sort((a, b) => b.sizeBytes - a.sizeBytes)[0]?.path ?? ''
  const right = await readFile(path)
  const wrong = Buffer.from(right)
  wrong[right.length >> 1] = (wrong[right.length >> 1] ?? 0) ^ 0x10
  const { mode } = await stat(path)
  await rm(path)
  await writeFile(path, wrong, { mode })

  const made = await beginCopy(place, source.id, { targetRegions: [AWAY, OTHER] })
  const batch = await waitForTask(place.server, made.taskId)
  assert.equal(batch.state, 'failed')
  const packId = path.replaceAll('/', '').match(/[0-9a-f]{64}$/)?.[0]
  assert(packId !== undefined)
  for (const { region, imageId, taskId } of made.copies) {
    const task = await getTask(place, taskId)
    assert.deepEqual([task.state, task.faultKind], ['failed', 'corrupt'], task.reason ?? '')
    assert.ok(task.reason?.includes(packId), `'${task.reason}' names pack ${packId}`)
    const image = await getImage(place, region, imageId)
    assert.deepEqual([image.state, image.digest], ['failed', null])
    assert.ok(image.reason?.includes(packId), `'${image.reason}' names pack ${packId}`)
    assert.deepEqual(await heldIn(place, region), held.get(region))
    assert.deepEqual(sessionsOf(place, region), [])
    assert.match(batch.reason ?? '', new RegExp(`\\b${region}\\b`))
  }

  await rm(path)
  await writeFile(path, right, { mode })
  const again = await retry(place, made.taskId)
  assert.deepEqual(
    again.copies.map(({ imageId }) => imageId),
    made.copies.map(({ imageId }) => imageId),
  )
  assert.equal((await waitForTask(place.server, again.taskId)).state, 'done')
  for (const { region, imageId } of made.copies) {
    const image = await getImage(place, region, imageId)
    assert.deepEqual([image.state, image.digest, image.reason], ['available', source.digest, null])
  }
  await verifyAll(place.server)
  await assertNoOrphans(place)
})

const STORE_MEBIBYTES = 24

/** A store of that size in the target region, in a mount namespace of the server's own. */
const withSmallStore: NonNullable<PlaceOptions['wrapper']> = (data) => {
  const mount = `mkdir -p "$1" && mount -t tmpfs -o size=${STORE_MEBIBYTES}m tmpfs "$1" && shift && exec "$@"`
  const namespaces = process.getuid?.() === 0 ? '-m' : '-rm'
  return ['unshare', namespaces, 'sh', '-c', mount, 'sh', join(data, `regions/${AWAY}/objects`)]
}

/** Until there is no room for a byte more. */
async function fill(path: string): Promise<void> {
  const isFull = await writeFile(path, Buffer.alloc(STORE_MEBIBYTES * MIB, 1)).then(
    () => false,
    () => true,
  )
  assert.ok(isFull)
}

test('a target without room refuses, or fails in the middle, keeps nothing, and takes the copy once there is room', async (t) => {
  const place = await newCopyPlace(t, { CALOTYPE_COPIES_ATTEMPTS: '2' }, { wrapper: withSmallStore })
  const ballast = inside(place, `regions/${AWAY}/objects/ballast`)

  const assertFailedFull = async (made: Awaited<ReturnType<typeof beginCopy>>, before: readonly string[]) => {
    const task = await waitForTask(place.server, made.taskId)
    assert.deepEqual([task.state, task.faultKind], ['failed', 'full'], task.reason ?? '')
    assert.match(task.reason ?? '', /room|space/)
    const [copy] = made.copies
    assert(copy !== undefined)
    const image = await getImage(place, AWAY, copy.imageId)
    assert.deepEqual([image.state, image.reason], ['failed', task.reason])
    await rm(ballast, { force: true })
    assert.deepEqual(await heldIn(place, AWAY), before)
    assert.deepEqual(sessionsOf(place, AWAY), [])
    return copy.imageId
  }

  await t.test('what has no room is refused before its first byte', async () => {
    const source = await importDisk(place, 'too-large', randomBytes((STORE_MEBIBYTES + 4) * MIB))
    const before = await heldIn(place, AWAY)
    const made = await beginCopy(place, source.id, { targetRegions: [AWAY] })
    const imageId = await assertFailedFull(made, before)
    const task = await getTask(place, made.taskId)
    assert.deepEqual([task.movedBytes, task.attemptCount <= 1], [0, true])
    await deleteImage(place, AWAY, imageId)
    await deleteImage(place, HOME, source.id)
  })

  await t.test('others fill the disk in the middle; then there is room, and it is begun anew', async () => {
    const source = await importDisk(place, 'crowded-out', randomBytes(10 * MIB))
    const before = await heldIn(place, AWAY)
    const made = await beginCopy(place, source.id, { targetRegions: [AWAY], bytesPerSecond: 5 * MIB })
    await until('bytes are moved', async () =>
      (await getTask(place, made.taskId)).movedBytes > 0 ? true : undefined,
    )
    await fill(ballast)
    const imageId = await assertFailedFull(made, before)
    const again = await retry(place, made.taskId)
    assert.equal(again.copies[0]?.imageId, imageId)
    const task = await waitForTask(place.server, again.taskId)
    assert.equal(task.state, 'done', task.reason ?? '')
    assert.equal((await getImage(place, AWAY, imageId)).digest, source.digest)
  })
  await verifyAll(place.server)
  await assertNoOrphans(place)
})
