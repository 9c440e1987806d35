import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { inspect } from 'node:util'
import { makeFolder, startTool } from '../disk/fixture.ts'
import { isFault } from '../image/fault.ts'
import { type CleanerLimits, createCleaner } from './cleaner.ts'
import type { CleanSource } from './contract.ts'
import { DEBIAN, diskOf, linuxVolume, loaderVolume, windowsVolume } from './detect.fixture.ts'
import { parseFinding } from './examiner-answers.ts'
import { type Misdeed, type ToyVolume, toyDisk } from './toy-disk.fixture.ts'
import { ENTRY_PATH, MIB, NTFS, never, sha256 } from './toy-ground.fixture.ts'

interface Ground {
  readonly base: string
  readonly folder: string
  readonly runDirectory: string
}

async function newGround(t: TestContext): Promise<Ground> {
  const base = await makeFolder(t)
  const [folder, runDirectory] = [join(base, 'c'), join(base, 'r')]
  await mkdir(folder)
  return { base, folder, runDirectory }
}

/** A read-only export of a file, under a name that needs care. */
async function served(t: TestContext, { base }: Ground, path: string, name: string): Promise<CleanSource> {
  const socketPath = join(base, `s${name.length}`)
  const args = ['-r', '-t', '-e', '0', '-f', 'raw', '-x', name, '-k', socketPath, path]
  await startTool(t, 'qemu-nbd', args, socketPath)
  return { sizeBytes: (await readFile(path)).length, socketPath, exportName: name }
}

function cleanerOf(
  { folder, runDirectory }: Ground,
  limits: Partial<CleanerLimits> = {},
  entryPath?: string,
) {
  const log: Record<string, unknown>[] = []
  const startAppliance = async () => {
    throw new Error('none is needed')
  }
  const cleaner = createCleaner({
    ...{ folder, runDirectory, startAppliance, limits, log: (record) => log.push(record) },
    ...(entryPath !== undefined && { entryPath }),
  })
  return { cleaner, log }
}

async function assertNothingLeft({ folder, runDirectory }: Ground): Promise<void> {
  assert.deepEqual(await readdir(folder), [])
  assert.deepEqual(await readdir(runDirectory).catch(() => []), [])
}

async function toyDiskAt({ base }: Ground, name: string, volumes: readonly ToyVolume[]): Promise<string> {
  await writeFile(join(base, name), toyDisk(6 * MIB, volumes, []))
  return join(base, name)
}

test('the system of a machine with two disks, from exports of any name that nothing is written to', async (t) => {
  const at = await newGround(t)
  const loader = { path: await loaderVolume(at.base), sizeBytes: 2 * MIB, type: 'U' }
  const root = { path: await linuxVolume(at.base), sizeBytes: 4 * MIB, type: 'L' }
  const boot = await diskOf(join(at.base, 'boot'), 'gpt', [loader])
  const system = await diskOf(join(at.base, 'system'), 'dos', [root], 'code')
  const before = sha256(await readFile(system))
  const disks = [await served(t, at, boot, '--n ä"\'$x'), await served(t, at, system, 'a/b.pid')]
  const { cleaner, log } = cleanerOf(at)
  assert.deepEqual(await cleaner.detect(disks, never), { osType: 'Linux', osName: DEBIAN, firmware: 'uefi' })
  assert.deepEqual(log, [])
  assert.equal(sha256(await readFile(system)), before)
  await assertNothingLeft(at)
})

test('a Windows with as large a registry as is read, within its memory', async (t) => {
  const at = await newGround(t)
  const volume = await windowsVolume(at.base, 64 * MIB)
  const { cleaner, log } = cleanerOf(at)
  assert.deepEqual(await cleaner.detect([await served(t, at, volume, 'w')], never), {
    osType: 'Windows',
    osName: 'Windows 11 Pro 23H2',
  })
  assert.deepEqual(log, [])
})

const misdeeds: readonly Misdeed[] = ['loop', 'bomb', 'throw', 'drivel']
test('a disk that takes the examiner over says nothing, and neither do those behind it', async (t) => {
  for (const does of misdeeds) {
    const at = await newGround(t)
    const good = await served(t, at, await toyDiskAt(at, 'good', [NTFS]), 'g')
    const evil = { ...NTFS, misdeed: { at: 'look', does } as const }
    const bad = await served(t, at, await toyDiskAt(at, 'bad', [evil]), 'bad')
    const { cleaner, log } = cleanerOf(at, does === 'loop' ? { detectMs: 1500 } : {}, ENTRY_PATH)
    assert.deepEqual(await cleaner.detect([good, bad, good], never), { osType: 'Windows' }, does)
    assert.deepEqual(
      log.map(({ level, message }) => [level, message]),
      [['info', 'disks could not be looked at']],
    )
    assert.doesNotMatch(inspect(log, { depth: 9 }), /canary/)
    await assertNothingLeft(at)
  }
})

