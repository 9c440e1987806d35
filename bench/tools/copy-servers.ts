import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { basename, dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { ourCommand, ourEnvironment } from './calotype.ts'
import { type PeerFile, writePeerFile } from './copy-peer.ts'
import type { CopySources } from './copy-sources.ts'
import { statusBytes } from './measure.ts'

// The source's end of copies: servers that others read from over the link.

export interface SourceServer {
  readonly port: number
  peakRssBytes(): number
  /** What it had the kernel read for it, from memory or disk: files, and what it is asked. */
  readBytes(): number
  stop(): Promise<void>
}

type Inside = (command: readonly string[]) => readonly string[]

const WAIT_MS = 30_000

function serverOf(child: ChildProcess, port: number): SourceServer {
  return {
    port,
    peakRssBytes: () => statusBytes(child.pid, 'VmHWM'),
    readBytes() {
      const text = readFileSync(`/proc/${child.pid}/io`, 'utf8')
      return Number(/^rchar: (\d+)$/m.exec(text)?.[1] ?? Number.NaN)
    },
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return
      const over = once(child, 'exit')
      // Ours end with their input, the others with the signal.
      if (child.stdin) child.stdin.end()
      else child.kill('SIGTERM')
      await over
    },
  }
}

/** A program of ours that says its port. */
async function startOurs(inside: Inside, file: string, ...words: readonly string[]): Promise<SourceServer> {
  const [command = '', ...rest] = inside(ourCommand(file, ...words))
  const env = { ...process.env, ...ourEnvironment() }
  const child = spawn(command, rest, { stdio: ['pipe', 'pipe', 'inherit'], env })
  const lines = createInterface({ input: child.stdout })
  const [line] = (await Promise.race([once(lines, 'line'), once(child, 'exit').then(() => [])])) as [string?]
  if (line === undefined) throw new Error(`${file} ended before it listened`)
  return serverOf(child, Number(line))
}

/** Our endpoint for peers, over the store in `folder`. */
export const serveStore = (inside: Inside, folder: string, peerPath: string) =>
  startOurs(inside, 'copy-serve.ts', folder, peerPath)

export const serveRestic = (inside: Inside, repository: string) =>
  startOurs(inside, 'copy-rest.ts', repository)

/** Writes where the source is reached into the file of the peer. */
export function tellUrl(peerPath: string, port: number): void {
  const file = JSON.parse(readFileSync(peerPath, 'utf8')) as PeerFile
  writePeerFile(peerPath, { ...file, url: `https://127.0.0.1:${port}` })
}

/** The packed image's own bytes, for a qemu-img that unpacks them. */
export async function serveQcow2(inside: Inside, path: string): Promise<SourceServer> {
  const port = await freePort()
  const words = ['--read-only', '--persistent', '--shared=8', '--format=raw', '--bind=127.0.0.1']
  return startOther(inside(['qemu-nbd', ...words, `--port=${port}`, path]), port)
}

/** The modules `version0` and `version1`, of the folder of each disk. */
export async function serveRsync(
  inside: Inside,
  scratch: string,
  { disks }: CopySources,
): Promise<SourceServer> {
  const port = await freePort()
  const config = join(scratch, 'rsyncd.conf')
  const modules = disks.map((disk, i) => `[version${i}]\npath = ${dirname(disk)}\nread only = yes\n`)
  const user = process.getuid?.() === 0 ? 'uid = 0\ngid = 0\n' : ''
  writeFileSync(config, `use chroot = no\n${user}${modules.join('')}`)
  const words = ['--daemon', '--no-detach', '--address=127.0.0.1', `--port=${port}`, `--config=${config}`]
  return startOther(inside(['rsync', ...words]), port)
}

export const rsyncUrl = (port: number, { disks }: CopySources, version: 0 | 1) =>
  `rsync://127.0.0.1:${port}/version${version}/${basename(disks[version])}`

async function startOther(command: readonly string[], port: number): Promise<SourceServer> {
  const child = spawn(command[0] ?? '', command.slice(1), { stdio: ['ignore', 'inherit', 'inherit'] })
  const endMs = performance.now() + WAIT_MS
  while (!listens(child.pid, port)) {
    if (child.exitCode !== null || performance.now() > endMs) throw new Error(`${command[0]} does not listen`)
    await delay(20)
  }
  return serverOf(child, port)
}

/** As the process itself sees it: it may be in a network namespace of its own, where nobody here can ask. */
function listens(pid: number | undefined, port: number): boolean {
  const hex = port.toString(16).toUpperCase().padStart(4, '0')
  try {
    return readFileSync(`/proc/${pid}/net/tcp`, 'utf8').includes(`0100007F:${hex} 00000000:0000 0A`)
  } catch {
    return false
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  if (address === null || typeof address === 'string') throw new Error('a TCP server has a port')
  return address.port
}
