import assert from 'node:assert/strict'
import { copyFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { markNtfsDirty, writeStart } from '../disks/hostile.ts'
import { withNtfs } from '../disks/mounted.ts'
import { buildNtfs } from '../disks/ntfs.ts'
import { Tokens } from '../disks/tokens.ts'
import { newSeed } from '../live/seed.ts'
import { assertNothingLeft } from './left.ts'
import { captureClean, createCleanImage, newFilesPlace, reportOf } from './place.ts'

const MIB = 1024 ** 2

/** The machine's name, and what it is told. */
const REFUSED: Readonly<Record<string, RegExp>> = {
  hibernated: /hibernat/i,
  dirty: /NTFS.*(chkdsk|shut it down|start Windows)/i,
  bitlocker: /BitLocker/,
  luks: /LUKS/,
  unknown: /unknown file system/,
}

test('what cannot be cleaned makes no image and says what to do', async (t) => {
  const tokens = new Tokens(newSeed(t))
  const place = await newFilesPlace(t, async (machines) => {
    const path = (name: string) => join(machines, `${name}.raw`)
    await buildNtfs({ path: path('dirty'), sizeBytes: 64 * MIB, tokens, isData: true })
    await copyFile(path('dirty'), path('hibernated'))
    await markNtfsDirty(path('dirty'))
    const image = Buffer.alloc(MIB, tokens.newGone('memory'))
    await withNtfs(path('hibernated'), async (mounted) => {
      image.write('hibr')
      await writeFile(join(mounted, 'hiberfil.sys'), image)
    })
    await writeStart(path('bitlocker'), 32 * MIB, '\xeb\x58\x90-FVE-FS-')
    await writeStart(path('luks'), 32 * MIB, Buffer.from('LUKS\xba\xbe\x00\x02', 'latin1'))
    await writeStart(path('unknown'), 32 * MIB, tokens.newGone('raw'), 2 * MIB)
  })
  for (const [name, told] of Object.entries(REFUSED)) {
    await t.test(name, async () => {
      const { image, task } = await createCleanImage(place, (await place.machine(name)).id, name)
      assert.equal(task.state, 'failed')
      assert.match(task.reason ?? '', told)
      assert.doesNotMatch(task.reason ?? '', /CNRY|KEEP/)
      assert.equal(image.state, 'failed')
      assert.equal(image.digest, null)
    })
  }
  await t.test('what cannot be cleaned is left as it is where that is asked for, and told', async () => {
    const { id } = await place.machine('luks')
    const { report } = await reportOf(place, await captureClean(place, id, 'left', { bestEffort: true }))
    assert.deepEqual(
      report.volumes.map(({ title, outcome }) => [title, outcome]),
      [['LUKS', 'left']],
    )
    assert(report.warnings.some((one) => /LUKS/.test(one)))
  })
  await assertNothingLeft(place, tokens)
})
