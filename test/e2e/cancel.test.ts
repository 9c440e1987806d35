import assert from 'node:assert/strict'
import { test } from 'node:test'
import { findImage, importBase, launchDesktop, waitForTask } from '../../demo/steps.ts'
import {
  AWAY,
  assertNothingLeft,
  beginCapture,
  consoleOf,
  fillGuest,
  getTask,
  HOME,
  importRandom,
  leftOfCaptures,
  newRandomFolder,
  objectsOf,
  qemuPid,
  until,
  untilEnded,
  untilGone,
  untilImageIs,
  untilInTheMiddle,
  untilMachine,
} from './failure-steps.ts'
import { newPlace, type Place } from './harness.ts'

/** One thread, so that a capture of so much takes long enough to be met in its middle. */
const SLOW = { CALOTYPE_CAPTURE_WORKERS: '1' }
const BIG_MEBIBYTES = 256

async function newSource(place: Place) {
  const base = await importBase(place.server, HOME, 'base')
  const { desktopId, console } = await launchDesktop(place.server, HOME, base.id, 'source')
  await fillGuest(console, BIG_MEBIBYTES)
  // A small image first: it makes the project's own domain, so that the store holds nothing new after a failure.
  const small = await launchDesktop(place.server, HOME, base.id, 'small')
  const { taskId } = await beginCapture(place.server, small.desktopId, 'small')
  assert.equal((await waitForTask(place.server, taskId)).state, 'done')
  return { source: desktopId, small: small.desktopId }
}

const cancel = (place: Place, taskId: string) => place.server.native.call('DELETE', `/v1/tasks/${taskId}`)

test('a capture ends in its middle, whoever ends it, and leaves nothing behind', async (t) => {
  const place = await newPlace(t, { environment: SLOW })
  const { source, small } = await newSource(place)
  const before = await objectsOf(place, HOME)

  await t.test('its task is cancelled', async () => {
    const { imageId, taskId } = await beginCapture(place.server, source, 'cancelled')
    await untilInTheMiddle(place.server, taskId)
    await cancel(place, taskId)
    assert.equal((await getTask(place.server, taskId)).state, 'cancelled')
    const image = await findImage(place.server, HOME, imageId)
    assert.equal(image.state, 'failed')
    assert.match(image.reason ?? '', /cancelled/)
    await assertNothingLeft(place, before)
    assert.equal(await consoleOf(place, source).run('echo here'), 'here')
  })

  await t.test('WUYING DeleteImages deletes its image', async () => {
    const { imageId, taskId } = await beginCapture(place.server, source, 'deleted')
    await untilInTheMiddle(place.server, taskId)
    await place.server.wuying('DeleteImages', { RegionId: HOME, ImageId: [imageId.replace('img-', 'm-')] })
    await untilEnded(place.server, taskId, 'cancelled')
    await assert.rejects(findImage(place.server, HOME, imageId), { kind: 'absent' })
    await assertNothingLeft(place, before)
  })

  await t.test('UHost TerminateCustomImage deletes its image', async () => {
    const { imageId, taskId } = await beginCapture(place.server, source, 'terminated')
    await untilInTheMiddle(place.server, taskId)
    const ImageId = imageId.replace('img-', 'uimage-')
    await place.server.uhost('TerminateCustomImage', { Region: HOME, ImageId })
    await untilEnded(place.server, taskId, 'cancelled')
    await assert.rejects(findImage(place.server, HOME, imageId), { kind: 'absent' })
    await assertNothingLeft(place, before)
  })

  await t.test('its server is killed while the cancelled task is undone', async () => {
    const { imageId, taskId } = await beginCapture(place.server, source, 'undone')
    await untilInTheMiddle(place.server, taskId, 128 * 1024 ** 2)
    const { length } = await objectsOf(place, HOME)
    const cancelled = cancel(place, taskId).catch(() => {})
    await until('the undo', async () => (await objectsOf(place, HOME)).length < length || undefined)
    await place.killAndRestart()
    await cancelled
    await untilEnded(place.server, taskId, 'cancelled')
    assert.equal((await findImage(place.server, HOME, imageId)).state, 'failed')
    await assertNothingLeft(place, before)
  })

  await t.test('QEMU is killed', async () => {
    const { imageId, taskId } = await beginCapture(place.server, source, 'without-qemu')
    await untilInTheMiddle(place.server, taskId)
    process.kill(await qemuPid(place, source), 'SIGKILL')
    const { reason } = await untilImageIs(place.server, imageId, 'failed')
    assert.match(reason ?? '', /went off while its disks were being captured/)
    await untilEnded(place.server, taskId, 'failed')
    await assertNothingLeft(place, before)
    await untilMachine(place.server, source, 'Stopped')
    await place.server.wuying('StartDesktops', { RegionId: HOME, DesktopId: [source] })
    await untilMachine(place.server, source, 'Running')
    await consoleOf(place, source).waitUntilUp()
  })

  await t.test('afterwards the same machine is captured', async () => {
    const { imageId, taskId } = await beginCapture(place.server, source, 'at-last')
    assert.equal((await waitForTask(place.server, taskId)).state, 'done')
    assert.equal((await findImage(place.server, HOME, imageId)).state, 'available')
    assert.deepEqual(await leftOfCaptures(place), [])
  })

  await t.test('the machine is deleted', async () => {
    // The machine's own ref goes with it.
    const ref = `refs/${small.replace('ecd-', '')}/`
    const held = (await objectsOf(place, HOME)).filter((name) => !name.startsWith(ref))
    await fillGuest(consoleOf(place, small), BIG_MEBIBYTES)
    const { imageId, taskId } = await beginCapture(place.server, small, 'of-a-deleted-machine')
    await untilInTheMiddle(place.server, taskId)
    await place.server.native.call('DELETE', `/v1/machines/${small.replace('ecd-', 'vm-')}`, {
      query: { region: HOME },
    })
    const { reason } = await untilImageIs(place.server, imageId, 'failed')
    assert.match(reason ?? '', /deleted while its disks were being captured/)
    await untilEnded(place.server, taskId, 'failed')
    await untilGone(place.server, small)
    await assertNothingLeft(place, held)
  })
})

