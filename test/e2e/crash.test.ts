import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { findImage, importBase, launchDesktop, waitForTask } from '../../demo/steps.ts'
import {
  beginCapture,
  consoleLog,
  consoleOf,
  fillGuest,
  HOME,
  leftOfCaptures,
  objectsOf,
  qemuPid,
  typeInto,
  until,
  untilInTheMiddle,
  untilMachine,
} from './failure-steps.ts'
import { newPlace, type Place } from './harness.ts'

/** One thread, so that a capture of so much takes long enough to be met in its middle. */
const SLOW = { CALOTYPE_CAPTURE_WORKERS: '1' }
const BIG_MEBIBYTES = 256

async function newSource(place: Place) {
  const base = await importBase(place.server, HOME, 'base')
  return (await launchDesktop(place.server, HOME, base.id, 'source')).desktopId
}

/** Waits until the guest has said so many more lines that hold `text` than it had when `before` was read. */
const said = (place: Place, machineId: string, text: string, from: number, count = 1) =>
  until(`the guest's ${text}`, async () => {
    const news = (await consoleLog(place, machineId)).slice(from)
    return news.split(text).length > count || undefined
  })

const isHalfWritten = (name: string) => name.startsWith('.tmp')

/** Prints one checksum for each piece of the file, so that how far the guest is can be seen from outside. */
const READ_PIECES = (first: number, last: number) =>
  `for i in $(seq ${first} ${last}); do dd if=/home/demo/big bs=4M skip=$i count=1 2>/dev/null | md5sum; done`
const PIECES = 32

test('the server ends in the middle of its work on machines, and is started again', async (t) => {
  const place = await newPlace(t, { environment: SLOW })
  const source = await newSource(place)
  await consoleOf(place, source).run('echo before > /home/demo/moment; echo kept > /tmp/memory')
  await fillGuest(consoleOf(place, source), BIG_MEBIBYTES)
  let reader = ''

  await t.test('SIGKILL while a running guest is captured: the same moment, no word needed', async () => {
    const { imageId, taskId } = await beginCapture(place.server, source, 'crashed')
    await untilInTheMiddle(place.server, taskId)
    const { length } = await consoleLog(place, source)
    await typeInto(place.server, source, 'echo after > /home/demo/moment; sync; echo written $((6 * 7))')
    await place.killAndRestart()
    // Where its first write to a block needs the base, the guest waits for the server; then it writes over what the
    // capture has not read yet.
    await said(place, source, 'written 42', length)

    const task = await waitForTask(place.server, taskId)
    assert.equal(task.state, 'done', `${task.reason}`)
    assert.equal(task.attemptCount, 2)
    const image = await findImage(place.server, HOME, imageId)
    assert.equal(image.state, 'available')
    assert.equal(image.progressPermille, 1000)
    assert.deepEqual(await leftOfCaptures(place), [])
    assert.deepEqual((await objectsOf(place, HOME)).filter(isHalfWritten), [])
    const kept = await consoleOf(place, source).run('cat /tmp/memory /home/demo/moment')
    assert.equal(kept, 'kept\nafter', 'the guest never stopped')

    const copy = await launchDesktop(place.server, HOME, imageId, 'of-the-image')
    assert.equal(await copy.console.run('cat /home/demo/moment'), 'before')
    reader = copy.desktopId
  })

  await t.test('SIGKILL while a guest reads what it never read: it waits, and goes on', async () => {
    const right = (await consoleOf(place, source).run(READ_PIECES(0, PIECES - 1))).split('\n')
    assert.equal(right.length, PIECES)
    const pid = await qemuPid(place, reader)
    const { length } = await consoleLog(place, reader)
    await typeInto(place.server, reader, `${READ_PIECES(0, PIECES / 2 - 1)}; echo half-$((6 * 7))`)
    await said(place, reader, '  -', length, 3)
    await place.kill()
    // What was read ahead comes to an end; then the guest waits.
    let before = -1
    await until('the guest to wait', async () => {
      const now = (await consoleLog(place, reader)).length
      await delay(1000)
      const waits = now === before
      before = now
      return waits || undefined
    })
    assert.equal((await consoleLog(place, reader)).includes('half-42'), false, 'it was met while it read')
    await place.start()
    await said(place, reader, 'half-42', length)

    // The other half only when the guest has been idle since its disk's server was replaced.
    await place.killAndRestart()
    await typeInto(place.server, reader, `${READ_PIECES(PIECES / 2, PIECES - 1)}; echo all-$((6 * 7))`)
    await said(place, reader, 'all-42', length)
    const read = (await consoleLog(place, reader)).slice(length).match(/[0-9a-f]{32}(?= {2}-)/g)
    assert.deepEqual(
      read?.map((sum) => `${sum}  -`),
      right,
    )
    assert.equal(await consoleOf(place, reader).run('dmesg | grep -ciE "i/o error|ext4-fs error"'), '0')
    assert.equal(await qemuPid(place, reader), pid)
  })

  await t.test('SIGTERM while a running guest is captured: the task goes on after the start', async () => {
    await fillGuest(consoleOf(place, source), BIG_MEBIBYTES)
    const { imageId, taskId } = await beginCapture(place.server, source, 'restarted')
    await untilInTheMiddle(place.server, taskId)
    await place.restart()
    const task = await waitForTask(place.server, taskId)
    assert.equal(task.state, 'done', `${task.reason}`)
    assert.equal(task.attemptCount, 2)
    assert.equal((await findImage(place.server, HOME, imageId)).state, 'available')
    assert.deepEqual(await leftOfCaptures(place), [])
    assert.deepEqual((await objectsOf(place, HOME)).filter(isHalfWritten), [])
    assert.equal(await consoleOf(place, source).run('cat /tmp/memory'), 'kept')
  })

  await t.test('SIGKILL while a stopped machine is captured: nobody starts it meanwhile', async () => {
    await fillGuest(consoleOf(place, source), BIG_MEBIBYTES)
    const right = await consoleOf(place, source).run(`sync; ${READ_PIECES(0, 7)}`)
    await place.server.wuying('StopDesktops', { RegionId: HOME, DesktopId: [source] })
    await untilMachine(place.server, source, 'Stopped')
    const { imageId, taskId } = await beginCapture(place.server, source, 'stopped')
    await untilInTheMiddle(place.server, taskId)
    await place.killAndRestart()
    await assert.rejects(place.server.wuying('StartDesktops', { RegionId: HOME, DesktopId: [source] }))
    const task = await waitForTask(place.server, taskId)
    assert.equal(task.state, 'done', `${task.reason}`)
    assert.equal(task.attemptCount, 2)
    assert.deepEqual(await leftOfCaptures(place), [])
    await place.server.wuying('StartDesktops', { RegionId: HOME, DesktopId: [source] })
    const copy = await launchDesktop(place.server, HOME, imageId, 'of-the-stopped')
    assert.equal(await copy.console.run(READ_PIECES(0, 7)), right)
    await untilMachine(place.server, source, 'Running')
  })
})
