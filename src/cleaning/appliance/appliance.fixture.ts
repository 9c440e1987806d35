import assert from 'node:assert/strict'
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import type { Appliance, ApplianceVolume } from '../appliance-contract.ts'
import { type ApplianceSettings, createAppliance } from './start.ts'

export const MIB = 1 << 20

/** A folder for one test with raw disks, their servers and the appliance; `close` takes it all away. */
export interface Bench {
  readonly folder: string
  addDisk(sizeBytes: number): Promise<string>
  start(
    volumes: readonly Omit<ApplianceVolume, 'mountPoint'>[],
    more?: { readonly settings?: Partial<ApplianceSettings>; readonly signal?: AbortSignal },
  ): Promise<Appliance>
  /** The disks are gone from then on. */
  stopServers(): Promise<void>
  close(): Promise<void>
}

/** The guest's kernel and programs are packed once for all tests of a file. */
export async function withCache(): Promise<{ cacheFolder: string; remove(): Promise<void> }> {
  const cacheFolder = await mkdtemp(join(tmpdir(), 'appliance-cache-'))
  return { cacheFolder, remove: () => rm(cacheFolder, { recursive: true, force: true }) }
}

export async function openBench(cacheFolder: string): Promise<Bench> {
  const folder = await mkdtemp(join(tmpdir(), 'appliance-'))
  const disks: { socketPath: string; exportName: string; sizeBytes: number }[] = []
  const servers: ChildProcess[] = []
  const started: Appliance[] = []
  let runCount = 0
  const stopServers = async () => {
    for (const server of servers.splice(0)) {
      server.kill('SIGKILL')
      if (server.exitCode === null && server.signalCode === null)
        await new Promise((done) => server.once('exit', done))
    }
  }
  return {
    stopServers,
    folder,
    async addDisk(sizeBytes) {
      const path = join(folder, `disk${disks.length}`)
      const socketPath = `${path}.sock`
      disks.push({ socketPath, exportName: 'disk', sizeBytes })
      await run('truncate', ['-s', String(sizeBytes), path])
      servers.push(await serve(path, socketPath))
      return path
    },
    async start(volumes, { settings, signal = new AbortController().signal } = {}) {
      const runFolder = join(folder, `run${runCount++}`)
      await mkdir(runFolder, { recursive: true })
      const start = createAppliance({ cacheFolder, acceleration: 'tcg', ...settings })
      const placed = volumes.map((volume) => ({ ...volume, mountPoint: '' }))
      const appliance = await start({ folder: runFolder, disks, volumes: placed, signal })
      started.push(appliance)
      return appliance
    },
    async close() {
      for (const appliance of started) await appliance.end()
      await stopServers()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

async function serve(path: string, socketPath: string): Promise<ChildProcess> {
  const args = ['--format=raw', '--persistent', '--shared=0', '--export-name=disk', `--socket=${socketPath}`]
  const server = spawn('qemu-nbd', [...args, path], { stdio: 'ignore' })
  while (!(await isThere(socketPath))) {
    assert.equal(server.exitCode, null, 'qemu-nbd ended')
    await sleep(10)
  }
  return server
}

async function isThere(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  )
}

/** An ext4 of what lies in `tree`, put into the disk at `offset`. */
export async function putExt4(
  diskPath: string,
  offset: number,
  sizeBytes: number,
  tree: string,
  options: readonly string[] = [],
): Promise<void> {
  const path = `${diskPath}.ext4`
  await run('truncate', ['-s', String(sizeBytes), path])
  await run('/sbin/mke2fs', ['-q', '-F', '-t', 'ext4', ...options, '-d', tree, path])
  await copy(path, diskPath, offset)
  await rm(path)
}

async function copy(sourcePath: string, targetPath: string, offset: number): Promise<void> {
  const shape = ['bs=1M', 'conv=notrunc,sparse', 'oflag=seek_bytes', `seek=${offset}`]
  await run('dd', [`if=${sourcePath}`, `of=${targetPath}`, ...shape])
}

/** What debugfs says to a command about a file system inside a disk, as bytes in latin1. */
export async function debugfs(diskPath: string, offset: number, command: string): Promise<string> {
  return await run('/sbin/debugfs', ['-R', command, `${diskPath}?offset=${offset}`])
}

/** As `debugfs`, writing. */
export async function debugfsWrite(diskPath: string, commands: string): Promise<void> {
  const script = `${diskPath}.commands`
  await writeFile(script, commands, 'latin1')
  await run('/sbin/debugfs', ['-w', '-f', script, diskPath])
  await rm(script)
}

/** Names in a directory, in latin1. */
export async function namesIn(diskPath: string, offset: number, path: string): Promise<string[]> {
  const lines = (await debugfs(diskPath, offset, `ls -p ${path}`)).split('\n').filter((line) => line !== '')
  // Source: debugfs(8), ls -p: /inode/mode/uid/gid/name/size/
  return (
    lines
      .map((line) => line.split('/')[5] ?? '')
      // A block that was emptied has an entry without a name.
      .filter((name) => name !== '' && name !== '.' && name !== '..')
      .sort()
  )
}

/** The exit code of a check that changes nothing. */
export async function checkExt4(diskPath: string, offset: number): Promise<number> {
  try {
    await run('/sbin/e2fsck', ['-f', '-n', `${diskPath}?offset=${offset}`])
    return 0
  } catch (error) {
    return Number((error as { code?: unknown }).code)
  }
}

export async function run(tool: string, args: readonly string[]): Promise<string> {
  return (await promisify(execFile)(tool, args, { encoding: 'latin1', maxBuffer: 1 << 24 })).stdout
}
