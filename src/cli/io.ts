import { fstatSync } from 'node:fs'
import { Readable } from 'node:stream'
import { EXIT } from './failure.ts'

/** Where a command reads and writes: the process in real life, buffers in tests. */
export interface Io {
  readonly stdout: Sink
  readonly stderr: Sink
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly stdin: NodeJS.ReadableStream & { readonly isTTY?: boolean; setRawMode?(raw: boolean): void }
  nowMs(): number
  /** Ends early, without an error, when `signal` is aborted. */
  sleep(durationMs: number, signal?: AbortSignal): Promise<void>
  /** `handle` is called at the first Ctrl-C; a second one ends the process as ever. Answers how to stop listening. */
  onInterrupt(handle: () => void): () => void
}

export interface Sink {
  readonly isTerminal: boolean
  /** Cells across; 80 where nobody knows. */
  readonly columns: number
  /** Lines on it; 24 where nobody knows. */
  readonly rows: number
  write(text: string | Uint8Array): void
  /** As `write`; waits until the other side has taken it. Throws what the other side does. */
  writeOut(bytes: Uint8Array): Promise<void>
}

function sink(stream: NodeJS.WriteStream): Sink {
  return {
    get isTerminal() {
      return stream.isTTY === true
    },
    get columns() {
      // A terminal that was never told its size has 0.
      return stream.columns || 80
    },
    get rows() {
      return stream.rows || 24
    },
    write: (text) => void stream.write(text),
    writeOut: (bytes) =>
      new Promise((resolve, reject) => {
        stream.write(bytes, (error) => (error ? reject(error) : resolve()))
      }),
  }
}

function sleep(durationMs: number, signal?: AbortSignal): Promise<void> {
  if (signal?.aborted === true) return Promise.resolve()
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', end)
      resolve()
    }
    const timer = setTimeout(end, durationMs)
    signal?.addEventListener('abort', end)
  })
}

/** Fails as the read would; undefined if there is nothing against reading. */
function unreadableInput(): Readable | undefined {
  const failing = (code: string) =>
    new Readable({
      read() {
        this.destroy(Object.assign(new Error('standard input cannot be read'), { code }))
      },
    })
  try {
    return fstatSync(0).isDirectory() ? failing('EISDIR') : undefined
  } catch (error) {
    return failing((error as NodeJS.ErrnoException).code ?? 'EIO')
  }
}

export function processIo(): Io {
  // `calotype image list | head` closes the pipe while we write: that is no failure of ours.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit()
    process.stderr.write(
      `calotype: Cannot write to standard output (${error.code}). Make room, or name another file.\n`,
    )
    process.exit(EXIT.fault)
  })
  return {
    stdout: sink(process.stdout),
    stderr: sink(process.stderr),
    environment: process.env,
    // Looked up late: opening standard input costs a handle that `serve` does not need.
    get stdin() {
      // Node takes a folder, or nothing at all, for an input that is over already.
      return unreadableInput() ?? process.stdin
    },
    nowMs: () => Date.now(),
    sleep,
    onInterrupt(handle) {
      process.once('SIGINT', handle)
      return () => process.off('SIGINT', handle)
    },
  }
}
