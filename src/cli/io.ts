/** Where a command reads and writes: the process in real life, buffers in tests. */
export interface Io {
  readonly stdout: Sink
  readonly stderr: Sink
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly stdin: NodeJS.ReadableStream & { readonly isTTY?: boolean; setRawMode?(raw: boolean): void }
  nowMs(): number
  sleep(durationMs: number): Promise<void>
}

export interface Sink {
  readonly isTerminal: boolean
  /** Cells across; 80 where nobody knows. */
  readonly columns: number
  write(text: string | Uint8Array): void
}

function sink(stream: NodeJS.WriteStream): Sink {
  return {
    get isTerminal() {
      return stream.isTTY === true
    },
    get columns() {
      return stream.columns ?? 80
    },
    write: (text) => void stream.write(text),
  }
}

export function processIo(): Io {
  // `calotype image list | head` closes the pipe while we write: that is no failure of ours.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error
    process.exit()
  })
  return {
    stdout: sink(process.stdout),
    stderr: sink(process.stderr),
    environment: process.env,
    // Looked up late: opening standard input costs a handle that `serve` does not need.
    get stdin() {
      return process.stdin
    },
    nowMs: () => Date.now(),
    sleep: (durationMs) => new Promise((resolve) => setTimeout(resolve, durationMs)),
  }
}
