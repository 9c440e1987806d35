import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openNbd } from '../disk/nbd-client.ts'
import { ALL_OPERATIONS } from '../image/cleaning.ts'
import { isFault } from '../image/fault.ts'
import { refuse } from '../volume/refuse.ts'
import {
  appliances,
  clean,
  contentOf,
  EXT4,
  expected,
  file,
  ground,
  LOCKED,
  MIB,
  NTFS,
  refusedAs,
  SIZE_BYTES,
  SWAP,
} from './toy-ground.fixture.ts'
import { VolumeFault } from './volume-fault.ts'

test('two disks: what is private is gone, all else is as it was, the sources too', async (t) => {
  const at = await ground(t, [[NTFS, EXT4, SWAP], [EXT4]])
  const { start, started } = appliances()
  const phases: string[] = []
  const { cleaner, cleaned } = await clean(at, {
    startAppliance: start,
    onPhase: (phase) => phases.push(phase),
  })
  assert.deepEqual(phases, ['look', 'appliance', 'plan', 'edit', 'scrub', 'check'])
  const [first, second] = at.contents
  assert.ok(first && second)
  assert.ok((await contentOf(cleaned, 0)).equals(expected(first, [NTFS, EXT4, SWAP])))
  assert.ok((await contentOf(cleaned, 1)).equals(expected(second, [EXT4])))
  assert.equal(started.length, 1)
  assert.ok((started[0]?.endCount ?? 0) > 0)

  const { report } = cleaned
  assert.deepEqual(
    report.volumes.map(({ diskIndex, partition, outcome }) => [diskIndex, partition, outcome]),
    [
      [0, 1, 'cleaned'],
      [0, 2, 'cleaned'],
      [0, 3, 'cleaned'],
      [1, 2, 'cleaned'],
    ],
  )
  assert.equal(report.volumes[0]?.label, 'toy\ufffd')
  assert.deepEqual([report.removedFileCount, report.removedBytes], [3, 5000 + 2 * 70_000])
  assert.equal(report.gapBytes, 2 * (MIB - 512))
  assert.equal(report.tools.kernel, '1.2.3')
  assert.ok(report.tools.calotype && report.tools.qemu)
  assert.equal(report.madeAt, '1970-01-01T00:00:00.000Z')
  for (const phase of phases) assert.ok(report.phases[phase] !== undefined)

  await cleaner.close('task1')
  await at.assertNothingLeft()
  await at.assertSourcesSame()
})

test('what the export does not call changed is as in the source; what is zero is a hole', async (t) => {
  const at = await ground(t, [[NTFS]])
  const { cleaner, cleaned } = await clean(at)
  const [disk] = cleaned.disks
  const [source] = at.contents
  assert.ok(disk && source)
  const client = await openNbd(disk, { contexts: [disk.changes.name] })
  const content = await client.read(0, client.sizeBytes)
  let sameBytes = 0
  for (const { offset, lengthBytes, status } of await client.statuses(disk.changes.name, 0, SIZE_BYTES)) {
    if (status >= 1 && status <= disk.changes.most) continue
    sameBytes += lengthBytes
    assert.ok(
      content.subarray(offset, offset + lengthBytes).equals(source.subarray(offset, offset + lengthBytes)),
    )
  }
  assert.ok(sameBytes > 3 * MIB, `${sameBytes} bytes are told to be the same`)
  const holes = await client.extents(5 * MIB, MIB)
  assert.deepEqual(holes[0], { offset: 5 * MIB, lengthBytes: MIB - 4096, holds: 'zero' })
  await client.close()
  await cleaner.close('task1')
})

test('a dry run plans, and leaves nothing behind', async (t) => {
  const at = await ground(t, [[NTFS, EXT4]])
  const phases: string[] = []
  const { cleaned } = await clean(at, { isDryRun: true, onPhase: (phase) => phases.push(phase) })
  assert.deepEqual(phases, ['look', 'appliance', 'plan'])
  assert.deepEqual(cleaned.disks, [])
  assert.deepEqual([cleaned.report.isDryRun, cleaned.report.removed.length], [true, 2])
  assert.equal(cleaned.report.scrubbedBytes, 0)
  await at.assertNothingLeft()
})

