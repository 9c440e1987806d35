import { connect, Socket, type SocketConnectOpts } from 'node:net'
import { Fault, isFault } from '../image/fault.ts'

/** Small, so that little of a payload is copied; large enough for a burst of replies without payload. */
const SCRATCH_BYTES = 16 * 1024
/** A wanted run at least this long lands where it is wanted, without a copy. */
const DIRECT_BYTES_MIN = 4 * 1024
const NOTHING: Uint8Array = new Uint8Array(0)

/**
 * One socket whose incoming bytes land where they are wanted. At any time at most one run of bytes is wanted; when
 * it is full, `then` is called at once, and names the next. Bytes nobody wants yet are kept (never more than one
 * read of the socket), and the socket is paused meanwhile: that is the back pressure.
 *
 * `then` may throw: the link ends with that fault. After the end nothing is called or written any more.
 */
export class Link {
  #socket: Socket | undefined
  #scratch = NOTHING
  #target: Uint8Array | undefined
  #wantedBytes = 0
  #filledBytes = 0
  #then: (() => void) | undefined
  #kept: Uint8Array = NOTHING
  #lent: Uint8Array | undefined
  #pumping = false
  #corked = false
  #rejectTake: ((fault: Fault) => void) | undefined
  readonly #ended = Promise.withResolvers<Fault>()
  #fault: Fault | undefined

  /** Resolves when the link has ended, with the reason; never rejects. */
  get ended(): Promise<Fault> {
    return this.#ended.promise
  }

  get fault(): Fault | undefined {
    return this.#fault
  }

  /** Serves a socket that somebody else's connect made. */
  static accept(socket: Socket): Link {
    const link = new Link()
    link.#attach(socket)
    socket.on('data', (chunk: Buffer) => {
      link.#arrived(chunk)
      if (link.#kept.length > 0) socket.pause()
    })
    return link
  }

  /**
   * Resolves when connected, for an open socket (`fd`) at once. Throws Fault 'unavailable'. `begun` gets the link at once,
   * to end it early.
   */
  static async connect(
    where: SocketConnectOpts | { readonly fd: number },
    begun: (link: Link) => void,
  ): Promise<Link> {
    const link = new Link()
    link.#scratch = new Uint8Array(SCRATCH_BYTES)
    const onread = {
      buffer: () => link.#landing(),
      callback: (countBytes: number, buffer: Uint8Array) => link.#landed(countBytes, buffer),
    }
    if ('fd' in where) {
      link.#attach(new Socket({ fd: where.fd, readable: true, writable: true, onread }))
      begun(link)
      return link
    }
    const socket = connect({ ...where, onread })
    link.#attach(socket)
    begun(link)
    const connected = new Promise<undefined>((resolve) => socket.once('connect', () => resolve(undefined)))
    const fault = await Promise.race([connected, link.ended])
    if (fault) throw fault
    return link
  }

  #attach(socket: Socket): void {
    this.#socket = socket
    socket.setNoDelay(true)
    socket.on('error', (cause) => this.end(lost(cause)))
    socket.on('end', () => this.end(lost()))
    socket.on('close', () => this.end(lost()))
  }

  /** Calls `silent` whenever neither side has sent anything for `silenceMs`. */
  watch(silenceMs: number, silent: () => void): void {
    // Not as the callback of setTimeout, which is called only the first time.
    this.#socket?.setTimeout(silenceMs).on('timeout', silent)
  }

  /** Fills `target` with the next bytes, then calls `then`. Nothing else may be wanted. */
  want(target: Uint8Array, then: () => void): void {
    this.#wanted(target, target.length, then)
  }

  /** Drops the next `countBytes`, then calls `then`. */
  skip(countBytes: number, then: () => void): void {
    this.#wanted(undefined, countBytes, then)
  }

