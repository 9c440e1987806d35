import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { makeFolder, startTool } from '../disk/fixture.ts'
import { openNbd } from '../disk/nbd-client.ts'
import { ALL_OPERATIONS, type CleaningWish } from '../image/cleaning.ts'
import { isFault } from '../image/fault.ts'
import type { Appliance, ApplianceOptions, StartAppliance } from './appliance-contract.ts'
import { type CleanerLimits, createCleaner } from './cleaner.ts'
import type { Cleaned, CleaningPhase, CleanSource } from './contract.ts'
import { editHead, type ToyVolume, toyDisk } from './toy-disk.fixture.ts'

/** What tests of whole cleanings stand on: toy disks behind real exports, and an appliance of a few lines. */

export const MIB = 1024 * 1024
export const ENTRY_PATH = join(import.meta.dirname, 'toy-examiner.fixture.ts')
export const WISH: CleaningWish = { operations: ALL_OPERATIONS, isBestEffort: false, onSecrets: 'report' }
export const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')
export const never = new AbortController().signal
export const file = (offset: number, lengthBytes: number) => ({ offset, lengthBytes })

export const NTFS: ToyVolume = {
  ...{ partition: 1, kind: 'ntfs', title: 'NTFS', offset: MIB, lengthBytes: MIB },
  files: { kept: file(8192, 10_000), xprivate: file(40_000, 5000) },
}
export const EXT4: ToyVolume = {
  ...{ partition: 2, kind: 'ext4', title: 'ext4', offset: 2 * MIB, lengthBytes: MIB },
  ...{ files: { kept: file(5000, 100), xhome: file(70_000, 70_000) }, isDirty: true },
}
export const SWAP: ToyVolume = {
  ...{ partition: 3, kind: 'swap', title: 'Linux swap', offset: 3 * MIB, lengthBytes: MIB, files: {} },
}
export const LOCKED: ToyVolume = {
  ...{ partition: 4, kind: 'other', title: 'BitLocker', reason: 'encrypted' },
  ...{ offset: 4 * MIB, lengthBytes: MIB, files: {} },
}
export const SIZE_BYTES = 6 * MIB
export const GAPS = [file(5 * MIB, MIB - 512)]

export interface Ground {
  readonly sources: CleanSource[]
  readonly contents: Buffer[]
  readonly folder: string
  readonly runDirectory: string
  /** The server of a source is gone from now on. */
  endSource(index: number): void
  /** Throws if anything of a cleaning is left. */
  assertNothingLeft(): Promise<void>
  assertSourcesSame(): Promise<void>
}

export async function ground(t: TestContext, disks: readonly (readonly ToyVolume[])[]): Promise<Ground> {
  const base = await makeFolder(t)
  const [folder, runDirectory] = [join(base, 'c'), join(base, 'r')]
  for (const path of [folder, runDirectory]) await mkdir(path)
  const contents: Buffer[] = []
  const sources: CleanSource[] = []
  const servers: { kill(signal: 'SIGKILL'): void }[] = []
  for (const [index, volumes] of disks.entries()) {
    const [path, socketPath] = [join(base, `raw${index}`), join(base, `s${index}`)]
    const content = toyDisk(SIZE_BYTES, volumes, GAPS)
    contents.push(content)
    await writeFile(path, content)
    const args = ['-r', '-t', '-e', '0', '-f', 'raw', '-x', 'src', '-k', socketPath, path]
    servers.push(await startTool(t, 'qemu-nbd', args, socketPath))
    sources.push({ sizeBytes: SIZE_BYTES, socketPath, exportName: 'src' })
  }
  return {
    ...{ sources, contents, folder, runDirectory },
    endSource: (index) => servers[index]?.kill('SIGKILL'),
    async assertNothingLeft() {
      assert.deepEqual(await readdir(folder), [])
      assert.deepEqual(await readdir(runDirectory), [])
      assert.deepEqual(await processesOf(base, sources), [])
    },
    async assertSourcesSame() {
      for (const [index, content] of contents.entries())
        assert.equal(sha256(await readFile(join(base, `raw${index}`))), sha256(content))
    },
  }
}

/** Command lines that name the folder, but for those that serve the sources. */
async function processesOf(base: string, sources: readonly CleanSource[]): Promise<string[]> {
  const lines: string[] = []
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const line = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
    const isSource = sources.some(({ socketPath }) => line.includes(`${socketPath}\0`))
    if (line.includes(base) && !isSource) lines.push(line)
  }
  return lines
}

