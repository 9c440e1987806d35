import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { seededRandom } from '../../src/objects/failing.fixture.ts'
import { until } from '../e2e/failure-steps.ts'
import type { Place } from '../e2e/harness.ts'
import { beginCapture, type Captured, capture, endCapture } from './captures.ts'
import { type Guest, importDebian, launch, newDebianPlace } from './debian.ts'
import { assertSameDisk, imageDisk, machineDisk } from './disks.ts'
import { assertNothingOnMachine, assertThawed, guardsOf } from './left.ts'
import { newSeed } from './seed.ts'

const MIB = 1024 ** 2
const KILL_COUNT = 14
/** About as long as what freezes a guest lives. */
const GUARD_MS = 800

async function write(guest: Guest, offsetMib: number): Promise<void> {
  const dd = 'dd if=/dev/urandom bs=1M count=2 2>/dev/null'
  await guest.run(
    `${dd} of=/root/file; ${dd} of=/run/raw-disk oflag=seek_bytes seek=$((${offsetMib} << 20)) conv=notrunc,fsync; sync`,
  )
}

async function assertImageIsMachine(
  place: Place,
  guest: Guest,
  { digest }: Captured,
  disks: readonly number[],
  told: string,
): Promise<void> {
  for (const index of disks) {
    const image = await imageDisk(place, digest, index)
    await assertSameDisk(image, await machineDisk(place, guest.id, index), `disk ${index} in ${told}`)
  }
}

test(`${KILL_COUNT} kills of the server within a capture: nothing is left, the guest goes on, the next is right`, async (t) => {
  const seed = newSeed(t)
  const random = seededRandom(seed)
  const place = await newDebianPlace(t)
  const base = await importDebian(place)
  const guest = await launch(place, base.id, 'survivor', [{ sizeBytes: 64 * MIB }, { sizeBytes: 64 * MIB }])
  await write(guest, 0)
  await capture(place, guest.id, 'best')
  await write(guest, 32)
  const startedMs = performance.now()
  await capture(place, guest.id, 'best')
  const captureMs = performance.now() - startedMs

  const meetings = new Map<string, number>()
  for (let round = 0; round < KILL_COUNT; round++) {
    const told = `round ${round} of seed ${seed}`
    await write(guest, Math.floor(random() * 62))
    const begun = await beginCapture(place, guest.id, 'best')
    if (round % 2 === 0) {
      // The guest is frozen for a tenth of a second, which kills at any time would hardly meet.
      await until('the guard', async () => (await guardsOf(place)).length > 0 || undefined)
      await delay(random() * GUARD_MS)
    } else {
      await delay(random() * captureMs)
    }
    await place.kill()
    const isGuarded = (await guardsOf(place)).length > 0
    await place.start()

    const captured = await endCapture(place, begun)
    const met = isGuarded ? 'guarded' : captured.task.attemptCount === 1 ? 'ended' : 'at work'
    meetings.set(met, (meetings.get(met) ?? 0) + 1)
    await assertNothingOnMachine(place, guest.id)
    await assertThawed(place, guest.id)
    // What is frozen is written to by the freeze itself; the third disk has no file system.
    await assertImageIsMachine(place, guest, captured, [2], told)

    await write(guest, Math.floor(random() * 62))
    const next = await capture(place, guest.id, 'crash')
    // What is wrong with a disk is wrong in the next image as well, which takes from this one what has not changed.
    const disks = round % 3 === 0 || round === KILL_COUNT - 1 ? [0, 1, 2] : [2]
    await assertImageIsMachine(place, guest, next, disks, `the capture after ${told}`)
    for (const disk of next.output.disks)
      assert.equal(disk.way, 'changes', `${told}: ${JSON.stringify(disk)}`)
    await assertNothingOnMachine(place, guest.id)
  }
  t.diagnostic(
    `a capture takes ${Math.round(captureMs)} ms; met ${JSON.stringify(Object.fromEntries(meetings))}`,
  )
})