test('what cannot be cleaned is refused, by disk and partition, with what to do', async (t) => {
  const cases = [
    {
      volume: LOCKED,
      reason: 'encrypted',
      words: /^Disk 0, partition 4 \(BitLocker\).*Decrypt.*--best-effort/,
    },
    { volume: { ...NTFS, refusal: 'dirty' }, reason: 'dirty', words: /partition 1 \(NTFS\): It is a toy\./ },
    {
      volume: { ...NTFS, isPlanRefused: true },
      reason: 'damaged',
      words: /partition 1 .*Its plan is a toy\./,
    },
  ] as const
  for (const { volume, reason, words } of cases) {
    const at = await ground(t, [[volume]])
    await assert.rejects(clean(at), refusedAs(reason, words))
    await at.assertNothingLeft()
  }
  const at = await ground(t, [[EXT4]])
  const startAppliance = appliances(['It is damaged.']).start
  await assert.rejects(clean(at, { startAppliance }), refusedAs('damaged', /partition 2 .*It is damaged\./))
  await at.assertNothingLeft()
})

test('with best effort it is left as it is, told and warned of', async (t) => {
  const odd = [{ ...NTFS, isPlanRefused: true }, EXT4, SWAP, LOCKED]
  const at = await ground(t, [
    odd,
    [
      { ...NTFS, refusal: 'dirty' as const },
      { ...EXT4, isDirty: false },
    ],
  ])
  const operations = ALL_OPERATIONS.filter((name) => name !== 'swap')
  const { cleaner, cleaned } = await clean(at, {
    wish: { isBestEffort: true, operations },
    startAppliance: appliances(['clean', 'It is damaged.']).start,
  })
  const [first, second] = at.contents
  assert.ok(first && second)
  assert.ok((await contentOf(cleaned, 0)).equals(expected(first, [EXT4])))
  assert.ok((await contentOf(cleaned, 1)).equals(expected(second, [])))
  const outcomes = cleaned.report.volumes.map(({ outcome }) => outcome)
  assert.deepEqual(outcomes, ['left', 'cleaned', 'left', 'left', 'left', 'left'])
  assert.equal(cleaned.report.warnings.length, 4)
  assert.ok(cleaned.report.volumes.every(({ outcome, why }) => (outcome === 'left') === (why !== '')))
  await cleaner.close('task1')
})

test('secrets in what is kept refuse the image, if that is the wish', async (t) => {
  const files = Object.fromEntries(Array.from({ length: 7 }, (_, index) => [`secret${index}`, file(8192, 1)]))
  const at = await ground(t, [[{ ...NTFS, files }]])
  await assert.rejects(
    clean(at, { wish: { onSecrets: 'refuse' } }),
    refusedAs('secrets', /\/secret0 \(toy key\), .*\/secret4 \(toy key\) and 2 more/),
  )
  await at.assertNothingLeft()
  const { cleaner, cleaned } = await clean(at, { isDryRun: true })
  assert.equal(cleaned.report.secrets.length, 7)
  await cleaner.close('task1')
})

test('an appliance that says done and does nothing makes no image', async (t) => {
  const at = await ground(t, [[EXT4]])
  const startAppliance = appliances([], async () => {}).start
  await assert.rejects(
    clean(at, { startAppliance }),
    (error) => isFault(error, 'corrupt') && /found 1 things/.test(error.message),
  )
  await at.assertNothingLeft()
})

test('what is refused while it is changed is told with its place; with best effort it is left', async (t) => {
  const full = async () => {
    throw new VolumeFault(refuse('full', 'It is full.'), 1)
  }
  const at = await ground(t, [[NTFS, EXT4], [EXT4]])
  await assert.rejects(
    clean(at, { startAppliance: appliances([], full).start }),
    refusedAs('full', /^Disk 1, partition 2 \(ext4\): It is full\. .*--best-effort/),
  )
  await at.assertNothingLeft()

  let applyCount = 0
  const once = async () => {
    if (applyCount++ === 0) await full()
  }
  const { start } = appliances([], once)
  const wish = { isBestEffort: true }
  await assert.rejects(clean(at, { startAppliance: start, wish }), (error) => isFault(error, 'corrupt'))
  assert.equal(applyCount, 2)

  const odd = (at: 'plan' | 'apply' | 'scrub') => ({
    ...NTFS,
    misdeed: { at, does: at === 'scrub' ? 'heap' : 'refuse' } as const,
  })
  for (const moment of ['plan', 'apply', 'scrub'] as const) {
    const place = await ground(t, [[odd(moment), SWAP]])
    const limits = { memoryBytes: 300 * MIB }
    await assert.rejects(
      clean(place, { limits }),
      refusedAs(
        moment === 'scrub' ? 'too-large' : 'damaged',
        /^Disk 0, partition 1 \(NTFS\): .*--best-effort/,
      ),
    )
    const { cleaner, cleaned } = await clean(place, { wish, limits })
    const [content] = place.contents
    assert.ok(content && (await contentOf(cleaned, 0)).equals(expected(content, [SWAP])))
    assert.deepEqual(
      cleaned.report.volumes.map(({ outcome }) => outcome),
      ['left', 'cleaned'],
    )
    await cleaner.close('task1')
  }
})
