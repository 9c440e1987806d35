import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { test } from 'node:test'
import { inspect } from 'node:util'
import { isFault } from '../image/fault.ts'
import { createCleaner } from './cleaner.ts'
import type { CleaningPhase } from './contract.ts'
import type { Misdeed, Moment } from './toy-disk.fixture.ts'
import {
  appliances,
  clean,
  cleanerOn,
  contentOf,
  ENTRY_PATH,
  EXT4,
  expected,
  ground,
  MIB,
  NTFS,
  never,
  refusedAs,
  SIZE_BYTES,
  WISH,
} from './toy-ground.fixture.ts'

const misdeeds: [Misdeed, Moment, string][] = [
  ['die', 'look', 'damaged'],
  ['throw', 'plan', 'damaged'],
  ['refuse', 'scrub', 'damaged'],
  ['babble', 'apply', 'damaged'],
  ['loop', 'scrub', 'too-large'],
  ['bomb', 'plan', 'too-large'],
  ['heap', 'check', 'too-large'],
]
for (const [does, moment, reason] of misdeeds) {
  test(`a disk that makes the examiner ${does} at ${moment} ends in a refusal, and nothing is left`, async (t) => {
    const at = await ground(t, [[{ ...NTFS, misdeed: { at: moment, does } }]])
    const limits = { memoryBytes: 300 * MIB, ...(does === 'loop' && { askMs: 2_000 }) }
    const { cleaner, log } = cleanerOn(at, { limits })
    const request = { key: 'task1', disks: at.sources, wish: WISH, isDryRun: false }
    await assert.rejects(
      cleaner.clean(request, () => {}, never),
      refusedAs(reason, /./),
    )
    assert.doesNotMatch(inspect(log, { depth: 9 }), /canary/)
    const [record] = log as { level: string; message: string }[]
    assert.deepEqual([log.length, record?.level, record?.message], [1, 'warn', 'a cleaning failed'])
    await at.assertNothingLeft()
    await at.assertSourcesSame()
  })
}

test('an examiner that answers what makes no sense', async (t) => {
  const at = await ground(t, [[{ ...NTFS, misdeed: { at: 'look', does: 'drivel' } }]])
  await assert.rejects(clean(at), (error) => isFault(error, 'unavailable') && error.reason === 'examiner')
  await at.assertNothingLeft()
})

test('an examiner that is killed from outside, or does not start, is no fault of a disk', async (t) => {
  const at = await ground(t, [[{ ...NTFS, misdeed: { at: 'scrub', does: 'fall' } }]])
  const isTold = (error: unknown) => isFault(error, 'unavailable') && error.subject === 'host'
  await assert.rejects(clean(at), isTold)
  await at.assertNothingLeft()
  const { folder, runDirectory } = at
  const entryPath = join(import.meta.dirname, 'prisoner.fixture.ts')
  const cleaner = createCleaner({ folder, runDirectory, entryPath, startAppliance: appliances().start })
  const request = { key: 'task1', disks: [], wish: WISH, isDryRun: false }
  await assert.rejects(
    cleaner.clean(request, () => {}, never),
    isTold,
  )
  await at.assertNothingLeft()
})

for (const phase of ['look', 'appliance', 'plan', 'edit', 'scrub', 'check'] as const) {
  test(`an abort at ${phase} leaves nothing`, async (t) => {
    const at = await ground(t, [[NTFS, EXT4]])
    const abort = new AbortController()
    const reason = new Error('enough')
    const onPhase = (now: CleaningPhase) => {
      if (now === phase) abort.abort(reason)
    }
    await assert.rejects(clean(at, { onPhase, signal: abort.signal }), reason)
    await at.assertNothingLeft()
    await at.assertSourcesSame()
  })
}

test('an abort while the examiner works, and one before anything', async (t) => {
  const at = await ground(t, [[{ ...NTFS, misdeed: { at: 'plan', does: 'loop' } }]])
  const abort = new AbortController()
  const reason = new Error('enough')
  // It is in its endless loop, or on the way to it.
  const onPhase = (now: CleaningPhase) => {
    if (now === 'plan') setImmediate(() => abort.abort(reason))
  }
  await assert.rejects(clean(at, { onPhase, signal: abort.signal }), reason)
  await assert.rejects(clean(at, { signal: abort.signal }), reason)
  await at.assertNothingLeft()
})

test('what a service that was killed left, an examiner without end too, goes with closeAll', async (t) => {
  const at = await ground(t, [[{ ...NTFS, misdeed: { at: 'plan', does: 'loop' } }]])
  const { folder, runDirectory } = at
  const request = { key: 'task1', disks: at.sources, wish: WISH, isDryRun: false }
  const script = `import { createCleaner } from ${JSON.stringify(new URL('./cleaner.ts', import.meta.url).href)}
const options = ${JSON.stringify({ folder, runDirectory, entryPath: ENTRY_PATH })}
const cleaner = createCleaner({ ...options, startAppliance: async () => { throw new Error('none') } })
const never = new AbortController().signal
await cleaner.clean(${JSON.stringify(request)}, (phase) => console.log(phase), never)`
  const service = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let said = ''
  for await (const text of service.stdout) {
    said += text
    if (said.includes('plan')) break
  }
  const exit = once(service, 'exit')
  service.kill('SIGKILL')
  await exit
  await assert.rejects(at.assertNothingLeft())
  await cleanerOn(at).cleaner.closeAll()
  await at.assertNothingLeft()
})

