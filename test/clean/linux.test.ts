import assert from 'node:assert/strict'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { buildLinux, type LinuxDisk } from '../disks/linux.ts'
import { Tokens } from '../disks/tokens.ts'
import { digestOf } from '../disks/tree.ts'
import { newSeed } from '../live/seed.ts'
import { assertNothingLeft, assertStoreIsClean } from './left.ts'
import { assertCleanLinux } from './linux-checks.ts'
import { createCleanImage, exportDisk, newFilesPlace, reportOf } from './place.ts'

const MIB = 1024 ** 2
/** Some of what the report has to tell. */
const PATHS = ['/home/alice', '/home/李雷', '/etc/machine-id', '/swap.img']

test('CreateImage with AutoCleanUserdata takes the users out of a Linux, its swap and its data disk', async (t) => {
  const tokens = new Tokens(newSeed(t))
  const disks: LinuxDisk[] = []
  const place = await newFilesPlace(t, async (machines) => {
    const folder = join(machines, 'linux')
    await mkdir(folder)
    const system = { path: join(folder, '1-system.raw'), sizeBytes: 320 * MIB, swapBytes: 16 * MIB }
    disks.push(await buildLinux({ ...system, tokens, hasHistory: true }))
    const data = { path: join(folder, '2-data.raw'), sizeBytes: 96 * MIB, blockBytes: 1024 }
    disks.push(await buildLinux({ ...data, tokens, isData: true, hasHistory: true, needsReplay: true }))
  })
  const before = await Promise.all(disks.map(({ path }) => digestOf(path)))
  const { id } = await place.machine('linux')

  const { image, task } = await createCleanImage(place, id, 'cleaned')
  assert.equal(task.state, 'done', task.reason ?? '')
  t.diagnostic(JSON.stringify(task.output))

  await t.test('nothing that had to go is in the image, everything else is whole', async () => {
    for (const [index, disk] of disks.entries()) {
      const path = join(place.folder, `${index}.raw`)
      await exportDisk(place, image, index, path)
      await assertCleanLinux(path, disk, tokens)
    }
  })

  await t.test('its report tells what went, and no name beneath it', async () => {
    const { report, signature } = await reportOf(place, image)
    assert.equal(signature.algorithm, 'ed25519')
    const paths = report.removed.map(({ path }) => path)
    for (const path of PATHS) assert(paths.includes(path), `${path} is not among ${paths.join(', ')}`)
    assert(report.volumes.every(({ outcome }) => outcome === 'cleaned'))
    // The name of an account is all that may be told.
    assert.doesNotMatch(JSON.stringify(report), /CNRY-(?!user)|KEEP-/)
  })

  await t.test('nor in the store, a scratch folder or a log', async () => {
    await assertStoreIsClean(place, tokens)
    await assertNothingLeft(place, tokens)
  })

  await t.test('the source is as it was', async () => {
    assert.deepEqual(await Promise.all(disks.map(({ path }) => digestOf(path))), before)
  })
})
