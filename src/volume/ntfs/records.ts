import assert from 'node:assert'
import { damaged, refuse } from '../refuse.ts'
import { parseAttributeList } from './attributes.ts'
import { roundUp, writeSize } from './bytes.ts'
import {
  ATTRIBUTE,
  type Attribute,
  type FileRecord,
  type Ntfs,
  type NtfsFile,
  type Piece,
  STRIDE_BYTES,
} from './model.ts'
import { parseParts, parseRecord } from './parts.ts'

const LENGTH_OFFSET = 4
const IN_USE_OFFSET = 0x18
const END_BYTES = 8

/** A record that is free: nothing of what it held, and a sequence that no reference to it has. */
export function blankRecord(number: number, sequence: number, recordBytes: number): Buffer {
  const raw = Buffer.alloc(recordBytes)
  const strideCount = recordBytes / STRIDE_BYTES
  const attributesOffset = roundUp(0x30 + (strideCount + 1) * 2, 8)
  raw.write('FILE', 0, 'latin1')
  raw.writeUInt16LE(0x30, 4)
  raw.writeUInt16LE(strideCount + 1, 6)
  raw.writeUInt16LE(sequence, 0x10)
  raw.writeUInt16LE(attributesOffset, 0x14)
  raw.writeUInt32LE(attributesOffset + END_BYTES, IN_USE_OFFSET)
  raw.writeUInt32LE(recordBytes, 0x1c)
  raw.writeUInt32LE(number, 0x2c)
  raw.writeUInt32LE(ATTRIBUTE.end, attributesOffset)
  return raw
}

/** Zero is left out: in a reference it means any. */
export function nextSequence(sequence: number): number {
  return sequence >= 0xffff ? 1 : sequence + 1
}

/** Frees a record. Its clusters are the caller's to free. */
export async function freeRecord(ntfs: Ntfs, number: number, sequence: number): Promise<void> {
  const raw = blankRecord(number, nextSequence(sequence), ntfs.geometry.recordBytes)
  await ntfs.writeRecord({ number, raw })
  const map = await ntfs.records()
  map.set(number, 1, false)
}

/** Makes the attribute at `offset` as long as asked, what follows moves; new bytes, and those left behind the end, are zero. */
export function resizeAttribute(raw: Buffer, offset: number, lengthBytes: number): void {
  const before = raw.readUInt32LE(offset + LENGTH_OFFSET)
  const end = raw.readUInt32LE(IN_USE_OFFSET)
  const newEnd = end + lengthBytes - before
  assert(lengthBytes % 8 === 0 && newEnd <= raw.length)
  raw.copy(raw, offset + lengthBytes, offset + before, end)
  if (lengthBytes > before) raw.fill(0, offset + before, offset + lengthBytes)
  else raw.fill(0, newEnd, end)
  if (lengthBytes > 0) raw.writeUInt32LE(lengthBytes, offset + LENGTH_OFFSET)
  raw.writeUInt32LE(newEnd, IN_USE_OFFSET)
}

/** Gives the resident attribute at `offset` another value. There must be room. */
export function setValue(raw: Buffer, offset: number, value: Buffer): void {
  const valueOffset = raw.readUInt16LE(offset + 20)
  const lengthBytes = roundUp(valueOffset + value.length, 8)
  resizeAttribute(raw, offset, lengthBytes)
  raw.writeUInt32LE(value.length, offset + 16)
  value.copy(raw, offset + valueOffset)
  raw.fill(0, offset + valueOffset + value.length, offset + lengthBytes)
}

/** Makes the attribute at `offset` resident and empty. It has no name. */
export function setEmpty(raw: Buffer, offset: number): void {
  const type = raw.readUInt32LE(offset)
  const instance = raw.readUInt16LE(offset + 14)
  resizeAttribute(raw, offset, 24)
  raw.fill(0, offset, offset + 24)
  raw.writeUInt32LE(type, offset)
  raw.writeUInt32LE(24, offset + LENGTH_OFFSET)
  raw.writeUInt16LE(24, offset + 10)
  raw.writeUInt16LE(instance, offset + 14)
  raw.writeUInt16LE(24, offset + 20)
}

export function freeBytesOf(raw: Buffer): number {
  return raw.length - raw.readUInt32LE(IN_USE_OFFSET)
}

export function rawOf(file: NtfsFile, number: number): Buffer {
  const record =
    number === file.record.number ? file.record : file.extensions.find((one) => one.number === number)
  assert(record)
  return record.raw
}

/**
 * Takes pieces of attributes out of a file's records and out of its attribute list, and writes all its records; extension
 * records that are left with nothing become free. `file` must be read again afterwards.
 */
export async function dropPieces(ntfs: Ntfs, file: NtfsFile, pieces: readonly Piece[]): Promise<void> {
  const gone = new Set<string>()
  // From the back, so that the offsets of the others stay what they are.
  for (const piece of [...pieces].sort((one, other) => other.offset - one.offset)) {
    const raw = rawOf(file, piece.record)
    const place = raw.readUInt16LE(piece.offset + 14)
    gone.add(`${piece.record} ${raw.readUInt32LE(piece.offset)} ${place}`)
    resizeAttribute(raw, piece.offset, 0)
  }
  await shortenList(ntfs, file, gone)
  await ntfs.writeRecord(file.record)
  for (const extension of file.extensions) {
    const isEmpty = parseParts(parseRecord(extension.number, extension.raw), ntfs.geometry).length === 0
    if (isEmpty) await freeRecord(ntfs, extension.number, extension.sequence)
    else await ntfs.writeRecord(extension)
  }
}

/** `gone`: record, type and instance of each piece that is no more. */
async function shortenList(ntfs: Ntfs, file: NtfsFile, gone: ReadonlySet<string>): Promise<void> {
  const { number, raw } = file.record
  const part = parseParts(parseRecord(number, raw), ntfs.geometry).find(
    ({ type }) => type === ATTRIBUTE.attributeList,
  )
  const list = file.attributes.find(({ type }) => type === ATTRIBUTE.attributeList)
  if (part === undefined || list === undefined) return
  const bytes =
    part.value === undefined ? await ntfs.readAttribute(list, 0, list.dataBytes) : Buffer.from(part.value)
  const kept = Buffer.concat(
    parseAttributeList(bytes, number)
      .filter(({ at, type, instance }) => !gone.has(`${at.record} ${type} ${instance}`))
      .map(({ offset, lengthBytes }) => bytes.subarray(offset, offset + lengthBytes)),
  )
  if (part.value !== undefined) {
    setValue(raw, part.offset, kept)
    return
  }
  if (list.runs.some(({ lcn }) => lcn === null))
    throw damaged(`the attribute list of file record ${number} is wrong`)
  const padded = Buffer.alloc(bytes.length)
  kept.copy(padded)
  await ntfs.writeAttribute(list, 0, padded)
  writeSize(raw, kept.length, part.offset + 0x30)
  writeSize(raw, kept.length, part.offset + 0x38)
}

/** The part of an attribute that is in one piece and resident, or a refusal. */
export function onlyPiece(attribute: Attribute, record: FileRecord): Piece {
  const piece = attribute.pieces[0]
  if (piece === undefined || attribute.pieces.length !== 1) {
    throw refuse(
      'damaged',
      `An attribute of file record ${record.number} is in pieces. Check the volume with chkdsk, then try again.`,
    )
  }
  return piece
}