test('the same key again takes the first one away; what a dead service left goes with closeAll', async (t) => {
  const at = await ground(t, [[NTFS]])
  await clean(at)
  const { cleaned } = await clean(at)
  const [source] = at.contents
  assert.ok(source)
  assert.ok((await contentOf(cleaned, 0)).equals(expected(source, [NTFS])))
  // Another cleaner over the same folders, as after a start.
  const { cleaner } = cleanerOn(at)
  await cleaner.closeAll()
  await at.assertNothingLeft()
  await cleaner.closeAll()
  await cleaner.close('task1')
})

test('so many at a time; who waits can give up', async (t) => {
  const at = await ground(t, [[NTFS]])
  const { cleaner } = cleanerOn(at, { limits: { cleaningCount: 1 } })
  const request = (key: string) => ({ key, disks: at.sources, wish: WISH, isDryRun: false })
  const begun: string[] = []
  const gaveUp = new AbortController()
  const results = [
    cleaner.clean(request('a'), (phase) => begun.push(`a ${phase}`), never),
    cleaner.clean(request('b'), (phase) => begun.push(`b ${phase}`), gaveUp.signal),
    cleaner.clean(request('c'), (phase) => begun.push(`c ${phase}`), never),
  ]
  const settled = Promise.allSettled(results)
  gaveUp.abort(new Error('waited enough'))
  // What it cleaned takes room until it is closed.
  await results[0]
  await cleaner.close('a')
  const outcomes = await settled
  assert.deepEqual(
    outcomes.map(({ status }) => status),
    ['fulfilled', 'rejected', 'fulfilled'],
  )
  const of = (key: string) => ['look', 'plan', 'edit', 'scrub', 'check'].map((phase) => `${key} ${phase}`)
  assert.deepEqual(begun, [...of('a'), ...of('c')])
  await cleaner.closeAll()
  await at.assertNothingLeft()
})

test('a turn taken before is kept, whatever becomes of the cleaning, until it is given back', async (t) => {
  const at = await ground(t, [[NTFS]])
  const { cleaner } = cleanerOn(at, { limits: { cleaningCount: 1 } })
  const request = (key: string, disks = at.sources) => ({ key, disks, wish: WISH, isDryRun: true })
  await cleaner.enter('a', never)
  await cleaner.enter('a', never)
  const gone = [{ sizeBytes: SIZE_BYTES, socketPath: join(at.folder, '..', 'nobody'), exportName: 'src' }]
  const noPhase = () => {}
  await assert.rejects(cleaner.clean(request('a', gone), noPhase, never))
  await cleaner.clean(request('a'), noPhase, never)
  const gaveUp = new AbortController()
  const waiting = cleaner.enter('b', gaveUp.signal)
  const next = cleaner.enter('c', never)
  gaveUp.abort(new Error('waited enough'))
  await assert.rejects(waiting, /waited enough/)
  // It has no turn to give back.
  await cleaner.close('b')
  await cleaner.close('a')
  await next
  await cleaner.close('c')
  // Without having entered, only what is open keeps a turn.
  await assert.rejects(cleaner.clean(request('d', gone), noPhase, never))
  await cleaner.clean(request('e'), noPhase, never)
  await cleaner.enter('f', never)
  await at.assertNothingLeft()
})

test('layers that grow beyond their room end the cleaning as full', async (t) => {
  const at = await ground(t, [[{ ...NTFS, misdeed: { at: 'plan', does: 'loop' } }]])
  await assert.rejects(clean(at, { limits: { roomBytes: 1 } }), (error) => isFault(error, 'full'))
  await at.assertNothingLeft()
})

test('a source that is not served is told as such', async (t) => {
  const at = await ground(t, [[NTFS]])
  const sources = [{ sizeBytes: SIZE_BYTES, socketPath: join(at.folder, '..', 'nobody'), exportName: 'src' }]
  await assert.rejects(clean({ ...at, sources }), (error) => isFault(error, 'unavailable'))
  await at.assertNothingLeft()
})

test('a source that goes away ends the cleaning as what may pass', async (t) => {
  const at = await ground(t, [[NTFS]])
  const [source] = at.sources
  assert.ok(source)
  const onPhase = (now: CleaningPhase) => {
    if (now === 'scrub') at.endSource(0)
  }
  const mayPass = (error: unknown) =>
    isFault(error, 'unavailable') && error.subject === 'disk' && error.reason === 'EIO'
  await assert.rejects(clean(at, { onPhase }), mayPass)
  await at.assertNothingLeft()
})
