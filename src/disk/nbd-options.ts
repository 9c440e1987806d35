import { breach, readUint64, TEXT_BYTES_MAX, writeUint64 } from './nbd-protocol.ts'

/**
 * The numbers and payloads of NBD's handshake. Every `decode` distrusts: it throws the breach of a payload that is
 * cut, too long, or says something the protocol forbids. Source: doc/proto.md of the NetworkBlockDevice project.
 */
export const HANDSHAKE_MAGIC = 0x4e42444d41474943n
export const OPTION_MAGIC = 0x49484156454f5054n
export const OPTION_REPLY_MAGIC = 0x0003e889045565a9n
export const HANDSHAKE_FLAG = { fixedNewstyle: 1, noZeroes: 2 } as const

export const GREETING_BYTES = 18
export const OPTION_BYTES = 16
export const OPTION_REPLY_BYTES = 20
/** Zeroes behind the answer to EXPORT_NAME unless both sides agreed to leave them out. */
export const EXPORT_PADDING_BYTES = 124
/** More than any option or its reply needs; a longer one ends the connection. */
export const OPTION_DATA_BYTES_MAX = 64 * 1024

export const BASE_ALLOCATION = 'base:allocation'

export const OPTION = {
  exportName: 1,
  abort: 2,
  list: 3,
  startTls: 5,
  info: 6,
  go: 7,
  structuredReply: 8,
  listMetaContext: 9,
  setMetaContext: 10,
} as const

const ERROR_BIT = 2 ** 31
export const REPLY = {
  ack: 1,
  server: 2,
  info: 3,
  metaContext: 4,
  errUnsupported: ERROR_BIT + 1,
  errPolicy: ERROR_BIT + 2,
  errInvalid: ERROR_BIT + 3,
  errUnknown: ERROR_BIT + 6,
} as const

export function isErrorReply(type: number): boolean {
  return type >= ERROR_BIT
}

export const INFO = { export: 0, name: 1, blockSize: 3 } as const

export function encodeGreeting(flags: number): Buffer {
  const bytes = Buffer.alloc(GREETING_BYTES)
  bytes.writeBigUInt64BE(HANDSHAKE_MAGIC, 0)
  bytes.writeBigUInt64BE(OPTION_MAGIC, 8)
  bytes.writeUInt16BE(flags, 16)
  return bytes
}

/** The server's handshake flags. */
export function decodeGreeting(bytes: Buffer): number {
  if (bytes.readBigUInt64BE(0) !== HANDSHAKE_MAGIC) throw breach('this is no NBD server')
  if (bytes.readBigUInt64BE(8) !== OPTION_MAGIC) throw breach('the server speaks only the old handshake')
  return bytes.readUInt16BE(16)
}

export function encodeOption(option: number, data: Buffer = Buffer.alloc(0)): Buffer {
  const bytes = Buffer.alloc(OPTION_BYTES + data.length)
  bytes.writeBigUInt64BE(OPTION_MAGIC, 0)
  bytes.writeUInt32BE(option, 8)
  bytes.writeUInt32BE(data.length, 12)
  data.copy(bytes, OPTION_BYTES)
  return bytes
}

export function decodeOption(header: Buffer): { option: number; dataBytes: number } {
  if (header.readBigUInt64BE(0) !== OPTION_MAGIC) throw breach('an option begins with a wrong number')
  const dataBytes = header.readUInt32BE(12)
  if (dataBytes > OPTION_DATA_BYTES_MAX) throw breach('an option is too long')
  return { option: header.readUInt32BE(8), dataBytes }
}

export function encodeOptionReply(option: number, type: number, data: Buffer = Buffer.alloc(0)): Buffer {
  const bytes = Buffer.alloc(OPTION_REPLY_BYTES + data.length)
  bytes.writeBigUInt64BE(OPTION_REPLY_MAGIC, 0)
  bytes.writeUInt32BE(option, 8)
  bytes.writeUInt32BE(type, 12)
  bytes.writeUInt32BE(data.length, 16)
  data.copy(bytes, OPTION_REPLY_BYTES)
  return bytes
}

export function decodeOptionReply(header: Buffer): { option: number; type: number; dataBytes: number } {
  if (header.readBigUInt64BE(0) !== OPTION_REPLY_MAGIC) {
    throw breach('the answer to an option begins with a wrong number')
  }
  const dataBytes = header.readUInt32BE(16)
  if (dataBytes > OPTION_DATA_BYTES_MAX) throw breach('the answer to an option is too long')
  return { option: header.readUInt32BE(8), type: header.readUInt32BE(12), dataBytes }
}

/** The data of INFO and GO. */
export interface InfoRequest {
  readonly exportName: string
  readonly infos: readonly number[]
}

export function encodeInfoRequest(request: InfoRequest): Buffer {
  return Buffer.concat([
    lengthAndText(request.exportName),
    uint16(request.infos.length),
    ...request.infos.map(uint16),
  ])
}

export function decodeInfoRequest(data: Buffer): InfoRequest {
  const cursor = new Cursor(data)
  const exportName = cursor.lengthAndText()
  const infos = Array.from({ length: cursor.uint16() }, () => cursor.uint16())
  cursor.end()
  return { exportName, infos }
}

