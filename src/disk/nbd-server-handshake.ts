import { isFault } from '../image/fault.ts'
import type { Disk, Piece, StatusOf } from './contract.ts'
import type { Link } from './nbd-link.ts'
import {
  BASE_ALLOCATION,
  type BlockSize,
  decodeContextRequest,
  decodeInfoRequest,
  decodeOption,
  EXPORT_PADDING_BYTES,
  encodeContext,
  encodeExport,
  encodeGreeting,
  encodeInfo,
  encodeOptionReply,
  encodeServer,
  HANDSHAKE_FLAG,
  INFO,
  OPTION,
  OPTION_BYTES,
  REPLY,
} from './nbd-options.ts'
import { breach, clipText, EXPORT_FLAG, PAYLOAD_BYTES_MAX } from './nbd-protocol.ts'

/** A client that wants more than this before its first request is playing. */
const OPTION_COUNT_MAX = 256
const BLOCK_SIZE: BlockSize = { minimumBytes: 1, preferredBytes: 4096, maximumBytes: PAYLOAD_BYTES_MAX }

/** A disk that may use the memory of its pieces again. */
export interface ServedDisk extends Disk {
  /** The kernel has the bytes of these pieces, all of one answer of `pieces`, or nobody wants them any more. Once for each. */
  sent?(pieces: readonly Piece[]): void
}

export interface Exports {
  /**
   * Opens the disk behind a name; throws Fault 'absent' if there is none. The server closes every disk it was given,
   * once, when the connection ends: use `lendDisk` for one that lives longer.
   */
  resolve(exportName: string): Promise<ServedDisk>
  /** The names a client may see. Without it, clients may not list. */
  list?(): Promise<string[]>
  /** Hears of every failure behind a request, for the log; the client hears less. */
  report?(error: unknown): void
}

/** What a client chose. */
export interface Session {
  readonly disk: ServedDisk
  readonly structured: boolean
  /** The meta contexts that it wants to be told of, each in every block status; none where that was not agreed on. */
  readonly contexts: readonly Context[]
}

/** A meta context by the number that its answers carry. `statusOf` is absent for 'base:allocation'. */
export interface Context {
  readonly id: number
  readonly name: string
  readonly statusOf?: StatusOf
}

/**
 * The server's half of the handshake of one connection. `run` answers the session that GO or EXPORT_NAME begins, or
 * undefined when the client took its leave; `close` gives back a disk that no session got.
 */
export class ServerHandshake {
  readonly #link: Link
  readonly #exports: Exports
  #opened: { readonly exportName: string; readonly disk: ServedDisk } | undefined
  #structured = false
  /** What was agreed to be told, and of which export: a GO to another one does not inherit it. */
  #agreed: { readonly exportName: string; readonly contexts: readonly Context[] } | undefined
  #padded = true

  constructor(link: Link, exports: Exports) {
    this.#link = link
    this.#exports = exports
  }

  async run(): Promise<Session | undefined> {
    await this.#link.flush(encodeGreeting(HANDSHAKE_FLAG.fixedNewstyle | HANDSHAKE_FLAG.noZeroes))
    const flags = (await this.#link.take(4)).readUInt32BE(0)
    const known = HANDSHAKE_FLAG.fixedNewstyle | HANDSHAKE_FLAG.noZeroes
    if ((flags & ~known) !== 0) throw breach('the client wants handshake flags nobody offered')
    this.#padded = (flags & HANDSHAKE_FLAG.noZeroes) === 0
    for (let count = 0; count < OPTION_COUNT_MAX; count++) {
      const { option, dataBytes } = decodeOption(await this.#link.take(OPTION_BYTES))
      const data = await this.#link.take(dataBytes)
      if (option === OPTION.exportName) return this.#enterOldWay(data.toString())
      if (option === OPTION.abort) {
        await this.#reply(option, REPLY.ack)
        return undefined
      }
      const session = await this.#answer(option, data)
      if (session) return session
    }
    throw breach('the client sends options without end')
  }

  async close(): Promise<void> {
    await this.#opened?.disk.close()
    this.#opened = undefined
  }

  async #answer(option: number, data: Buffer): Promise<Session | undefined> {
    try {
      switch (option) {
        case OPTION.list:
          await this.#list(data)
          return undefined
        case OPTION.structuredReply:
          if (data.length > 0) throw breach('this option takes no data')
          this.#structured = true
          await this.#reply(option, REPLY.ack)
          return undefined
        case OPTION.info:
        case OPTION.go:
          return await this.#go(option, data)
        case OPTION.listMetaContext:
        case OPTION.setMetaContext:
          await this.#contexts(option, data)
          return undefined
        default:
          await this.#reply(option, REPLY.errUnsupported, Buffer.from('This server has no such option.'))
          return undefined
      }
    } catch (error) {
      await this.#refuse(option, error)
      return undefined
    }
  }

  /** The length of the option was right, so after a refusal the connection goes on. */
  async #refuse(option: number, error: unknown): Promise<void> {
    if (isFault(error, 'absent')) await this.#reply(option, REPLY.errUnknown, clipText(error.message))
    else if (isFault(error) && error.reason === 'protocol') {
      await this.#reply(option, REPLY.errInvalid, clipText(error.message))
    } else {
      this.#exports.report?.(error)
      const text = isFault(error) ? error.message : 'The export cannot be opened now. Try again later.'
      await this.#reply(option, REPLY.errPolicy, clipText(text))
    }
  }