test('without a server, or a way to shut the examiner in, nothing is said', async (t) => {
  const at = await newGround(t)
  const gone = { sizeBytes: MIB, socketPath: join(at.base, 'nobody'), exportName: 'x' }
  const { cleaner, log } = cleanerOf(at)
  assert.deepEqual(await cleaner.detect([gone], never), {})
  const disk = await served(t, at, await toyDiskAt(at, 'toy', [NTFS]), 'x')
  assert.deepEqual(await cleaner.detect([{ ...disk, exportName: 'another' }], never), {})
  const nothing = cleanerOf(at, {}, join(at.base, 'nothing-here.ts'))
  assert.deepEqual(await nothing.cleaner.detect([disk], never), {})
  assert.deepEqual([log.length, nothing.log[0]?.reason], [2, 'isolation'])
  await assertNothingLeft(at)
})

test("the signal's reason is all that is thrown", async (t) => {
  const at = await newGround(t)
  const evil = { ...NTFS, misdeed: { at: 'look', does: 'loop' } as const }
  const disk = await served(t, at, await toyDiskAt(at, 'bad', [evil]), 'x')
  const { cleaner, log } = cleanerOf(at, {}, ENTRY_PATH)
  const abort = new AbortController()
  const reason = new Error('enough')
  let isOver = false
  const detecting = cleaner.detect([disk], abort.signal).finally(() => {
    isOver = true
  })
  detecting.catch(() => {})
  // It has an examiner by then.
  while (!isOver && (await readdir(at.runDirectory).catch(() => [])).length === 0)
    await new Promise(setImmediate)
  abort.abort(reason)
  await assert.rejects(detecting, reason)
  await assert.rejects(cleaner.detect([disk], abort.signal), reason)
  assert.deepEqual(log, [])
  await assertNothingLeft(at)
})

test('an examiner without end that a killed service left goes with closeAll', async (t) => {
  const at = await newGround(t)
  const evil = { ...NTFS, misdeed: { at: 'look', does: 'loop' } as const }
  const disk = await served(t, at, await toyDiskAt(at, 'bad', [evil]), 'x')
  const { folder, runDirectory } = at
  const script = `import { createCleaner } from ${JSON.stringify(new URL('./cleaner.ts', import.meta.url).href)}
const options = ${JSON.stringify({ folder, runDirectory, entryPath: ENTRY_PATH })}
const cleaner = createCleaner({ ...options, startAppliance: async () => { throw new Error('none') } })
await cleaner.detect(${JSON.stringify([disk])}, new AbortController().signal)`
  const service = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: 'ignore' })
  const exit = once(service, 'exit')
  while (service.exitCode === null && (await readdir(runDirectory).catch(() => [])).length === 0)
    await new Promise(setImmediate)
  const [name = ''] = await readdir(runDirectory)
  const path = join(runDirectory, name)
  let pid = ''
  while (service.exitCode === null && pid === '') pid = await readFile(path, 'utf8')
  service.kill('SIGKILL')
  await exit
  await cleanerOf(at).cleaner.closeAll()
  await assertNothingLeft(at)
  // Nobody may have asked yet how it ended: then it is there without a command.
  assert.equal(await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => ''), '')
})

test('what an examiner says is taken apart with distrust', () => {
  const finding = { osType: 'Linux', osName: 'a\u001b]0;b', firmware: 'uefi', isSystem: true, more: 1 }
  assert.deepEqual(parseFinding(finding), {
    ...{ osType: 'Linux', osName: 'a ]0;b', firmware: 'uefi', isSystem: true },
  })
  assert.deepEqual(parseFinding({ osName: 'x'.repeat(129), isSystem: false }), { isSystem: false })
  const strange = [null, [], {}, { isSystem: 1 }, { osType: 'BeOS', isSystem: true }]
  for (const value of [...strange, { firmware: 'x', isSystem: true }, { osName: 7, isSystem: true }])
    assert.throws(
      () => parseFinding(value),
      (error) => isFault(error, 'unavailable') && error.reason === 'examiner',
    )
})
