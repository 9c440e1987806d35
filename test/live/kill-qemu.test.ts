import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { importBase, waitForTask } from '../../demo/steps.ts'
import { seededRandom } from '../../src/objects/failing.fixture.ts'
import { consoleLog, HOME, leftOfCaptures, qemuPid, until } from '../e2e/failure-steps.ts'
import { newPlace, type Place } from '../e2e/harness.ts'
import { beginCapture, type CaptureOutput, capture } from './captures.ts'
import { type Guest, launch, untilState } from './debian.ts'
import { assertSameDisk, imageDisk, machineDisk } from './disks.ts'
import { assertNothingOnMachine } from './left.ts'
import { newSeed } from './seed.ts'

const MIB = 1024 ** 2
const KILL_COUNT = 6
const UP = 'calotype-guest up '
const PROMPT = 'guest# '

/** How often the guest has come up and asked for a command. */
const upCount = async (place: Place, guest: Guest) =>
  (await consoleLog(place, guest.id)).split(UP).filter((text) => text.includes(PROMPT)).length

async function write(guest: Guest, offsetMib: number): Promise<void> {
  const dd = 'dd if=/dev/urandom bs=1M count=2 2>/dev/null'
  await guest.run(`${dd} of=/home/demo/file; ${dd} of=/dev/vdb seek=${offsetMib} conv=notrunc; sync`)
}

async function assertImageIsMachine(place: Place, guest: Guest, digest: string, told: string): Promise<void> {
  for (const index of guest.diskIds.keys()) {
    const image = await imageDisk(place, digest, index)
    await assertSameDisk(image, await machineDisk(place, guest.id, index), `disk ${index} in ${told}`)
  }
}

test(`${KILL_COUNT} kills of QEMU within a capture: a clear end, nothing is left, the next is right`, async (t) => {
  const seed = newSeed(t)
  const random = seededRandom(seed)
  const place = await newPlace(t)
  const base = await importBase(place.server, HOME, 'base')
  const guest = await launch(place, base.id, 'victim', [{ sizeBytes: 64 * MIB }])
  await capture(place, guest.id, 'crash')
  await write(guest, 0)
  const startedMs = performance.now()
  await capture(place, guest.id, 'crash')
  const captureMs = performance.now() - startedMs

  const ends = new Map<string, number>()
  for (let round = 0; round < KILL_COUNT; round++) {
    const told = `round ${round} of seed ${seed}`
    await write(guest, Math.floor(random() * 62))
    const ups = await upCount(place, guest)
    const { taskId } = await beginCapture(place, guest.id, 'crash')
    // At once as well: then the capture finds a machine that is off, and takes that.
    await delay(round === 0 ? 0 : random() * captureMs)
    process.kill(await qemuPid(place, guest.id), 'SIGKILL')

    const task = await waitForTask(place.server, taskId)
    const end = task.state === 'done' && task.output.pausedMs === 0 ? 'done, stopped' : task.state
    ends.set(end, (ends.get(end) ?? 0) + 1)
    if (task.state !== 'done') assert.match(task.reason ?? '', /went off|not running/, told)
    await untilState(place, guest.id, 'stopped')
    assert.deepEqual(await leftOfCaptures(place), [], told)

    await place.server.native.call('POST', `/v1/machines/${guest.id}/start`, { body: { region: HOME } })
    await untilState(place, guest.id, 'running')
    await until('the guest to be up again', async () => (await upCount(place, guest)) > ups || undefined)
    await write(guest, Math.floor(random() * 62))
    const first = await capture(place, guest.id, 'crash')
    await assertNothingOnMachine(place, guest.id)
    // Nobody knows what QEMU had in mind when it was killed, so the first capture after that is told nothing by it.
    const killed = task.output as Partial<CaptureOutput>
    const isOfStopped = task.state === 'done' && killed.pausedMs === 0
    for (const { way, why } of (isOfStopped ? killed.disks : undefined) ?? first.output.disks)
      assert(way !== 'changes' && why !== '', `${told}: ${way} ${why}`)

    // It takes from the one before what has not changed, so both have to be right.
    await write(guest, Math.floor(random() * 62))
    const second = await capture(place, guest.id, 'crash')
    for (const { way, why } of second.output.disks) assert.equal(way, 'changes', `${told}: ${why}`)
    await assertImageIsMachine(place, guest, second.digest, `the second capture after ${told}`)
    await assertNothingOnMachine(place, guest.id)
  }
  t.diagnostic(
    `a capture takes ${Math.round(captureMs)} ms; tasks ended ${JSON.stringify(Object.fromEntries(ends))}`,
  )
})
