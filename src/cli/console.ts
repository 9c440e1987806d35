import type { Client } from './client.ts'
import type { Io } from './io.ts'

/** Ctrl-] leaves, as in telnet: everything else belongs to the guest. */
const LEAVE = 0x1d
const POLL_MS = 300
/** Our own terminal's colours and cursor are the guest's to move only when we are one. */
const POLL_TYPING_MS = 60

export interface ConsoleOptions {
  readonly path: string
  readonly query: { readonly region: string | undefined; readonly project: string | undefined }
  readonly fromByte: number
}

interface Said {
  /** Above the byte that was asked for when what came before is no longer kept. */
  readonly from: number
  readonly next: number
  readonly bytes: string
}

/**
 * Prints what the console says from a byte on, until it has no more now. Returns the byte to go on from. What is no
 * longer kept is counted on standard error.
 */
export async function printConsole(io: Io, client: Client, options: ConsoleOptions): Promise<number> {
  let from = options.fromByte
  for (;;) {
    const query = { ...options.query, from }
    const said = await client.call<Said>('GET', options.path, { query })
    // 0 is the start of what there is, not a byte somebody saw.
    if (said.from > from && from > 0) {
      io.stderr.write(`[${said.from - from} bytes before this are no longer kept]\r\n`)
    }
    if (said.next === from) return from
    io.stdout.write(Buffer.from(said.bytes, 'base64'))
    from = said.next
  }
}

export async function typeIntoConsole(client: Client, options: ConsoleOptions, bytes: Buffer): Promise<void> {
  const body = { ...options.query, bytes: bytes.toString('base64') }
  await client.call('POST', options.path, { body })
}

/** Prints what the console says as it says it, until `signal`. */
export async function followConsole(
  io: Io,
  client: Client,
  options: ConsoleOptions,
  signal: AbortSignal,
  pollMs = POLL_MS,
): Promise<void> {
  let fromByte = options.fromByte
  while (!signal.aborted) {
    const next = await printConsole(io, client, { ...options, fromByte })
    // Somebody is at the console: look more often while it speaks.
    await io.sleep(next === fromByte ? pollMs : Math.min(pollMs, POLL_TYPING_MS))
    fromByte = next
  }
}

/** Joins the keyboard to the console until Ctrl-], or until standard input ends. */
export async function attachConsole(io: Io, client: Client, options: ConsoleOptions): Promise<void> {
  const left = new AbortController()
  const { stdin } = io
  let failure: unknown
  // Keys go out one after the other: two requests at once could arrive the other way round.
  let typed: Promise<void> = Promise.resolve()
  const type = (bytes: Buffer) => {
    typed = typed
      .then(() => typeIntoConsole(client, options, bytes))
      .catch((error: unknown) => {
        failure ??= error
        left.abort()
      })
  }
  const onData = (chunk: Buffer | string) => {
    const bytes = Buffer.from(chunk as string)
    const leave = stdin.isTTY === true ? bytes.indexOf(LEAVE) : -1
    const rest = leave < 0 ? bytes : bytes.subarray(0, leave)
    if (rest.length > 0) type(rest)
    if (leave >= 0) left.abort()
  }
  const onEnd = () => void typed.then(() => left.abort())
  stdin.setRawMode?.(true)
  stdin.on('data', onData)
  stdin.on('end', onEnd)
  stdin.resume()
  io.stderr.write('[Ctrl-] leaves]\r\n')
  try {
    await followConsole(io, client, options, left.signal, POLL_TYPING_MS)
    await typed
    if (failure !== undefined) throw failure
  } finally {
    stdin.off('data', onData)
    stdin.off('end', onEnd)
    stdin.setRawMode?.(false)
    stdin.pause()
    io.stderr.write('\r\n')
  }
}
