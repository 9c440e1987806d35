import assert from 'node:assert/strict'
import { mkdtemp, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { Place } from '../e2e/harness.ts'
import { bootCopy } from './boot-copy.ts'
import { type Captured, capture } from './captures.ts'
import { importDebian, launch, newDebianPlace, ROOT_START_BYTES } from './debian.ts'
import { assertClean, copyDisk, imageDisk, textOf } from './disks.ts'
import { assertNothingOnMachine, assertThawed } from './left.ts'

const MIB = 1024 ** 2
const CAPTURE_COUNT = 20
/** Of all images in equal steps. A boot takes 15 s of a core; CALOTYPE_TEST_BOOTS=20 boots every one. */
const BOOT_COUNT = Number(process.env.CALOTYPE_TEST_BOOTS ?? 4)

const countOf = (text: string) => Number(/^(\d{12})\n/.exec(text)?.[1])

/** What the writer had written on each disk, from the files of an image's disks, which need no repair. */
async function countersOf(place: Place, { digest }: Captured, folder: string): Promise<number[]> {
  const [system, data, raw] = ['system', 'data', 'raw'].map((name) => join(folder, `${name}.raw`)) as [
    string,
    string,
    string,
  ]
  for (const [index, path] of [system, data, raw].entries()) {
    await copyDisk(await imageDisk(place, digest, index), path)
  }
  await assertClean(system, ROOT_START_BYTES)
  await assertClean(data)
  return [
    countOf(await textOf(system, '/var/lib/writer/counter', ROOT_START_BYTES)),
    countOf(await textOf(data, '/writer/counter')),
    countOf(await firstSector(raw)),
  ]
}

async function firstSector(path: string): Promise<string> {
  const file = await open(path)
  try {
    return (await file.read(Buffer.alloc(512), 0, 512, 0)).buffer.toString('latin1')
  } finally {
    await file.close()
  }
}

test('twenty captures of a guest that keeps its disks in lock-step', async (t) => {
  const place = await newDebianPlace(t)
  const base = await importDebian(place)
  const guest = await launch(place, base.id, 'writer', [
    { sizeBytes: 256 * MIB },
    { sizeBytes: 16 * MIB, bus: 'virtio-scsi' },
  ])
  const folder = await mkdtemp(join(tmpdir(), 'calo-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  const captures: Captured[] = []

  await t.test('in a row, under its writing, each with the file systems frozen for a moment', async (t) => {
    await guest.run('systemctl start writer; until grep -q . /data/writer/counter; do sleep 0.1; done')
    for (let i = 0; i < CAPTURE_COUNT; i++) {
      const captured = await capture(place, guest.id, 'filesystem')
      const { consistency, frozenMs, pausedMs } = captured.output
      assert.equal(consistency, 'filesystem')
      assert(frozenMs > 0 && pausedMs > 0, JSON.stringify(captured.output))
      assert.equal(captured.image.consistency, 'filesystem')
      captures.push(captured)
    }
    const told = (pick: (captured: Captured) => number) =>
      captures.map((one) => Math.round(pick(one))).join(' ')
    t.diagnostic(`frozen for ${told((one) => one.output.frozenMs)} ms`)
    t.diagnostic(`paused for ${told((one) => one.output.pausedMs)} ms`)
    assert.match(await guest.run('systemctl is-active writer'), /^active$/)
    await assertNothingOnMachine(place, guest.id)
    await assertThawed(place, guest.id)
    await guest.run('systemctl stop writer')
  })

  await t.test('no pair is torn, every file system is clean, and images boot', async (t) => {
    const counters: number[][] = []
    const bootsUntil = (count: number) => Math.floor((count * BOOT_COUNT) / CAPTURE_COUNT)
    for (const [i, captured] of captures.entries()) {
      counters.push(await countersOf(place, captured, folder))
      if (bootsUntil(i + 1) > bootsUntil(i)) await bootCopy(folder)
    }
    t.diagnostic(`counters ${counters.map((each) => each.join('/')).join(' ')}`)
    let last = 0
    for (const [system = 0, data = 0, raw = 0] of counters) {
      const told = counters.join(' ')
      assert(system >= data && data >= raw && raw >= system - 1, told)
      assert(raw > last, `the guest went on between captures: ${told}`)
      last = system
    }
  })
})
