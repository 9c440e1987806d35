import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { ourCommand, ourEnvironment } from './calotype.ts'
import { statusBytes } from './measure.ts'

/** An NBD server that runs while others are timed. */
export interface Server {
  readonly uri: string
  /** Processor seconds since it started. */
  cpuSeconds(): number
  peakRssBytes(): number
  stop(): Promise<void>
}

/** The clock ticks of /proc, the same on every Linux of today. */
const TICKS_PER_SECOND = 100
const WAIT_MS = 30_000

function serverOf(child: ChildProcess, uri: string): Server {
  return {
    uri,
    cpuSeconds() {
      const text = readFileSync(`/proc/${child.pid}/stat`, 'utf8')
      const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
      return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND
    },
    peakRssBytes: () => statusBytes(child.pid, 'VmHWM'),
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return
      const over = once(child, 'exit')
      // Ours ends with its input, qemu-nbd with the signal.
      if (child.stdin) child.stdin.end()
      else child.kill('SIGTERM')
      await over
    },
  }
}

/** The first disk of an image in the store in `folder`, served by us. */
export async function serveOurs(folder: string, regionId: string, digest: string): Promise<Server> {
  const [command = '', ...words] = ourCommand('ours-serve.ts', folder)
  const env = { ...process.env, ...ourEnvironment() }
  const child = spawn(command, words, { stdio: ['pipe', 'pipe', 'inherit'], env })
  const lines = createInterface({ input: child.stdout })
  const [line] = (await Promise.race([once(lines, 'line'), once(child, 'exit').then(() => [])])) as [string?]
  if (line === undefined) throw new Error('our server ended before it listened')
  return serverOf(child, `nbd+unix:///${regionId}/${digest}/0?socket=${line}`)
}

/** A disk file, served read-only by qemu-nbd as it is used every day. */
export async function serveQemu(format: 'raw' | 'qcow2', path: string, socketPath: string): Promise<Server> {
  const words = [
    '--read-only',
    '--persistent',
    '--shared=64',
    `--format=${format}`,
    `--socket=${socketPath}`,
    path,
  ]
  const child = spawn('qemu-nbd', words, { stdio: ['ignore', 'inherit', 'inherit'] })
  const endMs = performance.now() + WAIT_MS
  while (!(await answers(socketPath))) {
    if (child.exitCode !== null || performance.now() > endMs) throw new Error('qemu-nbd does not listen')
    await delay(20)
  }
  return serverOf(child, `nbd+unix:///?socket=${socketPath}`)
}

function answers(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(socketPath)
    socket.once('error', () => resolve(false))
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
  })
}
