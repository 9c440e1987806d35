import { damaged } from '../refuse.ts'
import { readReference, readSignedSize, readSize } from './bytes.ts'
import { ATTRIBUTE, type FileRecord, type Geometry, type Run } from './model.ts'

/** An attribute as it stands in one record: whole, or a part of one that goes on in other records. */
export interface Part {
  readonly type: number
  readonly name: string
  readonly instance: number
  readonly flags: number
  /** Of its header in the raw record. */
  readonly offset: number
  readonly lengthBytes: number
  /** Resident: a view into the record. */
  readonly value: Buffer | undefined
  readonly lowestVcn: number
  readonly runs: readonly Run[]
  /** Of no meaning in a part whose `lowestVcn` is not 0. */
  readonly allocatedBytes: number
  readonly dataBytes: number
  readonly initializedBytes: number
  readonly compressionUnit: number
}

export const FLAG = { compressed: 0x00ff, encrypted: 0x4000, sparse: 0x8000 } as const

/** What the head of a record says; `raw` has its update sequence undone. Refuses offsets that leave the record. */
export function parseRecord(number: number, raw: Buffer): FileRecord {
  const attributesOffset = raw.readUInt16LE(0x14)
  const bytesInUse = raw.readUInt32LE(0x18)
  const flags = raw.readUInt16LE(0x16)
  const isInUse = (flags & 1) !== 0
  const isSound =
    attributesOffset >= 0x2a &&
    attributesOffset % 8 === 0 &&
    bytesInUse <= raw.length &&
    attributesOffset + 8 <= bytesInUse
  if (isInUse && !isSound) throw damaged(`the head of file record ${number} is wrong`)
  const base = readReference(raw, 0x20)
  return {
    number,
    sequence: raw.readUInt16LE(0x10),
    isInUse,
    isDirectory: (flags & 2) !== 0,
    isExtension: base.record !== 0 || base.sequence !== 0,
    base: base.record,
    baseSequence: base.sequence,
    attributesOffset,
    bytesInUse,
    raw,
  }
}

/** All attributes of a record in use, each checked to lie in it and each run in the volume. */
export function parseParts(record: FileRecord, geometry: Geometry): Part[] {
  const { raw, bytesInUse, number } = record
  const parts: Part[] = []
  let offset = record.attributesOffset
  for (;;) {
    if (offset + 4 > bytesInUse) throw damaged(`file record ${number} has no end`)
    const type = raw.readUInt32LE(offset)
    if (type === ATTRIBUTE.end) return parts
    if (offset + 24 > bytesInUse) throw damaged(`an attribute of file record ${number} is cut off`)
    const lengthBytes = raw.readUInt32LE(offset + 4)
    if (lengthBytes < 24 || lengthBytes % 8 !== 0 || offset + lengthBytes > bytesInUse) {
      throw damaged(`an attribute of file record ${number} has a wrong length`)
    }
    parts.push(parsePart(record, geometry, type, offset, lengthBytes))
    offset += lengthBytes
  }
}

