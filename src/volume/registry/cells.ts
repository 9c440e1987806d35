import { damaged } from '../refuse.ts'

/** Where the bins begin, and with them all cell offsets. */
export const BINS_OFFSET = 4096

/** A cell offset that names nothing. */
export const NOTHING = 0xffff_ffff

/** More than this in one piece of a value divided into a list of pieces ("big data", from version 1.4 on). */
export const PIECE_BYTES = 16_344

/** Bytes of a hive whose header has been checked. */
export interface HiveBytes {
  readonly bytes: Buffer
  readonly minorVersion: number
  /** Offset of the root key's cell. */
  readonly root: number
  /** The bins lie in [BINS_OFFSET, BINS_OFFSET + binsBytes). */
  readonly binsBytes: number
}

/** The content of a cell in use: [start, end) of the file. */
export interface Cell {
  readonly offset: number
  readonly start: number
  readonly end: number
}

export interface KeyNode extends Cell {
  readonly name: string
  readonly subkeyCount: number
  /** NOTHING without subkeys. */
  readonly subkeyList: number
  readonly valueCount: number
  readonly valueList: number
  readonly security: number
  readonly className: number
  readonly classBytes: number
}

export interface ValueNode extends Cell {
  readonly name: string
  readonly type: number
  readonly dataBytes: number
  /** A small value lies within its own cell: then `data` is a position in the file, else the offset of a cell. */
  readonly isInline: boolean
  readonly data: number
}

/** Where the entries of a list of subkeys lie: every entry begins with a cell offset. */
export interface SubkeyList extends Cell {
  readonly kind: 'lf' | 'lh' | 'li' | 'ri'
  readonly count: number
  readonly entryBytes: number
}

const COMPRESSED_KEY_NAME = 0x20
const PREDEFINED_HANDLE = 0x40
const COMPRESSED_VALUE_NAME = 1
const IN_CELL = 0x8000_0000
/** The least a cell of a key takes; bounds how many there can be. */
const KEY_BYTES_MIN = 0x4c

/** The cell at `offset`, which has to be in use and hold `bytesMin` at least. Throws refuse('damaged'). */
export function getCell(hive: HiveBytes, offset: number, bytesMin: number): Cell {
  if (offset % 8 !== 0 || offset + 8 > hive.binsBytes) throw damaged(`registry cell ${offset} is not there`)
  const start = BINS_OFFSET + offset + 4
  const sizeBytes = -hive.bytes.readInt32LE(start - 4)
  if (sizeBytes < 8 || offset + sizeBytes > hive.binsBytes || sizeBytes - 4 < bytesMin)
    throw damaged(`registry cell ${offset} is not what it is used for`)
  return { offset, start, end: start - 4 + sizeBytes }
}

function getSigned(hive: HiveBytes, offset: number, signature: string, bytesMin: number): Cell {
  const cell = getCell(hive, offset, bytesMin)
  if (signatureOf(hive, cell) !== signature) throw damaged(`registry cell ${offset} is of another kind`)
  return cell
}

function signatureOf({ bytes }: HiveBytes, cell: Cell): string {
  return bytes.toString('latin1', cell.start, cell.start + 2)
}

export function getKey(hive: HiveBytes, offset: number): KeyNode {
  const cell = getSigned(hive, offset, 'nk', KEY_BYTES_MIN)
  const { bytes } = hive
  const at = cell.start
  const flags = bytes.readUInt16LE(at + 2)
  const nameBytes = bytes.readUInt16LE(at + 0x48)
  if (at + KEY_BYTES_MIN + nameBytes > cell.end) throw damaged(`registry key ${offset} is cut`)
  const subkeyCount = bytes.readUInt32LE(at + 0x14)
  if (subkeyCount > hive.binsBytes / KEY_BYTES_MIN) throw damaged(`registry key ${offset} has too many keys`)
  // A predefined handle has its number where others count their values.
  const valueCount = (flags & PREDEFINED_HANDLE) === 0 ? bytes.readUInt32LE(at + 0x24) : 0
  const className = bytes.readUInt32LE(at + 0x30)
  return {
    ...cell,
    name: nameOf(bytes, at + KEY_BYTES_MIN, nameBytes, (flags & COMPRESSED_KEY_NAME) !== 0),
    subkeyCount,
    subkeyList: subkeyCount === 0 ? NOTHING : bytes.readUInt32LE(at + 0x1c),
    valueCount,
    valueList: valueCount === 0 ? NOTHING : bytes.readUInt32LE(at + 0x28),
    security: bytes.readUInt32LE(at + 0x2c),
    className,
    classBytes: className === NOTHING ? 0 : bytes.readUInt16LE(at + 0x4a),
  }
}

export function keyEnd(hive: HiveBytes, key: Cell): number {
  return key.start + KEY_BYTES_MIN + hive.bytes.readUInt16LE(key.start + 0x48)
}

export function getValue(hive: HiveBytes, offset: number): ValueNode {
  const cell = getSigned(hive, offset, 'vk', 0x14)
  const { bytes } = hive
  const at = cell.start
  const nameBytes = bytes.readUInt16LE(at + 2)
  if (at + 0x14 + nameBytes > cell.end) throw damaged(`registry value ${offset} is cut`)
  const size = bytes.readUInt32LE(at + 4)
  const isInline = size >= IN_CELL
  const dataBytes = isInline ? size - IN_CELL : size
  if (dataBytes > (isInline ? 4 : hive.binsBytes)) throw damaged(`registry value ${offset} is too large`)
  return {
    ...cell,
    name: nameOf(bytes, at + 0x14, nameBytes, (bytes.readUInt16LE(at + 0x10) & COMPRESSED_VALUE_NAME) !== 0),
    type: bytes.readUInt32LE(at + 0xc),
    dataBytes,
    isInline,
    data: isInline ? at + 8 : bytes.readUInt32LE(at + 8),
  }
}