/** Changes toy heads through the overlays' exports, as the appliance changes file systems. */
class ToyAppliance implements Appliance {
  readonly bootMs = 5
  readonly tools = { kernel: '1.2.3' }
  readonly checks: string[] = []
  endCount = 0
  readonly #options: ApplianceOptions

  constructor(options: ApplianceOptions) {
    this.#options = options
  }

  async check(checks: readonly string[]): Promise<this> {
    for (const [volume] of this.#options.volumes.entries()) {
      await this.#edit(volume, [])
      this.checks.push(checks[volume] ?? 'clean')
    }
    return this
  }

  async apply(orders: Parameters<Appliance['apply']>[0]): Promise<void> {
    for (const { volume, edits } of orders) await this.#edit(volume, edits)
  }

  async end(): Promise<void> {
    this.endCount++
  }

  async #edit(volume: number, edits: Parameters<Appliance['apply']>[0][number]['edits']): Promise<void> {
    const place = this.#options.volumes[volume]
    const disk = place && this.#options.disks[place.diskIndex]
    assert.ok(place && disk)
    const client = await openNbd(disk)
    await client.write(place.offset, editHead(await client.read(place.offset, 4096), edits))
    await client.close()
  }
}

export function appliances(
  checks: readonly string[] = [],
  apply?: (appliance: Appliance, orders: Parameters<Appliance['apply']>[0]) => Promise<void>,
) {
  const started: ToyAppliance[] = []
  const start: StartAppliance = async (options) => {
    const appliance = new ToyAppliance(options)
    if (apply !== undefined) appliance.apply = (orders) => apply(appliance, orders)
    started.push(appliance)
    return await appliance.check(checks)
  }
  return { start, started }
}

export interface Run {
  readonly wish?: Partial<CleaningWish>
  readonly isDryRun?: boolean
  readonly signal?: AbortSignal
  readonly onPhase?: (phase: CleaningPhase) => void
  readonly limits?: Partial<CleanerLimits>
  readonly startAppliance?: StartAppliance
}

export function cleanerOn({ folder, runDirectory }: Ground, run: Run = {}) {
  const log: unknown[] = []
  const { startAppliance = appliances().start, limits = {} } = run
  const parts = { folder, runDirectory, startAppliance, limits, entryPath: ENTRY_PATH, nowMs: () => 0 }
  return { cleaner: createCleaner({ ...parts, log: (record) => log.push(record) }), log }
}

export async function clean(at: Ground, run: Run = {}) {
  const { cleaner, log } = cleanerOn(at, run)
  const { wish = {}, isDryRun = false, signal = never, onPhase = () => {} } = run
  const request = { key: 'task1', disks: at.sources, wish: { ...WISH, ...wish }, isDryRun }
  return { cleaner, log, cleaned: await cleaner.clean(request, onPhase, signal) }
}

export async function contentOf(cleaned: Cleaned, index: number): Promise<Buffer> {
  const disk = cleaned.disks[index]
  assert.ok(disk)
  const client = await openNbd(disk, { contexts: [disk.changes.name] })
  assert.ok(client.readOnly)
  const content = await client.read(0, client.sizeBytes)
  // What it does not call changed must be as it was, and most of it is holes.
  await client.close()
  return content
}

/** What a disk is to be once cleaned: heads without private names, kept files, zeroes. */
export function expected(content: Buffer, cleanedVolumes: readonly ToyVolume[]): Buffer {
  const result = Buffer.from(content)
  for (const { offset, lengthBytes } of GAPS) result.fill(0, offset, offset + lengthBytes)
  for (const { offset, lengthBytes, kind, files } of cleanedVolumes) {
    const isFiled = kind !== 'swap'
    result.fill(0, offset + 4096, offset + lengthBytes)
    if (!isFiled) continue
    const edits = Object.keys(files)
      .filter((name) => name.startsWith('x'))
      .map((name) => ({ is: 'remove', path: [name] }) as const)
    editHead(content.subarray(offset, offset + 4096), edits).copy(result, offset)
    for (const [name, run] of Object.entries(files)) {
      if (name.startsWith('x')) continue
      const start = offset + run.offset
      content.copy(result, start, start, start + run.lengthBytes)
    }
  }
  return result
}

/** Whether an error is a refusal with this reason, told in these words. */
export const refusedAs = (reason: string, words: RegExp) => (error: unknown) => {
  assert.ok(isFault(error, 'conflict'), String(error))
  assert.deepEqual([error.subject, error.reason], ['volume', reason])
  assert.match(error.message, words)
  return true
}
