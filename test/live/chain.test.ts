import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { WantedConsistency } from '../../src/image/consistency.ts'
import type { Place } from '../e2e/harness.ts'
import { type Captured, type CaptureOutput, capture } from './captures.ts'
import { type Guest, importDebian, launch, newDebianPlace, untilState } from './debian.ts'
import { assertSameDisk, imageDisk, machineDisk } from './disks.ts'
import { assertNothingOnMachine, assertThawed } from './left.ts'

const MIB = 1024 ** 2
const WRITTEN_BYTES = 8 * MIB
/** What is read may be so many times what the guest wrote: chunks are 256 KiB, and file systems write their tables too. */
const READ_RATIO_MAX = 1.5
const CHANGED_COUNT = 5

/**
 * Beside the system disk. No file system of theirs is mounted, so that a freeze, which writes to what it freezes, leaves
 * them alone.
 */
const DISKS = [
  { sizeBytes: 256 * MIB, bus: 'virtio-blk' },
  { sizeBytes: 64 * MIB, bus: 'virtio-scsi' },
] as const
const UNFROZEN = [1, 2] as const

async function writeRandom(guest: Guest, number: number): Promise<void> {
  const dd = 'dd if=/dev/urandom bs=1M count=8 2>/dev/null'
  // Nothing of it is aligned to our chunks, and each number writes elsewhere.
  const seek = (stepMib: number) => `oflag=seek_bytes seek=$(((${number} * ${stepMib} << 20) + 12288))`
  await guest.run(
    `${dd} of=/root/file-${number}; ${dd} of=/dev/vdb conv=notrunc,fsync ${seek(21)}; ` +
      `${dd} of=/run/raw-disk conv=notrunc,fsync ${seek(5)}; sync`,
  )
}

/** An idle guest's disks are still what they were at the moment of the capture. */
async function assertImageIsMachine(
  place: Place,
  guest: Guest,
  { digest }: Captured,
  disks: readonly number[],
): Promise<void> {
  for (const index of disks) {
    const [image, machine] = [
      await imageDisk(place, digest, index),
      await machineDisk(place, guest.id, index),
    ]
    await assertSameDisk(image, machine, `disk ${index}`)
  }
}

function assertReadChangesAlone({ disks }: CaptureOutput, what: string): void {
  for (const { way, why, readBytes } of disks) {
    const told = `${what}: ${JSON.stringify(disks)}`
    assert.equal(way, 'changes', `${told} ${why}`)
    assert(readBytes >= WRITTEN_BYTES && readBytes <= READ_RATIO_MAX * WRITTEN_BYTES, told)
  }
}

test('a chain of captures: each is the disks at its moment, and reads what changed alone', async (t) => {
  const place = await newDebianPlace(t)
  const base = await importDebian(place)
  const guest = await launch(place, base.id, 'chain', DISKS)
  await guest.run('umount /data')
  let number = 0

  /** A freeze writes to the file system, so the system disk is compared where none was asked for. */
  const next = async (consistency: WantedConsistency): Promise<Captured> => {
    await writeRandom(guest, number++)
    const captured = await capture(place, guest.id, consistency)
    const { output } = captured
    assert.equal(output.consistency, consistency === 'crash' ? 'crash' : 'filesystem', output.consistencyWhy)
    assert.equal(output.frozenMs > 0, consistency !== 'crash')
    await assertImageIsMachine(place, guest, captured, consistency === 'crash' ? [0, 1, 2] : UNFROZEN)
    await assertNothingOnMachine(place, guest.id)
    return captured
  }

  await t.test('the first reads what the machine has of its own', async () => {
    const { output } = await next('best')
    assert.deepEqual(
      output.disks.map(({ way }) => way),
      ['own', 'all', 'all'],
      JSON.stringify(output.disks),
    )
  })

  await t.test('the next five read what changed', async () => {
    for (let i = 0; i < CHANGED_COUNT; i++) {
      const { output } = await next(i % 2 === 0 ? 'crash' : 'filesystem')
      assertReadChangesAlone(output, `capture ${i}`)
    }
  })

  await t.test('so does the next after the server was killed', async () => {
    await place.killAndRestart()
    const { output } = await next('crash')
    assertReadChangesAlone(output, 'after the kill')
    await assertThawed(place, guest.id)
  })

  await t.test('and the next of the machine that was shut down', async () => {
    await writeRandom(guest, number++)
    await place.server.native.call('POST', `/v1/machines/${guest.id}/stop`, {
      body: { region: 'cn-hangzhou' },
    })
    await untilState(place, guest.id, 'stopped')
    const captured = await capture(place, guest.id, 'application')
    assert.deepEqual(
      captured.output.disks.map(({ way }) => way),
      ['changes', 'changes', 'changes'],
      JSON.stringify(captured.output.disks),
    )
    assert.equal(captured.output.consistency, 'application')
    await assertImageIsMachine(place, guest, captured, [0, 1, 2])
  })
})