export function valueEnd(hive: HiveBytes, value: Cell): number {
  return value.start + 0x14 + hive.bytes.readUInt16LE(value.start + 2)
}

/** The cells of a key's values. */
export function* valuesOf(hive: HiveBytes, key: KeyNode): Generator<ValueNode> {
  if (key.valueCount === 0) return
  const list = getCell(hive, key.valueList, 4 * key.valueCount)
  for (let index = 0; index < key.valueCount; index += 1)
    yield getValue(hive, hive.bytes.readUInt32LE(list.start + 4 * index))
}

export interface Piece extends Cell {
  readonly usedBytes: number
}

/** The cells that hold the bytes of a value that does not lie within its own, in order; and first those of their list. */
export function dataCells(hive: HiveBytes, value: ValueNode): readonly Piece[] {
  if (value.isInline || value.dataBytes === 0) return []
  if (hive.minorVersion < 4 || value.dataBytes <= PIECE_BYTES)
    return [{ ...getCell(hive, value.data, value.dataBytes), usedBytes: value.dataBytes }]
  const head = getSigned(hive, value.data, 'db', 8)
  const count = hive.bytes.readUInt16LE(head.start + 2)
  if (count !== Math.ceil(value.dataBytes / PIECE_BYTES))
    throw damaged(`registry value ${value.offset} is in ${count} pieces`)
  const list = getCell(hive, hive.bytes.readUInt32LE(head.start + 4), 4 * count)
  const pieces: Piece[] = [
    { ...head, usedBytes: 8 },
    { ...list, usedBytes: 4 * count },
  ]
  for (let index = 0; index < count; index += 1) {
    const usedBytes = Math.min(PIECE_BYTES, value.dataBytes - index * PIECE_BYTES)
    const piece = getCell(hive, hive.bytes.readUInt32LE(list.start + 4 * index), usedBytes)
    pieces.push({ ...piece, usedBytes })
  }
  return pieces
}

/** All the bytes of a value. */
export function dataOf(hive: HiveBytes, value: ValueNode): Buffer {
  if (value.isInline) return Buffer.from(hive.bytes.subarray(value.data, value.data + value.dataBytes))
  const cells = dataCells(hive, value)
  const pieces = cells.length > 1 ? cells.slice(2) : cells
  return Buffer.concat(
    pieces.map(({ start, usedBytes }) => hive.bytes.subarray(start, start + usedBytes)),
    value.dataBytes,
  )
}

export function getSubkeyList(hive: HiveBytes, offset: number): SubkeyList {
  const cell = getCell(hive, offset, 4)
  const kind = signatureOf(hive, cell)
  if (kind !== 'lf' && kind !== 'lh' && kind !== 'li' && kind !== 'ri')
    throw damaged(`registry cell ${offset} is no list of keys`)
  const entryBytes = kind === 'lf' || kind === 'lh' ? 8 : 4
  const count = hive.bytes.readUInt16LE(cell.start + 2)
  if (cell.start + 4 + count * entryBytes > cell.end) throw damaged(`the list of keys ${offset} is cut`)
  return { ...cell, kind, count, entryBytes }
}

/** Cell offset in entry `index` of a list. */
export function entryOf(hive: HiveBytes, list: SubkeyList, index: number): number {
  return hive.bytes.readUInt32LE(list.start + 4 + index * list.entryBytes)
}

/** The lists that name a key's subkeys: one, or those that a list of lists names. Together as long as the key says. */
export function leavesOf(hive: HiveBytes, key: KeyNode): readonly SubkeyList[] {
  if (key.subkeyCount === 0) return []
  const top = getSubkeyList(hive, key.subkeyList)
  const leaves: SubkeyList[] = []
  let count = 0
  for (let index = 0; index < (top.kind === 'ri' ? top.count : 1); index += 1) {
    const leaf = top.kind === 'ri' ? getSubkeyList(hive, entryOf(hive, top, index)) : top
    if (leaf.kind === 'ri') throw damaged(`registry key ${key.offset} has lists in lists`)
    count += leaf.count
    if (count > key.subkeyCount) break
    leaves.push(leaf)
  }
  if (count !== key.subkeyCount) throw damaged(`registry key ${key.offset} miscounts its keys`)
  return leaves
}

/** Offsets of the cells of a key's subkeys. */
export function* subkeysOf(hive: HiveBytes, key: KeyNode): Generator<number> {
  for (const leaf of leavesOf(hive, key))
    for (let index = 0; index < leaf.count; index += 1) yield entryOf(hive, leaf, index)
}

/** Names are compared without regard to case, letter by letter. */
export function foldName(name: string): string {
  const upper = name.toUpperCase()
  if (upper.length === name.length) return upper
  return Array.from({ length: name.length }, (_, index) => {
    const letter = name.charAt(index).toUpperCase()
    return letter.length === 1 ? letter : name.charAt(index)
  }).join('')
}

function nameOf(bytes: Buffer, at: number, lengthBytes: number, isCompressed: boolean): string {
  return bytes.toString(isCompressed ? 'latin1' : 'utf16le', at, at + lengthBytes)
}
