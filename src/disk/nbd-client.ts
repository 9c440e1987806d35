import assert from 'node:assert/strict'
import type { SocketConnectOpts } from 'node:net'
import { Fault } from '../image/fault.ts'
import type { Disk, Extent, NbdAddress, StatusExtent } from './contract.ts'
import { appendExtent, appendStatus, assertInside } from './extents.ts'
import { Answers } from './nbd-answers.ts'
import { type Agreement, agree, type ContextIds } from './nbd-client-handshake.ts'
import { Link } from './nbd-link.ts'
import { BASE_ALLOCATION } from './nbd-options.ts'
import { breach, COMMAND, EXPORT_FLAG, encodeRequest, STATE, type StatusRun } from './nbd-protocol.ts'
import { Outstanding } from './nbd-reply.ts'

/** Asked of block status at once; well below what 32 bits hold, and a multiple of every block size. */
const STATUS_SPAN_BYTES = 1024 * 1024 * 1024
/** Zeroed or trimmed at once: lengths have 32 bits, and a server may take its time for each. */
const CHANGE_SPAN_BYTES = 1024 * 1024 * 1024
/** A disk in more pieces than this is answered as 'data' from there on: true, though less useful. */
const EXTENT_COUNT_MAX = 1024 * 1024
/** No 512 MiB in sectors have more, so who asks for so much at a time gets every answer. */
const STATUS_COUNT_MAX = 1024 * 1024

export interface NbdClientOptions {
  readonly signal?: AbortSignal
  /** For connecting and the handshake together. */
  readonly connectMs?: number
  /** A server that owes answers and sends nothing for so long is given up. */
  readonly silenceMs?: number
  /** Meta contexts that `statuses` is to tell of. One that the server does not know is Fault 'absent', 'no-context'. */
  readonly contexts?: readonly string[]
}

/**
 * Connects to an NBD export. Throws Fault 'absent' if the server has no such export, 'unavailable' for every other
 * failure of the other side, or the signal's reason. The signal counts for the connecting alone.
 */
export async function openNbd(address: NbdAddress, options: NbdClientOptions = {}): Promise<NbdClient> {
  const { signal, connectMs = 10_000, silenceMs = 60_000, contexts = [] } = options
  assert(!contexts.includes(BASE_ALLOCATION), 'what base:allocation says is for `extents` to tell')
  signal?.throwIfAborted()
  let link: Link | undefined
  const aborted = () => link?.end(signal?.reason)
  const timer = setTimeout(
    () => link?.end(new Fault('unavailable', 'The disk server did not answer in time.', { subject: 'disk' })),
    connectMs,
  )
  signal?.addEventListener('abort', aborted)
  try {
    const connected = await Link.connect(whereOf(address), (begun) => {
      link = begun
    })
    return new NbdClient(connected, await agree(connected, address.exportName, contexts), silenceMs)
  } catch (error) {
    link?.end(error)
    signal?.throwIfAborted()
    throw error
  } finally {
    clearTimeout(timer)
    signal?.removeEventListener('abort', aborted)
  }
}

function whereOf(address: NbdAddress): SocketConnectOpts | { readonly fd: number } {
  if (address.fileDescriptor !== undefined) return { fd: address.fileDescriptor }
  if (address.socketPath !== undefined) return { path: address.socketPath }
  assert(address.port !== undefined, 'an NBD address has a socket path or a port')
  return { host: address.host ?? '127.0.0.1', port: address.port }
}

/**
 * One connection to one export. Any number of calls may run at once; the server answers them in any order. When the
 * connection ends, everything under way throws Fault 'unavailable', and so does every later call.
 */
export class NbdClient implements Disk {
  readonly sizeBytes: number
  readonly readOnly: boolean
  /** Whether several connections to the export show the same bytes. */
  readonly canMultiConn: boolean
  readonly hasExtents: boolean
  readonly structured: boolean
  readonly minimumBlockBytes: number
  readonly preferredBlockBytes: number
  readonly maximumBlockBytes: number
  readonly #link: Link
  readonly #flags: number
  readonly #contextIds: ContextIds
  readonly #answers: Answers
  #cookie = 0n
  #closed: Promise<void> | undefined