  /** The next bytes as a promise, for where speed does not matter. Throws the fault the link ends with. */
  take(countBytes: number): Promise<Buffer> {
    if (this.#fault) return Promise.reject(this.#fault)
    const { promise, resolve, reject } = Promise.withResolvers<Buffer>()
    const target = Buffer.alloc(countBytes)
    this.#rejectTake = reject
    this.want(target, () => {
      this.#rejectTake = undefined
      resolve(target)
    })
    return promise
  }

  /** Writes the pieces in order, together with all that is written in the same tick. `sent` is always called. */
  send(pieces: readonly Uint8Array[], sent: () => void = () => {}): void {
    const socket = this.#socket
    const last = pieces.at(-1)
    if (!socket || this.#fault || last === undefined) {
      process.nextTick(sent)
      return
    }
    if (!this.#corked) {
      this.#corked = true
      socket.cork()
      process.nextTick(() => {
        this.#corked = false
        socket.uncork()
      })
    }
    for (const piece of pieces.slice(0, -1)) socket.write(piece)
    socket.write(last, () => sent())
  }

  /** As `send`; resolves when the kernel has the bytes, which is what holds back a peer that does not read. */
  flush(...pieces: Uint8Array[]): Promise<void> {
    return new Promise((resolve) => this.send(pieces, resolve))
  }

  /** Ends the link at once. A second end changes nothing. */
  end(reason: unknown): void {
    if (this.#fault) return
    const fault = isFault(reason)
      ? reason
      : new Fault('unavailable', 'The connection to the disk failed. Try again.', {
          subject: 'disk',
          cause: reason,
        })
    this.#fault = fault
    this.#then = undefined
    this.#socket?.destroy()
    this.#rejectTake?.(fault)
    this.#ended.resolve(fault)
  }

  #wanted(target: Uint8Array | undefined, wantedBytes: number, then: () => void): void {
    if (this.#fault) return
    this.#target = target
    this.#wantedBytes = wantedBytes
    this.#filledBytes = 0
    this.#then = then
    // The running pump sees the new wish when `then` returns.
    if (this.#pumping) return
    this.#pump(this.#kept)
    if (this.#kept.length === 0) this.#socket?.resume()
  }

  /** Where the socket puts its next bytes. The wish cannot change before they land: only landing fulfils it. */
  #landing(): Uint8Array {
    const missingBytes = this.#then ? this.#wantedBytes - this.#filledBytes : 0
    if (!this.#target || missingBytes < DIRECT_BYTES_MIN) return this.#scratch
    this.#lent = this.#target.subarray(this.#filledBytes)
    return this.#lent
  }

  /** False pauses the socket. */
  #landed(countBytes: number, buffer: Uint8Array): boolean {
    if (buffer === this.#lent) {
      this.#lent = undefined
      this.#filledBytes += countBytes
      this.#pump(NOTHING)
      return true
    }
    this.#arrived(buffer.subarray(0, countBytes))
    if (this.#kept.length === 0) return true
    // The scratch is about to be written again.
    this.#kept = this.#kept.slice()
    return false
  }

  #arrived(chunk: Uint8Array): void {
    this.#pump(this.#kept.length === 0 ? chunk : Buffer.concat([this.#kept, chunk]))
  }

  #pump(chunk: Uint8Array): void {
    let at = 0
    this.#pumping = true
    try {
      while (this.#then) {
        const countBytes = Math.min(chunk.length - at, this.#wantedBytes - this.#filledBytes)
        if (countBytes > 0) this.#target?.set(chunk.subarray(at, at + countBytes), this.#filledBytes)
        at += countBytes
        this.#filledBytes += countBytes
        if (this.#filledBytes < this.#wantedBytes) break
        const then = this.#then
        this.#then = undefined
        then()
      }
    } catch (error) {
      this.end(error)
    }
    this.#pumping = false
    this.#kept = this.#fault || at === chunk.length ? NOTHING : chunk.subarray(at)
  }
}

function lost(cause?: Error): Fault {
  const options = cause ? { subject: 'disk' as const, cause } : { subject: 'disk' as const }
  return new Fault('unavailable', 'The connection to the disk was lost. Try again when it is back.', options)
}
