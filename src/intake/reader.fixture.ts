import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { fileDisk } from '../disk/file-disk.ts'
import { runTool } from '../disk/fixture.ts'
import { memoryDisk } from '../disk/memory-disk.ts'
import { type NbdServer, serveNbd } from '../disk/nbd-server.ts'
import { Fault } from '../image/fault.ts'
import type { FormatReader } from './contract.ts'
import { createFormatReader } from './reader.ts'
import type { ForeignFormat } from './reader-tree.ts'

/** A reader in a run folder of its own, which is as closed as a server's. */
export async function makeReader(t: TestContext) {
  const runDirectory = await mkdtemp(join(tmpdir(), 'reader-'))
  const records: Record<string, unknown>[] = []
  const reader = createFormatReader({ runDirectory, log: (record) => void records.push(record) })
  t.after(async () => {
    await reader.closeAll()
    await rm(runDirectory, { recursive: true, force: true })
  })
  return { runDirectory, reader, records }
}

/** Serves files, or bytes, at a prepared socket, as whoever has inspected them would. */
export async function serveFiles(
  t: TestContext,
  socketPath: string,
  files: readonly (string | Buffer)[],
): Promise<NbdServer> {
  const server = await serveNbd({
    listen: { socketPath },
    resolve: async (exportName) => {
      const file = files[Number(exportName)]
      if (file === undefined) throw new Fault('absent', 'There is no such disk.', { subject: 'disk' })
      return typeof file === 'string' ? await fileDisk(file) : memoryDisk(file)
    },
  })
  t.after(() => server.close())
  return server
}

export async function openFiles(
  t: TestContext,
  reader: FormatReader,
  key: string,
  files: readonly {
    readonly file: string | Buffer
    readonly format: ForeignFormat
    readonly sizeBytes: number
  }[],
) {
  const { socketPath } = await reader.prepare(key)
  const server = await serveFiles(
    t,
    socketPath,
    files.map(({ file }) => file),
  )
  const disks = files.map(({ format, sizeBytes }, index) => ({
    exportName: String(index),
    format,
    sizeBytes,
  }))
  return { server, readable: await reader.open(key, disks, new AbortController().signal) }
}

/** `content` in a format of others, made by qemu-img. */
export async function convert(
  folder: string,
  content: string,
  driver: string,
  options: readonly string[] = [],
): Promise<string> {
  const path = join(folder, `${driver}-${options.join('').replaceAll(/[^a-zA-Z0-9]/g, '')}`)
  await runTool('qemu-img', ['convert', '-f', 'raw', '-O', driver, ...options, content, path])
  return path
}

/** Source: proc(5). */
export async function statusOf(pid: number): Promise<Map<string, string>> {
  const text = await readFile(`/proc/${pid}/status`, 'utf8')
  return new Map(
    text
      .trim()
      .split('\n')
      .map((line) => {
        const [name = '', value = ''] = line.split(':\t')
        return [name, value.trim()]
      }),
  )
}

/** All processes with this among their arguments. */
export async function pidsWith(text: string): Promise<number[]> {
  const { readdir } = await import('node:fs/promises')
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number)
  const lines = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')))
  assert(text !== '')
  return pids.filter((pid, index) => pid !== process.pid && lines[index]?.includes(text))
}