function parsePart(
  record: FileRecord,
  geometry: Geometry,
  type: number,
  offset: number,
  lengthBytes: number,
): Part {
  const { raw, number } = record
  const wrong = (what: string) => damaged(`an attribute of file record ${number} has ${what}`)
  const nameBytes = raw.readUInt8(offset + 9) * 2
  const nameOffset = raw.readUInt16LE(offset + 10)
  if (nameBytes > 0 && (nameOffset < 16 || nameOffset + nameBytes > lengthBytes)) throw wrong('a wrong name')
  const common = {
    type,
    name:
      nameBytes === 0 ? '' : raw.toString('utf16le', offset + nameOffset, offset + nameOffset + nameBytes),
    instance: raw.readUInt16LE(offset + 14),
    flags: raw.readUInt16LE(offset + 12),
    offset,
    lengthBytes,
  }
  const form = raw.readUInt8(offset + 8)
  if (form === 0) {
    const valueBytes = raw.readUInt32LE(offset + 16)
    const valueOffset = raw.readUInt16LE(offset + 20)
    if (valueBytes > lengthBytes || valueOffset + valueBytes > lengthBytes || valueOffset < 24) {
      throw wrong('a wrong value')
    }
    return {
      ...common,
      value: raw.subarray(offset + valueOffset, offset + valueOffset + valueBytes),
      lowestVcn: 0,
      runs: [],
      allocatedBytes: valueBytes,
      dataBytes: valueBytes,
      initializedBytes: valueBytes,
      compressionUnit: 0,
    }
  }
  if (form !== 1 || lengthBytes < 64) throw wrong('an unknown form')
  const runsOffset = raw.readUInt16LE(offset + 0x20)
  if (runsOffset < 64 || runsOffset > lengthBytes) throw wrong('a wrong run list')
  const lowestVcn = readSize(raw, offset + 0x10, 'a cluster number')
  const highestVcn = readSignedSize(raw, offset + 0x18, 'a cluster number')
  const runs = parseRuns(raw.subarray(offset + runsOffset, offset + lengthBytes), lowestVcn, geometry, number)
  const last = runs.at(-1)
  const endVcn = last === undefined ? lowestVcn : last.vcn + last.length
  const isEmpty = last === undefined && lowestVcn === 0 && highestVcn <= 0
  if (!isEmpty && endVcn !== highestVcn + 1) throw wrong('a run list of another length than it says')
  const isFirst = lowestVcn === 0
  const unit = raw.readUInt8(offset + 0x22)
  if (unit > 16) throw wrong('an odd compression unit')
  return {
    ...common,
    value: undefined,
    lowestVcn,
    runs,
    allocatedBytes: isFirst ? readSize(raw, offset + 0x28, 'a size') : 0,
    dataBytes: isFirst ? readSize(raw, offset + 0x30, 'a size') : 0,
    initializedBytes: isFirst ? readSize(raw, offset + 0x38, 'a size') : 0,
    compressionUnit: isFirst && unit > 0 ? 2 ** unit : 0,
  }
}

/** Each run: a byte with the lengths of both numbers, then its length, then its place relative to the run before. */
function parseRuns(bytes: Buffer, lowestVcn: number, geometry: Geometry, number: number): Run[] {
  const wrong = () => damaged(`a run list of file record ${number} is wrong`)
  const runs: Run[] = []
  let vcn = lowestVcn
  let lcn = 0
  let at = 0
  for (;;) {
    const head = bytes[at]
    if (head === undefined) throw wrong()
    if (head === 0) return runs
    const lengthBytes = head & 15
    const placeBytes = head >>> 4
    at += 1
    if (
      lengthBytes === 0 ||
      lengthBytes > 8 ||
      placeBytes > 8 ||
      at + lengthBytes + placeBytes > bytes.length
    ) {
      throw wrong()
    }
    const length = readSigned(bytes, at, lengthBytes)
    at += lengthBytes
    // A file system of 2^53 bytes is beyond all we take, so is a stream of as many bytes.
    if (length <= 0 || (vcn + length) * geometry.clusterBytes > Number.MAX_SAFE_INTEGER) throw wrong()
    if (placeBytes === 0) {
      runs.push({ vcn, lcn: null, length })
    } else {
      lcn += readSigned(bytes, at, placeBytes)
      at += placeBytes
      if (lcn < 0 || lcn + length > geometry.clusterCount) throw wrong()
      runs.push({ vcn, lcn, length })
    }
    vcn += length
  }
}

/** Inexact above 2^53, where every caller refuses. */
function readSigned(bytes: Buffer, offset: number, lengthBytes: number): number {
  if (lengthBytes <= 6) return bytes.readIntLE(offset, lengthBytes)
  const high = bytes.readIntLE(offset + 4, lengthBytes - 4)
  return high * 2 ** 32 + bytes.readUInt32LE(offset)
}
