import { Fault } from '../image/fault.ts'
import type { Link } from './nbd-link.ts'
import {
  BASE_ALLOCATION,
  type BlockSize,
  decodeContext,
  decodeExport,
  decodeGreeting,
  decodeInfo,
  decodeOptionReply,
  EXPORT_PADDING_BYTES,
  type ExportSize,
  encodeContextRequest,
  encodeInfoRequest,
  encodeOption,
  GREETING_BYTES,
  HANDSHAKE_FLAG,
  INFO,
  isErrorReply,
  OPTION,
  OPTION_REPLY_BYTES,
  REPLY,
} from './nbd-options.ts'
import { breach, EXPORT_FLAG, PAYLOAD_BYTES_MAX } from './nbd-protocol.ts'

/** Answers to one option; a server that sends more is not worth waiting for. */
const REPLY_COUNT_MAX = 64

/** The numbers that the server gave to the meta contexts asked for, by name; it need not know all of them. */
export type ContextIds = ReadonlyMap<string, number>
const NO_CONTEXTS: ContextIds = new Map()

/** What client and server agreed on. */
export interface Agreement extends ExportSize, BlockSize {
  readonly structured: boolean
  readonly contextIds: ContextIds
}

/**
 * The client's half of the handshake, up to the first request. Asks for structured replies, block status and block
 * sizes, and does without any of them. Throws Fault 'absent' if there is no such export, or with reason 'no-context' if
 * it has not all of `contexts`; else 'unavailable'.
 */
export async function agree(
  link: Link,
  exportName: string,
  contexts: readonly string[] = [],
): Promise<Agreement> {
  const agreement = await greet(link, exportName, contexts)
  // Only now: a server without the export refuses its contexts too, and that is the better thing to say.
  const missing = contexts.find((name) => !agreement.contextIds.has(name))
  if (missing === undefined) return agreement
  throw new Fault('absent', `The disk server cannot tell '${missing}' of this disk.`, {
    subject: 'disk',
    reason: 'no-context',
  })
}

async function greet(link: Link, exportName: string, contexts: readonly string[]): Promise<Agreement> {
  const offered = decodeGreeting(await link.take(GREETING_BYTES))
  const flags = offered & (HANDSHAKE_FLAG.fixedNewstyle | HANDSHAKE_FLAG.noZeroes)
  const answer = Buffer.alloc(4)
  answer.writeUInt32BE(flags)
  link.send([answer])
  const padded = (flags & HANDSHAKE_FLAG.noZeroes) === 0
  if ((flags & HANDSHAKE_FLAG.fixedNewstyle) === 0)
    return enterOldWay(link, exportName, padded, false, NO_CONTEXTS)

  const structured = (await ask(link, OPTION.structuredReply)).is === 'accepted'
  const names = [BASE_ALLOCATION, ...contexts]
  const contextIds = structured ? await agreeOnContexts(link, exportName, names) : NO_CONTEXTS
  const data = encodeInfoRequest({ exportName, infos: [INFO.blockSize] })
  const went = await ask(link, OPTION.go, data)
  if (went.is === 'refused') {
    if (went.type === REPLY.errUnsupported) {
      return enterOldWay(link, exportName, padded, structured, contextIds)
    }
    throw refusal(went)
  }
  let size: ExportSize | undefined
  let block: BlockSize = { minimumBytes: 1, preferredBytes: 4096, maximumBytes: PAYLOAD_BYTES_MAX }
  for (const reply of went.replies) {
    if (reply.type !== REPLY.info) throw breach('GO was answered with something else')
    const info = decodeInfo(reply.data)
    if (info.is === 'export') size = info
    if (info.is === 'block-size') block = info
  }
  if (!size) throw breach('GO was answered without the size of the export')
  return settle(size, block, structured, contextIds)
}

function settle(size: ExportSize, block: BlockSize, structured: boolean, contextIds: ContextIds): Agreement {
  if ((size.flags & EXPORT_FLAG.hasFlags) === 0) throw breach('the export has no flags')
  const { minimumBytes, preferredBytes } = block
  // Also what "no limit" (2^32 - 1) becomes. Whole blocks only, and at least one.
  const cappedBytes = Math.min(block.maximumBytes, PAYLOAD_BYTES_MAX)
  const maximumBytes = Math.floor(cappedBytes / minimumBytes) * minimumBytes
  const { sizeBytes, flags } = size
  return { sizeBytes, flags, minimumBytes, preferredBytes, maximumBytes, structured, contextIds }
}

async function enterOldWay(
  link: Link,
  exportName: string,
  padded: boolean,
  structured: boolean,
  contextIds: ContextIds,
): Promise<Agreement> {
  link.send([encodeOption(OPTION.exportName, Buffer.from(exportName))])
  const size = decodeExport(await link.take(10))
  if (padded) await link.take(EXPORT_PADDING_BYTES)
  const block = { minimumBytes: 1, preferredBytes: 4096, maximumBytes: PAYLOAD_BYTES_MAX }
  return settle(size, block, structured, contextIds)
}

async function agreeOnContexts(
  link: Link,
  exportName: string,
  names: readonly string[],
): Promise<ContextIds> {
  const data = encodeContextRequest({ exportName, queries: names })
  const answer = await ask(link, OPTION.setMetaContext, data)
  if (answer.is === 'refused') return NO_CONTEXTS
  const idOf = new Map<string, number>()
  for (const reply of answer.replies) {
    if (reply.type !== REPLY.metaContext) throw breach('a context was answered with something else')
    const { name, id } = decodeContext(reply.data)
    if (!names.includes(name)) continue
    // Two contexts of one number could not be told apart in the answers.
    if (idOf.has(name) || [...idOf.values()].includes(id)) throw breach('a context was given twice')
    idOf.set(name, id)
  }
  return idOf
}

interface Refused {
  readonly is: 'refused'
  readonly type: number
  readonly message: string
}
type Answer =
  | Refused
  | { readonly is: 'accepted'; readonly replies: readonly { type: number; data: Buffer }[] }

async function ask(link: Link, option: number, data?: Buffer): Promise<Answer> {
  link.send([encodeOption(option, data)])
  const replies: { type: number; data: Buffer }[] = []
  while (replies.length < REPLY_COUNT_MAX) {
    const header = decodeOptionReply(await link.take(OPTION_REPLY_BYTES))
    if (header.option !== option) throw breach('an option was answered that nobody sent')
    const payload = await link.take(header.dataBytes)
    if (header.type === REPLY.ack) return { is: 'accepted', replies }
    if (isErrorReply(header.type)) {
      return { is: 'refused', type: header.type, message: payload.toString('utf8', 0, 4096) }
    }
    replies.push({ type: header.type, data: payload })
  }
  throw breach('an option was answered without end')
}

function refusal(refused: Refused): Fault {
  const cause = new Error(`option refused with ${refused.type - 2 ** 31}: ${refused.message}`)
  if (refused.type === REPLY.errUnknown) {
    return new Fault('absent', 'The disk server has no such disk. It may have been removed.', {
      subject: 'disk',
      cause,
    })
  }
  return new Fault('unavailable', 'The disk server refused the connection.', { subject: 'disk', cause })
}