test('a copy ends in its middle, whoever ends it, and leaves nothing behind', async (t) => {
  const place = await newPlace(t, { importDirectory: await newRandomFolder(t) })
  const image = await importRandom(place, 'random')
  // A small copy first, as above.
  const small = await importRandom(place, 'small')
  const copyOf = async (imageId: string) => {
    const made = await place.server.native.call<{ copies: { imageId: string; taskId: string }[] }>(
      'POST',
      `/v1/images/${imageId}/copy`,
      { body: { region: HOME, targetRegions: [AWAY] } },
    )
    const [copy] = made.copies
    assert(copy !== undefined)
    return copy
  }
  const first = await copyOf(small.id)
  assert.equal((await waitForTask(place.server, first.taskId)).state, 'done')
  const before = await objectsOf(place, AWAY)

  await t.test('its task is cancelled', async () => {
    const { imageId, taskId } = await copyOf(image.id)
    await untilInTheMiddle(place.server, taskId)
    await cancel(place, taskId)
    assert.equal((await getTask(place.server, taskId)).state, 'cancelled')
    assert.equal((await findImage(place.server, AWAY, imageId)).state, 'failed')
    await assertNothingLeft(place, before, AWAY)
  })

  await t.test('UHost TerminateCustomImage deletes its image', async () => {
    const { imageId, taskId } = await copyOf(image.id)
    await untilInTheMiddle(place.server, taskId)
    const ImageId = imageId.replace('img-', 'uimage-')
    await place.server.uhost('TerminateCustomImage', { Region: AWAY, ImageId })
    await untilEnded(place.server, taskId, 'cancelled')
    await assertNothingLeft(place, before, AWAY)
  })

  await t.test('the server is killed, and the copy goes on with what it has', async () => {
    const { imageId, taskId } = await copyOf(image.id)
    const { doneBytes } = await untilInTheMiddle(place.server, taskId)
    await place.killAndRestart()
    const task = await untilEnded(place.server, taskId, 'done')
    assert.equal(task.attemptCount, 2)
    const copy = await findImage(place.server, AWAY, imageId)
    assert.equal(copy.digest, image.digest)
    const { movedBytes } = task.output as { movedBytes: number }
    // The image object and the pages are moved as well, and they are not counted as stored.
    assert(movedBytes > 0 && movedBytes < copy.storedBytes - doneBytes / 2)
    t.diagnostic(
      `of ${copy.storedBytes} bytes, ${doneBytes} were safe and ${movedBytes} moved after the kill`,
    )
  })
})
