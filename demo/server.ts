import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { openSync, readFileSync, statSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { type Client, createClient } from '../src/cli/client.ts'
import { readServerKey } from '../src/cli/connection.ts'
import { type Call, type KeyPair, uhostClient, wuyingClient } from './clients.ts'

const START_MS_MAX = 60_000
const ANSWER_MS_MAX = 5000

export const ROOT = fileURLToPath(new URL('..', import.meta.url))

/** A server as its user has it: a process, an endpoint, a key file. */
export interface Server {
  readonly endpoint: URL
  readonly data: string
  readonly key: KeyPair
  /** Where the key was found: a file, or the environment. */
  readonly keySource: string
  readonly native: Client
  readonly wuying: Call
  readonly uhost: Call
  readonly process: ChildProcess | undefined
  /** Milliseconds from the start of the process to its first answer. */
  readonly readyMs: number
}

type Environment = Readonly<Record<string, string | undefined>>

function connect(data: string, environment: Environment): Server {
  const endpoint = new URL(readFileSync(join(data, 'endpoint'), 'utf8').trim())
  const { keyId, secret, source } = readServerKey(data, environment)
  const key = { accessKeyId: keyId, accessKeySecret: secret }
  return {
    endpoint,
    data,
    key,
    keySource: source,
    native: createClient({ endpoint, keyId, secret }),
    wuying: wuyingClient(endpoint, key),
    uhost: uhostClient(endpoint, key),
    process: undefined,
    readyMs: 0,
  }
}

/** Tells one writing of the endpoint file from another: a server replaces it, and a killed one leaves it behind. */
function endpointMark(data: string): string {
  const stat = statSync(join(data, 'endpoint'), { bigint: true, throwIfNoEntry: false })
  return stat === undefined ? '' : `${stat.ino} ${stat.mtimeNs} ${stat.ctimeNs}`
}

async function answers(data: string): Promise<boolean> {
  try {
    const endpoint = readFileSync(join(data, 'endpoint'), 'utf8').trim()
    return (await fetch(`${endpoint}/healthz`, { signal: AbortSignal.timeout(ANSWER_MS_MAX) })).ok
  } catch {
    return false
  }
}

/**
 * The server that runs on that data directory already, if one does. The endpoint of a killed server may be another
 * one's by now, so it counts only if it takes this directory's key.
 */
export async function findServer(
  data: string,
  environment: Environment = process.env,
): Promise<Server | undefined> {
  if (!(await answers(data))) return undefined
  try {
    const server = connect(data, environment)
    await server.native.call('GET', '/v1/regions')
    return server
  } catch {
    return undefined
  }
}

/** Starts `bin/calotype serve`, detached with its log in a file, and waits up to 60 s for its first answer. */
export async function startServer(options: {
  readonly data: string
  readonly listen: string
  readonly importDirectory: string
  readonly environment?: Readonly<Record<string, string>>
  /** A command that runs the server, put before its own: `['nice']`, or a shell that mounts something first. */
  readonly wrapper?: readonly string[]
  /** How long the first answer may take; 60 s without it. */
  readonly waitMs?: number
}): Promise<Server> {
  const { data } = options
  await mkdir(data, { recursive: true, mode: 0o700 })
  const logPath = join(data, 'server.log')
  const log = openSync(logPath, 'a', 0o600)
  // Not removed: were another server at work here after all, ours would end and leave that one without its endpoint.
  const staleMark = endpointMark(data)
  const environment = { ...process.env, ...options.environment }
  const startedMs = performance.now()
  const [program = '', ...args] = [
    ...(options.wrapper ?? []),
    join(ROOT, 'bin/calotype'),
    ...['serve', '--data', data, '--listen', options.listen, '--import-directory', options.importDirectory],
  ]
  const child = spawn(program, args, {
    stdio: ['ignore', log, log],
    detached: true,
    env: environment,
  })
  child.unref()
  const fail = (what: string) => {
    const tail = readFileSync(logPath, 'utf8').trimEnd().split('\n').slice(-5).join('\n')
    return new Error(`${what} The end of ${logPath}:\n${tail}`)
  }
  while (endpointMark(data) === staleMark || !(await answers(data))) {
    if (child.exitCode !== null || child.signalCode !== null) throw fail('The server did not start.')
    if (performance.now() - startedMs > (options.waitMs ?? START_MS_MAX)) {
      child.kill('SIGKILL')
      throw fail('The server did not answer in time and was ended.')
    }
    await delay(20)
  }
  const readyMs = performance.now() - startedMs
  return { ...connect(data, environment), process: child, readyMs }
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
