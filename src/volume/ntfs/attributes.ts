import { damaged, refuse } from '../refuse.ts'
import { type Reference, readReference, readSize } from './bytes.ts'
import type { Attribute, Geometry, Run } from './model.ts'
import { FLAG, type Part } from './parts.ts'

/** A list of attributes is 256 KiB at most, by the format. */
export const ATTRIBUTE_LIST_BYTES_MAX = 256 * 1024

const RUNS_MAX = 1_000_000

/** An entry of the list that says in which record each part of each attribute stands. */
export interface ListEntry {
  readonly type: number
  readonly name: string
  readonly lowestVcn: number
  readonly at: Reference
  readonly instance: number
  /** Within the list. */
  readonly offset: number
  readonly lengthBytes: number
}

export function parseAttributeList(bytes: Buffer, number: number): ListEntry[] {
  const entries: ListEntry[] = []
  for (let offset = 0; offset < bytes.length; ) {
    const wrong = () => damaged(`the attribute list of file record ${number} is wrong`)
    if (offset + 26 > bytes.length) throw wrong()
    const lengthBytes = bytes.readUInt16LE(offset + 4)
    const nameBytes = bytes.readUInt8(offset + 6) * 2
    const nameOffset = bytes.readUInt8(offset + 7)
    if (lengthBytes < 26 || offset + lengthBytes > bytes.length) throw wrong()
    if (nameBytes > 0 && nameOffset + nameBytes > lengthBytes) throw wrong()
    entries.push({
      type: bytes.readUInt32LE(offset),
      name: bytes.toString('utf16le', offset + nameOffset, offset + nameOffset + nameBytes),
      lowestVcn: readSize(bytes, offset + 8, 'a cluster number'),
      at: readReference(bytes, offset + 16),
      instance: bytes.readUInt16LE(offset + 24),
      offset,
      lengthBytes,
    })
    offset += lengthBytes
  }
  return entries
}

/** A part and the record it stands in. */
export interface PlacedPart {
  readonly record: number
  readonly part: Part
}

/** Joins parts that follow one another, in the order given, to attributes. `number`: the base record, for errors. */
export function joinParts(parts: readonly PlacedPart[], geometry: Geometry, number: number): Attribute[] {
  const groups: PlacedPart[][] = []
  for (const placed of parts) {
    const group = groups.at(-1)
    const first = group?.[0]?.part
    if (placed.part.lowestVcn === 0) {
      groups.push([placed])
    } else if (group && first && first.type === placed.part.type && first.name === placed.part.name) {
      group.push(placed)
    } else {
      throw damaged(`file record ${number} lacks the beginning of an attribute`)
    }
  }
  return groups.map((group) => join(group, geometry, number))
}

function join(group: readonly PlacedPart[], geometry: Geometry, number: number): Attribute {
  const first = group[0]?.part as Part
  const runs: Run[] = []
  let vcn = 0
  for (const { part } of group) {
    if (part.lowestVcn !== vcn) throw damaged(`file record ${number} lacks a part of an attribute`)
    if (runs.length + part.runs.length > RUNS_MAX) {
      throw refuse(
        'too-large',
        'A file is in more pieces than can be read. Defragment the volume inside the machine, then try again.',
      )
    }
    for (const run of part.runs) {
      runs.push(run)
      vcn = run.vcn + run.length
    }
  }
  const { allocatedBytes, dataBytes, initializedBytes } = first
  const isResident = first.value !== undefined
  if (!isResident && allocatedBytes > vcn * geometry.clusterBytes) {
    throw damaged(`an attribute of file record ${number} is longer than its clusters`)
  }
  if (initializedBytes > dataBytes || dataBytes > allocatedBytes)
    throw damaged(`an attribute of file record ${number} has a wrong size`)
  return {
    type: first.type,
    name: first.name,
    instance: first.instance,
    isCompressed: (first.flags & FLAG.compressed) !== 0,
    isSparse: (first.flags & FLAG.sparse) !== 0,
    isEncrypted: (first.flags & FLAG.encrypted) !== 0,
    isResident,
    value: first.value,
    runs,
    allocatedBytes,
    dataBytes,
    initializedBytes,
    compressionUnit: first.compressionUnit,
    pieces: group.map(({ record, part }) => ({ record, offset: part.offset, lengthBytes: part.lengthBytes })),
  }
}

/** `visit` gets each stretch of [offset, offset + lengthBytes) in order: where it lies on the medium, or null in a hole. */
export function eachStretch(
  runs: readonly Run[],
  clusterBytes: number,
  offset: number,
  lengthBytes: number,
): { at: number | null; offset: number; lengthBytes: number }[] {
  const stretches: { at: number | null; offset: number; lengthBytes: number }[] = []
  const end = offset + lengthBytes
  for (let index = findRun(runs, Math.floor(offset / clusterBytes)); index < runs.length; index += 1) {
    const run = runs[index] as Run
    const runStart = run.vcn * clusterBytes
    if (runStart >= end) break
    const start = Math.max(runStart, offset)
    const stop = Math.min(runStart + run.length * clusterBytes, end)
    if (start >= stop) continue
    stretches.push({
      at: run.lcn === null ? null : run.lcn * clusterBytes + (start - runStart),
      offset: start,
      lengthBytes: stop - start,
    })
  }
  return stretches
}

/** The index of the run that holds `vcn`. */
function findRun(runs: readonly Run[], vcn: number): number {
  let low = 0
  let high = runs.length
  while (low < high) {
    const middle = (low + high) >>> 1
    const run = runs[middle] as Run
    if (run.vcn + run.length <= vcn) low = middle + 1
    else high = middle
  }
  return low
}
