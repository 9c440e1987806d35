import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { createGateway, type Gateway } from '../wire/gateway.ts'
import { createNativeDoor } from '../wire/native/door.ts'
import { createFakeApp, type FakeApp } from '../wire/native/fixture.ts'
import { KEY } from '../wire/native/fixture-request.ts'
import type { Offline } from './commands/offline.ts'
import type { Io } from './io.ts'
import { runCli } from './program.ts'

/** For commands that ask a server. */
const NO_OFFLINE: Offline = {
  rebuildIndex: async () => assert.fail('no command of a client asks for it'),
  rebuildCatalog: async () => assert.fail('no command of a client asks for it'),
}

export interface Ran {
  readonly exitCode: number
  readonly stdout: string
  /** Of `stdout`, for what is no text. */
  readonly bytes: Buffer
  readonly stderr: string
}

export interface MemoryIoOptions {
  readonly environment?: Record<string, string>
  readonly isTerminal?: boolean
  readonly columns?: number
  readonly rows?: number
  readonly stdin?: PassThrough
  /** Told of what is written to standard error. */
  readonly onError?: (text: string) => void
  /** Likewise, to standard output. */
  readonly onOutput?: (text: string) => void
  /** Pressing Ctrl-C is aborting it. */
  readonly interrupt?: AbortSignal
}

/** An Io in memory. Time passes only in `sleep`, which returns at once. */
export function memoryIo(options: MemoryIoOptions = {}) {
  const said: Record<'stdout' | 'stderr', Buffer[]> = { stdout: [], stderr: [] }
  let nowMs = 0
  const sink = (name: 'stdout' | 'stderr') => ({
    isTerminal: options.isTerminal === true,
    columns: options.columns ?? 100,
    rows: options.rows ?? 24,
    write(text: string | Uint8Array) {
      said[name].push(Buffer.from(text as string))
      const tell = name === 'stderr' ? options.onError : options.onOutput
      tell?.(String(text))
    },
    writeOut: async (bytes: Uint8Array) => void said[name].push(Buffer.from(bytes)),
  })
  const io: Io = {
    stdout: sink('stdout'),
    stderr: sink('stderr'),
    environment: options.environment ?? {},
    stdin: options.stdin ?? new PassThrough(),
    nowMs: () => nowMs,
    async sleep(durationMs) {
      nowMs += durationMs
      await new Promise((resolve) => setImmediate(resolve))
    },
    onInterrupt(handle) {
      options.interrupt?.addEventListener('abort', handle, { once: true })
      return () => options.interrupt?.removeEventListener('abort', handle)
    },
  }
  const bytes = (name: 'stdout' | 'stderr') => Buffer.concat(said[name])
  return { io, bytes, text: (name: 'stdout' | 'stderr') => bytes(name).toString('utf8') }
}

export interface TestServer {
  readonly fake: FakeApp
  readonly url: string
  readonly port: number
  readonly gateway: Gateway
  /** Runs `calotype …` against this server. */
  run(...argv: string[]): Promise<Ran>
  runWith(options: Parameters<typeof memoryIo>[0], ...argv: string[]): Promise<Ran>
}

/** Gateway and native door on a real socket over an App in memory. */
export async function startServer(fake = createFakeApp(), port = 0): Promise<TestServer> {
  const native = createNativeDoor({
    app: fake.app,
    keyring: fake.keyring,
    clock: Date.now,
    clockWindowMs: 15 * 60_000,
    onBug: (error) => {
      throw error
    },
  })
  const gateway = createGateway({ doors: { native }, log: () => undefined })
  const at = await gateway.listen('127.0.0.1', port)
  const environment = {
    CALOTYPE_ENDPOINT: at.url,
    CALOTYPE_ACCESS_KEY_ID: KEY.accessKeyId,
    CALOTYPE_ACCESS_KEY_SECRET: KEY.accessKeySecret,
  }
  const runWith: TestServer['runWith'] = async (options, ...argv) => {
    const { io, bytes, text } = memoryIo({
      ...options,
      environment: { ...environment, ...options?.environment },
    })
    const exitCode = await runCli(argv, {
      serve: async () => undefined,
      offline: async () => NO_OFFLINE,
      doctor: async () => [],
      peerIdentity: async () => assert.fail('no command of a client asks for it'),
      io,
    })
    return { exitCode, stdout: text('stdout'), bytes: bytes('stdout'), stderr: text('stderr') }
  }
  return { fake, gateway, ...at, runWith, run: (...argv) => runWith({}, ...argv) }
}