/** The data of LIST_META_CONTEXT and SET_META_CONTEXT. */
export interface ContextRequest {
  readonly exportName: string
  readonly queries: readonly string[]
}

export function encodeContextRequest(request: ContextRequest): Buffer {
  const { exportName, queries } = request
  return Buffer.concat([lengthAndText(exportName), uint32(queries.length), ...queries.map(lengthAndText)])
}

export function decodeContextRequest(data: Buffer): ContextRequest {
  const cursor = new Cursor(data)
  const exportName = cursor.lengthAndText()
  const queryCount = cursor.uint32()
  const queries: string[] = []
  // Not Array.from: a count of four thousand million must fail at the end of the data, not allocate first.
  for (let index = 0; index < queryCount; index++) queries.push(cursor.lengthAndText())
  cursor.end()
  return { exportName, queries }
}

export function encodeContext(id: number, name: string): Buffer {
  return Buffer.concat([uint32(id), Buffer.from(name)])
}

export function decodeContext(data: Buffer): { id: number; name: string } {
  const cursor = new Cursor(data)
  return { id: cursor.uint32(), name: cursor.rest() }
}

/** The data of one SERVER reply to LIST. */
export function encodeServer(exportName: string): Buffer {
  return lengthAndText(exportName)
}

export interface ExportSize {
  readonly sizeBytes: number
  readonly flags: number
}

/** 10 bytes: the answer to EXPORT_NAME, and what an export's info holds after its type. */
export function encodeExport(size: ExportSize): Buffer {
  const bytes = Buffer.alloc(10)
  writeUint64(bytes, size.sizeBytes, 0)
  bytes.writeUInt16BE(size.flags, 8)
  return bytes
}

export function decodeExport(bytes: Buffer): ExportSize {
  const cursor = new Cursor(bytes)
  const sizeBytes = cursor.uint64()
  const flags = cursor.uint16()
  if (!Number.isSafeInteger(sizeBytes)) throw breach('the export is larger than any disk')
  return { sizeBytes, flags }
}

export interface BlockSize {
  readonly minimumBytes: number
  readonly preferredBytes: number
  readonly maximumBytes: number
}

export type Info =
  | ({ readonly is: 'export' } & ExportSize)
  | ({ readonly is: 'block-size' } & BlockSize)
  | { readonly is: 'name'; readonly name: string }
  | { readonly is: 'other' }

export function encodeInfo(info: Exclude<Info, { is: 'other' }>): Buffer {
  switch (info.is) {
    case 'export':
      return Buffer.concat([uint16(INFO.export), encodeExport(info)])
    case 'name':
      return Buffer.concat([uint16(INFO.name), Buffer.from(info.name)])
    case 'block-size':
      return Buffer.concat([
        uint16(INFO.blockSize),
        uint32(info.minimumBytes),
        uint32(info.preferredBytes),
        uint32(info.maximumBytes),
      ])
    default:
      return info satisfies never
  }
}

export function decodeInfo(data: Buffer): Info {
  const cursor = new Cursor(data)
  switch (cursor.uint16()) {
    case INFO.export:
      return { is: 'export', ...decodeExport(data.subarray(2, 12)) }
    case INFO.name:
      return { is: 'name', name: cursor.rest() }
    case INFO.blockSize:
      return { is: 'block-size', ...decodeBlockSize(cursor) }
    default:
      return { is: 'other' }
  }
}

function decodeBlockSize(cursor: Cursor): BlockSize {
  const minimumBytes = cursor.uint32()
  const preferredBytes = cursor.uint32()
  const maximumBytes = cursor.uint32()
  const isPower = (value: number) => value > 0 && Number.isInteger(Math.log2(value))
  if (!isPower(minimumBytes) || minimumBytes > 65536 || !isPower(preferredBytes)) {
    throw breach('its block sizes are no powers of two')
  }
  if (maximumBytes < minimumBytes) throw breach('its largest block is smaller than its smallest')
  return { minimumBytes, preferredBytes, maximumBytes }
}

function uint16(value: number): Buffer {
  const bytes = Buffer.alloc(2)
  bytes.writeUInt16BE(value)
  return bytes
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

function lengthAndText(text: string): Buffer {
  const bytes = Buffer.from(text)
  return Buffer.concat([uint32(bytes.length), bytes])
}

class Cursor {
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  #move(countBytes: number): number {
    const at = this.#at
    if (at + countBytes > this.#bytes.length) throw breach('an option is cut short')
    this.#at += countBytes
    return at
  }

  uint16(): number {
    return this.#bytes.readUInt16BE(this.#move(2))
  }

  uint32(): number {
    return this.#bytes.readUInt32BE(this.#move(4))
  }

  uint64(): number {
    return readUint64(this.#bytes, this.#move(8))
  }

  lengthAndText(): string {
    const countBytes = this.uint32()
    if (countBytes > TEXT_BYTES_MAX) throw breach('a name is too long')
    const at = this.#move(countBytes)
    return this.#bytes.toString('utf8', at, at + countBytes)
  }

  rest(): string {
    return this.#bytes.toString('utf8', this.#move(this.#bytes.length - this.#at))
  }

  end(): void {
    if (this.#at !== this.#bytes.length) throw breach('an option has bytes left over')
  }
}