  #reply(option: number, type: number, data?: Buffer): Promise<void> {
    return this.#link.flush(encodeOptionReply(option, type, data))
  }

  async #list(data: Buffer): Promise<void> {
    if (data.length > 0) throw breach('this option takes no data')
    if (!this.#exports.list) {
      await this.#reply(
        OPTION.list,
        REPLY.errPolicy,
        Buffer.from('The exports of this server are not listed.'),
      )
      return
    }
    for (const exportName of await this.#exports.list()) {
      await this.#reply(OPTION.list, REPLY.server, encodeServer(exportName))
    }
    await this.#reply(OPTION.list, REPLY.ack)
  }

  async #go(option: number, data: Buffer): Promise<Session | undefined> {
    const { exportName, infos } = decodeInfoRequest(data)
    const disk = await this.#open(exportName)
    const size = encodeInfo({ is: 'export', sizeBytes: disk.sizeBytes, flags: this.#flags() })
    await this.#reply(option, REPLY.info, size)
    if (infos.includes(INFO.name)) {
      await this.#reply(option, REPLY.info, encodeInfo({ is: 'name', name: exportName }))
    }
    await this.#reply(option, REPLY.info, encodeInfo({ is: 'block-size', ...BLOCK_SIZE }))
    await this.#reply(option, REPLY.ack)
    return option === OPTION.go ? this.#begin(exportName, disk) : undefined
  }

  /** This way has no error reply: a wrong name ends the connection. */
  async #enterOldWay(exportName: string): Promise<Session> {
    const disk = await this.#open(exportName)
    const size = encodeExport({ sizeBytes: disk.sizeBytes, flags: this.#flags() })
    await this.#link.flush(size, Buffer.alloc(this.#padded ? EXPORT_PADDING_BYTES : 0))
    return this.#begin(exportName, disk)
  }

  async #contexts(option: number, data: Buffer): Promise<void> {
    const { exportName, queries } = decodeContextRequest(data)
    const sets = option === OPTION.setMetaContext
    if (sets) this.#agreed = undefined
    if (sets && !this.#structured) throw breach('block status needs structured replies')
    const all = contextsOf(await this.#open(exportName))
    const isAsked = (name: string) =>
      queries.some((query) => query === name || (!sets && query.endsWith(':') && name.startsWith(query)))
    const contexts = all.filter(({ name }) => isAsked(name) || (!sets && queries.length === 0))
    if (sets) this.#agreed = { exportName, contexts }
    for (const { id, name } of contexts)
      await this.#reply(option, REPLY.metaContext, encodeContext(sets ? id : 0, name))
    await this.#reply(option, REPLY.ack)
  }

  /** One disk is open at a time: a client names the same export in two or three options in a row. */
  async #open(exportName: string): Promise<ServedDisk> {
    if (this.#opened?.exportName === exportName) return this.#opened.disk
    await this.close()
    const disk = await this.#exports.resolve(exportName)
    this.#opened = { exportName, disk }
    return disk
  }

  #begin(exportName: string, disk: ServedDisk): Session {
    this.#opened = undefined
    const agreed = this.#agreed?.exportName === exportName ? this.#agreed.contexts : []
    // The disk may have been opened anew since then, and answers for itself.
    const contexts = contextsOf(disk).filter(({ name }) => agreed.some((one) => one.name === name))
    return { disk, structured: this.#structured, contexts }
  }

  #flags(): number {
    const { hasFlags, readOnly, sendFlush, canMultiConn, sendCache, sendDontFragment } = EXPORT_FLAG
    const flags = hasFlags | readOnly | sendFlush | canMultiConn | sendCache
    return this.#structured ? flags | sendDontFragment : flags
  }
}

function contextsOf(disk: Disk): Context[] {
  const others = [...(disk.contexts ?? [])].map(([name, statusOf], index) => ({
    id: index + 2,
    name,
    statusOf,
  }))
  return [{ id: 1, name: BASE_ALLOCATION }, ...others]
}
