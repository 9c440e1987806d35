import { damaged } from '../refuse.ts'
import { NODE_HEADER_BYTES, parseNode, ROOT_HEADER_OFFSET } from './index.ts'
import { ATTRIBUTE, type FileRecord, type Geometry, STRIDE_BYTES } from './model.ts'
import { FLAG, type Part, parseParts } from './parts.ts'
import { zeroNodeSlack } from './scrub-node.ts'

/** Before version 3.1 the update sequence stood here, now at 0x30. */
const HEAD_BYTES_MIN = 0x2a
const SEQUENCE_OFFSET = 0x30
const SIZES_END = 0x40
const COMPRESSED_SIZES_END = 0x48

/**
 * A record in use without what earlier content has left in it: behind its end and in the gaps between its parts. A copy of
 * `record.raw`, the update sequence undone. Throws refuse('damaged') where its parts do not fit.
 */
export function withoutSlack(record: FileRecord, geometry: Geometry): Buffer {
  const raw = Buffer.from(record.raw)
  const parts = parseParts(record, geometry)
  const sequence = raw.readUInt16LE(4)
  const sequenceEnd = sequence + raw.readUInt16LE(6) * 2
  if (sequence < HEAD_BYTES_MIN || sequenceEnd > record.attributesOffset)
    throw damaged(`the head of file record ${record.number} is wrong`)
  raw.fill(0, sequenceEnd, record.attributesOffset)
  let end = record.attributesOffset
  for (const part of parts) {
    zeroPartSlack(raw, part, record.number)
    end = part.offset + part.lengthBytes
  }
  // The mark of the end has four bytes.
  return raw.fill(0, end + 4)
}

function zeroPartSlack(raw: Buffer, part: Part, number: number): void {
  const { offset, lengthBytes } = part
  const nameStart = offset + raw.readUInt16LE(offset + 10)
  const keeps: [from: number, to: number][] = [[nameStart, nameStart + raw.readUInt8(offset + 9) * 2]]
  if (part.value !== undefined) {
    const start = offset + raw.readUInt16LE(offset + 20)
    const end = start + part.value.length
    keeps.push([offset, offset + 24], [start, end])
    const hasNode = part.value.length >= ROOT_HEADER_OFFSET + NODE_HEADER_BYTES
    if (part.type === ATTRIBUTE.indexRoot && hasNode) {
      const value = raw.subarray(start, end)
      const gap = ROOT_HEADER_OFFSET + NODE_HEADER_BYTES
      const isOfNames = value.readUInt32LE(0) === ATTRIBUTE.fileName
      zeroNodeSlack(value, ROOT_HEADER_OFFSET, gap, parseNode(value, ROOT_HEADER_OFFSET, number), isOfNames)
    }
  } else {
    const runs = offset + raw.readUInt16LE(offset + 0x20)
    const isSized = (part.flags & (FLAG.compressed | FLAG.sparse)) !== 0 || part.compressionUnit !== 0
    keeps.push([offset, offset + (isSized ? COMPRESSED_SIZES_END : SIZES_END)], [runs, endOfRuns(raw, runs)])
  }
  zeroOutside(raw, offset, offset + lengthBytes, keeps)
}

/** The run list has been parsed before: it ends within its part. */
function endOfRuns(raw: Buffer, start: number): number {
  let at = start
  for (let head = raw.readUInt8(at); head !== 0; head = raw.readUInt8(at))
    at += 1 + (head & 15) + (head >>> 4)
  return at + 1
}

function zeroOutside(
  raw: Buffer,
  start: number,
  end: number,
  keeps: readonly (readonly [number, number])[],
): void {
  let at = start
  for (const [from, to] of [...keeps].sort((a, b) => a[0] - b[0])) {
    if (from > at) raw.fill(0, at, Math.min(from, end))
    at = Math.max(at, to)
  }
  if (at < end) raw.fill(0, at, end)
}

/**
 * A record that is not in use and holds nothing, as it lies on the medium. Its sequence number and the number of its update
 * sequence stay as they are in `raw`.
 */
export function emptyRecord(number: number, raw: Buffer): Buffer {
  const strideCount = raw.length / STRIDE_BYTES
  const place = raw.readUInt16LE(4)
  const stamp = place >= 8 && place <= STRIDE_BYTES - 4 ? raw.readUInt16LE(place) : 0
  const attributesOffset = Math.ceil((SEQUENCE_OFFSET + 2 * (strideCount + 1)) / 8) * 8
  const empty = Buffer.alloc(raw.length)
  empty.write('FILE', 0, 'latin1')
  empty.writeUInt16LE(SEQUENCE_OFFSET, 4)
  empty.writeUInt16LE(strideCount + 1, 6)
  empty.writeUInt16LE(raw.readUInt16LE(0x10), 0x10)
  empty.writeUInt16LE(attributesOffset, 0x14)
  empty.writeUInt32LE(attributesOffset + 8, 0x18)
  empty.writeUInt32LE(raw.length, 0x1c)
  empty.writeUInt32LE(number % 2 ** 32, 0x2c)
  empty.writeUInt32LE(ATTRIBUTE.end, attributesOffset)
  empty.writeUInt16LE(stamp, SEQUENCE_OFFSET)
  return withSameFixup(empty)
}

/**
 * A copy of a record or index block whose update sequence is undone, as it lies on the medium with the sequence number that
 * it had: what is scrubbed twice is the same twice.
 */
export function withSameFixup(bytes: Buffer): Buffer {
  const done = Buffer.from(bytes)
  const offset = done.readUInt16LE(4)
  const stamp = done.readUInt16LE(offset)
  for (let index = 1; index * STRIDE_BYTES <= done.length; index += 1) {
    const end = index * STRIDE_BYTES - 2
    done.writeUInt16LE(done.readUInt16LE(end), offset + index * 2)
    done.writeUInt16LE(stamp, end)
  }
  return done
}
