import type { Medium } from '../contract.ts'
import { eachStretch } from './attributes.ts'
import type { Attribute, Geometry } from './model.ts'
import type { Ends } from './scrub-ends.ts'

/** A unit has 16 clusters of 4 KiB at most; what claims more is left as it is. */
const UNIT_BYTES_MAX = 1024 * 1024
const CHUNK_BYTES = 4096

/**
 * Finds what is behind the compressed bytes of each unit of a compressed attribute: a unit of fewer clusters than it stands
 * for is compressed, one with all of them is stored as it is. Where the end of the bytes cannot be told, nothing is added.
 */
export async function findCompressedEnds(
  medium: Medium,
  attribute: Attribute,
  { clusterBytes }: Geometry,
  ends: Ends,
): Promise<void> {
  const { compressionUnit: unit, dataBytes, initializedBytes } = attribute
  const unitBytes = unit * clusterBytes
  if (unit === 0 || unitBytes > UNIT_BYTES_MAX) return
  for (const { vcn, length, isWhole } of unitsOf(attribute, unit)) {
    const start = vcn * clusterBytes
    const end = start + length * clusterBytes
    const usedBytes = Math.min(initializedBytes, dataBytes)
    if (start >= usedBytes) {
      ends.addRange(attribute, clusterBytes, start, end)
    } else if (!isWhole) {
      const parts: Buffer[] = []
      for (const { at, lengthBytes } of eachStretch(attribute.runs, clusterBytes, start, end - start))
        if (at !== null) parts.push(await medium.read(at, lengthBytes))
      const usedInUnit = compressedBytes(Buffer.concat(parts), unitBytes / CHUNK_BYTES)
      if (usedInUnit !== undefined) ends.addRange(attribute, clusterBytes, start + usedInUnit, end)
    } else if (usedBytes < end) {
      ends.addRange(attribute, clusterBytes, usedBytes, end)
    }
  }
}

/** The clusters at the beginning of each unit that has any. One with more of them behind a hole is no unit, and left out. */
function* unitsOf(
  { runs }: Attribute,
  unit: number,
): Generator<{ readonly vcn: number; readonly length: number; readonly isWhole: boolean }> {
  let start = -1
  let length = 0
  let isOdd = false
  for (const run of runs) {
    if (run.lcn === null) continue
    for (let vcn = run.vcn; vcn < run.vcn + run.length; ) {
      const first = vcn - (vcn % unit)
      if (first !== start) {
        if (start >= 0 && !isOdd) yield { vcn: start, length, isWhole: length === unit }
        start = first
        length = 0
        isOdd = false
      }
      const count = Math.min(first + unit, run.vcn + run.length) - vcn
      if (vcn !== start + length) isOdd = true
      length += count
      vcn += count
    }
  }
  if (start >= 0 && !isOdd) yield { vcn: start, length, isWhole: length === unit }
}

/**
 * How many bytes of a unit its compressed content takes, by the heads of its chunks; undefined if these do not fit. The mark
 * of the end is not counted: it is zero. Source: [MS-XCA] 2.5, "LZNT1".
 */
export function compressedBytes(bytes: Buffer, chunkCountMax: number): number | undefined {
  let at = 0
  for (let count = 0; count < chunkCountMax; count += 1) {
    if (at + 2 > bytes.length) return at === bytes.length ? at : undefined
    const head = bytes.readUInt16LE(at)
    if (head === 0) return at
    if (((head >>> 12) & 7) !== 3) return undefined
    at += 3 + (head & 0xfff)
    if (at > bytes.length) return undefined
  }
  return at
}
