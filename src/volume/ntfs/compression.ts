import { damaged } from '../refuse.ts'
import type { Attribute, Ntfs } from './model.ts'

/** LZNT1 works on blocks of this many bytes. Source: [MS-XCA] 2.5. */
const BLOCK_BYTES = 4096

/**
 * The first bytes of a compressed stream. It is cut into units of 16 clusters, as a rule; one without a hole is stored as it
 * is, one of holes alone is zero, any other is LZNT1.
 */
export async function decompressPrefix(
  ntfs: Ntfs,
  data: Attribute,
  lengthBytes: number,
): Promise<Buffer | undefined> {
  const { clusterBytes } = ntfs.geometry
  const unitBytes = data.compressionUnit * clusterBytes
  if (unitBytes === 0 || unitBytes > 16 * 1024 * 1024) return undefined
  const target = Buffer.alloc(lengthBytes)
  const wantedBytes = Math.min(lengthBytes, data.initializedBytes)
  // What is stored of a unit may reach beyond where its content ends.
  const whole = { ...data, initializedBytes: data.allocatedBytes }
  let runIndex = 0
  for (let start = 0; start < wantedBytes; start += unitBytes) {
    const firstVcn = start / clusterBytes
    const endVcn = firstVcn + data.compressionUnit
    while (runIndex < data.runs.length) {
      const run = data.runs[runIndex]
      if (run === undefined || run.vcn + run.length > firstVcn) break
      runIndex += 1
    }
    let storedClusters = 0
    let hasHole = false
    for (let index = runIndex; index < data.runs.length; index += 1) {
      const run = data.runs[index]
      if (run === undefined || run.vcn >= endVcn) break
      const length = Math.min(run.vcn + run.length, endVcn) - Math.max(run.vcn, firstVcn)
      if (run.lcn === null) hasHole = true
      else if (hasHole) throw damaged('a compressed file has its holes in the wrong place')
      else storedClusters += length
    }
    if (storedClusters === 0) continue
    const storedBytes = Math.min(storedClusters * clusterBytes, data.allocatedBytes - start)
    const lengthHere = Math.min(unitBytes, wantedBytes - start)
    const stored = await ntfs.readAttribute(whole, start, storedBytes)
    if (storedClusters === data.compressionUnit) stored.copy(target, start, 0, lengthHere)
    else decompress(stored, unitBytes).copy(target, start, 0, lengthHere)
  }
  return target
}

/** LZNT1: blocks with a head of two bytes; in each, flag bytes tell bytes that stand for themselves from references back. */
export function decompress(source: Buffer, targetBytesMax: number): Buffer {
  const target = Buffer.alloc(targetBytesMax)
  let from = 0
  let blockStart = 0
  while (from + 2 <= source.length && blockStart < targetBytesMax) {
    const head = source.readUInt16LE(from)
    if (head === 0) break
    const end = from + 3 + (head & 0xfff)
    if (end > source.length) throw damaged('a compressed block is cut off')
    const block = source.subarray(from + 2, end)
    const place = target.subarray(blockStart, Math.min(blockStart + BLOCK_BYTES, targetBytesMax))
    if ((head & 0x8000) === 0) block.copy(place)
    else decompressBlock(block, place)
    from = end
    blockStart += BLOCK_BYTES
  }
  return target
}

function decompressBlock(source: Buffer, target: Buffer): void {
  let from = 0
  let to = 0
  while (from < source.length) {
    let flags = source[from] ?? 0
    from += 1
    for (let bit = 0; bit < 8 && from < source.length; bit += 1, flags >>>= 1) {
      if ((flags & 1) === 0) {
        if (to >= target.length) throw damaged('a compressed block is too long')
        target[to] = source[from] ?? 0
        to += 1
        from += 1
        continue
      }
      if (from + 2 > source.length || to === 0) throw damaged('a compressed block is wrong')
      const pair = source.readUInt16LE(from)
      from += 2
      // The further in the block, the more bits are for the distance and the fewer for the length.
      let distanceBits = 4
      while (distanceBits < 12 && to > 1 << distanceBits) distanceBits += 1
      const lengthBits = 16 - distanceBits
      const distance = (pair >>> lengthBits) + 1
      const length = (pair & ((1 << lengthBits) - 1)) + 3
      if (distance > to || to + length > target.length) throw damaged('a compressed block is wrong')
      for (let index = 0; index < length; index += 1, to += 1) target[to] = target[to - distance] ?? 0
    }
  }
}