  constructor(link: Link, agreement: Agreement, silenceMs: number) {
    this.#link = link
    this.#flags = agreement.flags
    this.#contextIds = agreement.contextIds
    this.sizeBytes = agreement.sizeBytes
    this.readOnly = this.#has(EXPORT_FLAG.readOnly)
    this.canMultiConn = this.#has(EXPORT_FLAG.canMultiConn)
    this.hasExtents = agreement.contextIds.has(BASE_ALLOCATION)
    this.structured = agreement.structured
    this.minimumBlockBytes = agreement.minimumBytes
    this.preferredBlockBytes = agreement.preferredBytes
    this.maximumBlockBytes = agreement.maximumBytes
    this.#answers = new Answers(link, agreement)
    link.watch(silenceMs, () => {
      if (this.#answers.missingCount === 0) return
      link.end(new Fault('unavailable', 'The disk server stopped answering.', { subject: 'disk' }))
    })
  }

  async read(offset: number, lengthBytes: number, signal?: AbortSignal): Promise<Buffer> {
    assertInside(this.sizeBytes, offset, lengthBytes)
    signal?.throwIfAborted()
    const target = Buffer.allocUnsafe(lengthBytes)
    // After an abort the answer still lands, in a buffer that nobody sees.
    await orAborted(this.readInto(target, offset), signal)
    return target
  }

  /**
   * Fills `target`, which may be shared memory, from `offset`. Bytes land there straight from the socket where they
   * can. Once this settles, nothing is written to `target` any more; after a fault its content is undefined.
   */
  async readInto(target: Uint8Array, offset: number): Promise<void> {
    assertInside(this.sizeBytes, offset, target.length)
    const block = this.minimumBlockBytes
    const end = offset + target.length
    const from = offset - (offset % block)
    const to = Math.min(this.sizeBytes, Math.ceil(end / block) * block)
    if (from !== offset || to !== end) {
      const whole = Buffer.allocUnsafe(to - from)
      await this.readInto(whole, from)
      target.set(whole.subarray(offset - from, end - from))
      return
    }
    const pieces: Promise<unknown>[] = []
    for (let at = 0; at < target.length; at += this.maximumBlockBytes) {
      const piece = target.subarray(at, at + this.maximumBlockBytes)
      pieces.push(this.#ask(COMMAND.read, offset + at, piece.length, { target: piece }))
    }
    await allSettled(pieces)
  }

  async extents(offset: number, lengthBytes: number, signal?: AbortSignal): Promise<Extent[]> {
    assertInside(this.sizeBytes, offset, lengthBytes)
    signal?.throwIfAborted()
    const extents: Extent[] = []
    const allocationId = this.#contextIds.get(BASE_ALLOCATION)
    let at = offset
    if (allocationId !== undefined) {
      for await (const runs of this.#statusRuns(allocationId, offset, lengthBytes, signal)) {
        for (const run of runs) {
          // A hole that does not promise zeroes may read as anything, so it is read.
          appendExtent(extents, run.lengthBytes, (run.state & STATE.zero) !== 0 ? 'zero' : 'data', offset)
          at += run.lengthBytes
        }
        if (extents.length >= EXTENT_COUNT_MAX) break
      }
    }
    appendExtent(extents, offset + lengthBytes - at, 'data', offset)
    return extents
  }

  /**
   * What `context`, one of those it was opened with, says of [offset, offset + lengthBytes): in rising order, without
   * gaps, equal neighbours merged. Also throws Fault 'unavailable', reason 'too-many-runs', for more than a million
   * runs: ask for 512 MiB at a time where they may be as short as a sector.
   */
  async statuses(
    context: string,
    offset: number,
    lengthBytes: number,
    signal?: AbortSignal,
  ): Promise<StatusExtent[]> {
    assertInside(this.sizeBytes, offset, lengthBytes)
    signal?.throwIfAborted()
    const contextId = this.#contextIds.get(context)
    assert(contextId !== undefined, 'a context is named when the export is opened')
    const statuses: StatusExtent[] = []
    for await (const runs of this.#statusRuns(contextId, offset, lengthBytes, signal)) {
      for (const run of runs) appendStatus(statuses, run.lengthBytes, run.state, offset)
      if (statuses.length > STATUS_COUNT_MAX) {
        const message = 'The disk server tells of the disk in too many pieces.'
        throw new Fault('unavailable', message, { subject: 'disk', reason: 'too-many-runs' })
      }
    }
    return statuses
  }

  /** One context's answers one after the other, cut to what was asked for; together they cover it. */
  async *#statusRuns(
    contextId: number,
    offset: number,
    lengthBytes: number,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<StatusRun[]> {
    const block = this.minimumBlockBytes
    const end = offset + lengthBytes
    for (let at = offset; at < end; ) {
      const from = at - (at % block)
      const to = Math.min(this.sizeBytes, from + STATUS_SPAN_BYTES, Math.ceil(end / block) * block)
      const asked = this.#ask(COMMAND.blockStatus, from, to - from, { contextId })
      const cut: StatusRun[] = []
      let runEnd = from
      for (const run of await orAborted(asked, signal)) {
        runEnd += run.lengthBytes
        const next = Math.min(runEnd, to, end)
        if (next <= at) continue
        cut.push({ lengthBytes: next - at, state: run.state })
        at = next
      }
      if (runEnd % block !== 0 && runEnd < to) throw breach('a block status run ends inside a block')
      yield cut
    }
  }

  /**
   * Writes whole blocks. Faults: 'unavailable', reason 'read-only', where the export may not be written; 'full' where the
   * server has no room left for them.
   */
  async write(offset: number, bytes: Uint8Array): Promise<void> {
    const pieces: Promise<unknown>[] = []
    for (let at = 0; at < bytes.length; at += this.maximumBlockBytes) {
      const payload = bytes.subarray(at, at + this.maximumBlockBytes)
      pieces.push(this.#change(COMMAND.write, offset + at, payload.length, payload))
    }
    await allSettled(pieces)
  }

  /**
   * Makes whole blocks zero, as holes if the server can. Faults as `write`, and 'unavailable', reason 'no-command', where
   * the server does not have it.
   */
  async zero(offset: number, lengthBytes: number): Promise<void> {
    await this.#changeWithoutPayload(COMMAND.writeZeroes, EXPORT_FLAG.sendWriteZeroes, offset, lengthBytes)
  }

  /** Tells that whole blocks are not needed; they may read as anything. Faults as `zero`. */
  async trim(offset: number, lengthBytes: number): Promise<void> {
    await this.#changeWithoutPayload(COMMAND.trim, EXPORT_FLAG.sendTrim, offset, lengthBytes)
  }

  /** All that was written before survives a crash of the server, if it promises anything of the kind. */
  async flush(): Promise<void> {
    if (this.#has(EXPORT_FLAG.sendFlush)) await this.#ask(COMMAND.flush, 0, 0)
  }

  /** Ends the connection; calls under way throw Fault 'unavailable'. */
  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    // With answers on the way there is no polite end: their bytes would still land in the callers' memory.
    if (this.#answers.missingCount === 0) {
      const cookie = this.#cookie
      const goodbye = { flags: 0, command: COMMAND.disconnect, cookie, offset: 0, lengthBytes: 0 }
      // A server that reads nothing cannot hold us: nothing was outstanding, so this fits the socket's buffer.
      await Promise.race([this.#link.flush(encodeRequest(goodbye)), this.#link.ended])
    }
    this.#link.end(new Fault('unavailable', 'The connection to the disk was closed.', { subject: 'disk' }))
  }

  #has(flag: number): boolean {
    return (this.#flags & flag) !== 0
  }

  async #changeWithoutPayload(
    command: number,
    flag: number,
    offset: number,
    lengthBytes: number,
  ): Promise<void> {
    if (!this.readOnly && !this.#has(flag)) {
      const message = 'The disk server cannot make blocks zero. Use one that can.'
      throw new Fault('unavailable', message, { subject: 'disk', reason: 'no-command' })
    }
    const end = offset + lengthBytes
    const pieces: Promise<unknown>[] = []
    for (let at = offset; at < end; at += CHANGE_SPAN_BYTES) {
      pieces.push(this.#change(command, at, Math.min(CHANGE_SPAN_BYTES, end - at)))
    }
    await allSettled(pieces)
  }

  async #change(command: number, offset: number, lengthBytes: number, payload?: Uint8Array): Promise<void> {
    assertInside(this.sizeBytes, offset, lengthBytes)
    const block = this.minimumBlockBytes
    assert(offset % block === 0 && lengthBytes % block === 0, 'only whole blocks are written')
    if (this.readOnly) {
      const message = 'The disk may be read only. Open it for writing, then try again.'
      throw new Fault('unavailable', message, { subject: 'disk', reason: 'read-only' })
    }
    await this.#ask(command, offset, lengthBytes, payload ? { payload } : {})
  }

  #ask(
    command: number,
    offset: number,
    lengthBytes: number,
    more: {
      readonly target?: Uint8Array
      readonly payload?: Uint8Array
      readonly contextId?: number
    } = {},
  ): Promise<StatusRun[]> {
    const fault = this.#link.fault
    if (fault) return Promise.reject(fault)
    if (this.#closed) {
      return Promise.reject(new Fault('unavailable', 'The connection was closed.', { subject: 'disk' }))
    }
    const request = { flags: 0, command, cookie: this.#cookie++, offset, lengthBytes }
    const outstanding = new Outstanding(request, more.target, more.contextId)
    this.#answers.expect(outstanding)
    const header = encodeRequest(request)
    this.#link.send(more.payload ? [header, more.payload] : [header])
    return outstanding.settled
  }
}

/** Waits for all, then throws the first fault: nothing of a failed whole may go on behind the caller's back. */
async function allSettled(pieces: readonly Promise<unknown>[]): Promise<void> {
  for (const outcome of await Promise.allSettled(pieces)) {
    if (outcome.status === 'rejected') throw outcome.reason
  }
}

async function orAborted<Value>(work: Promise<Value>, signal: AbortSignal | undefined): Promise<Value> {
  if (!signal) return work
  const { promise, reject } = Promise.withResolvers<never>()
  const aborted = () => reject(signal.reason)
  signal.addEventListener('abort', aborted)
  try {
    return await Promise.race([work, promise])
  } finally {
    signal.removeEventListener('abort', aborted)
  }
}
