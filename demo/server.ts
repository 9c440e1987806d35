import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { openSync, readFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { type Client, createClient } from '../src/cli/client.ts'
import { type Call, type KeyPair, uhostClient, wuyingClient } from './clients.ts'

export const ROOT = fileURLToPath(new URL('..', import.meta.url))

/** A server as its user has it: a process, an endpoint, a key file. */
export interface Server {
  readonly endpoint: URL
  readonly data: string
  readonly key: KeyPair
  readonly native: Client
  readonly wuying: Call
  readonly uhost: Call
  readonly process: ChildProcess | undefined
  /** Milliseconds from the start of the process to its first answer. */
  readonly readyMs: number
}

function connect(data: string, child: ChildProcess | undefined, readyMs: number): Server {
  const endpoint = new URL(readFileSync(join(data, 'endpoint'), 'utf8').trim())
  const key = JSON.parse(readFileSync(join(data, 'access-key.json'), 'utf8')) as KeyPair
  return {
    endpoint,
    data,
    key,
    native: createClient({ endpoint, keyId: key.accessKeyId, secret: key.accessKeySecret }),
    wuying: wuyingClient(endpoint, key),
    uhost: uhostClient(endpoint, key),
    process: child,
    readyMs,
  }
}

async function answers(data: string): Promise<boolean> {
  try {
    const endpoint = readFileSync(join(data, 'endpoint'), 'utf8').trim()
    return (await fetch(`${endpoint}/healthz`)).ok
  } catch {
    return false
  }
}

/** The server that runs on that data directory already, if one does. */
export async function findServer(data: string): Promise<Server | undefined> {
  return (await answers(data)) ? connect(data, undefined, 0) : undefined
}

/** Starts `bin/calotype serve`, detached with its log in a file, and waits for its first answer. */
export async function startServer(options: {
  readonly data: string
  readonly listen: string
  readonly importDirectory: string
  readonly environment?: Readonly<Record<string, string>>
  /** A command that runs the server, put before its own: `['nice']`, or a shell that mounts something first. */
  readonly wrapper?: readonly string[]
}): Promise<Server> {
  const { data } = options
  await mkdir(data, { recursive: true, mode: 0o700 })
  const log = openSync(join(data, 'server.log'), 'a', 0o600)
  const startedMs = performance.now()
  const [program = '', ...args] = [
    ...(options.wrapper ?? []),
    join(ROOT, 'bin/calotype'),
    ...['serve', '--data', data, '--listen', options.listen, '--import-directory', options.importDirectory],
  ]
  const child = spawn(program, args, {
    stdio: ['ignore', log, log],
    detached: true,
    env: { ...process.env, ...options.environment },
  })
  child.unref()
  while (!(await answers(data))) {
    if (child.exitCode !== null || child.signalCode !== null) {
      const tail = readFileSync(join(data, 'server.log'), 'utf8').trimEnd().split('\n').slice(-5).join('\n')
      throw new Error(`The server did not start. The end of ${join(data, 'server.log')}:\n${tail}`)
    }
    await delay(20)
  }
  return connect(data, child, performance.now() - startedMs)
}

/** Ends a server started here and waits until it is gone. Its machines keep running. */
export async function stopServer(server: Server, signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
  const child = server.process
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
  child.ref()
  const gone = once(child, 'exit')
  child.kill(signal)
  await gone
}
