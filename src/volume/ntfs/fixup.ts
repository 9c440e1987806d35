import assert from 'node:assert'
import { STRIDE_BYTES } from './model.ts'

/**
 * Undoes the update sequence of a record or index block, in place: the last two bytes of every 512 were replaced by one
 * number when it was written, so that a torn write shows. False, and `bytes` unchanged, if they do not fit.
 */
export function undoFixup(bytes: Buffer): boolean {
  const place = findSequence(bytes)
  if (place === undefined) return false
  const { offset, count } = place
  const stamp = bytes.readUInt16LE(offset)
  for (let index = 1; index <= count; index += 1) {
    if (bytes.readUInt16LE(index * STRIDE_BYTES - 2) !== stamp) return false
  }
  for (let index = 1; index <= count; index += 1) {
    bytes.writeUInt16LE(bytes.readUInt16LE(offset + index * 2), index * STRIDE_BYTES - 2)
  }
  return true
}

/** A copy of `bytes` as they go to the medium, with the next update sequence. Asserts that the place for it is right. */
export function withFixup(bytes: Buffer): Buffer {
  const done = Buffer.from(bytes)
  const place = findSequence(done)
  assert(place !== undefined)
  const { offset, count } = place
  // 0 and 0xffff are never used.
  const last = done.readUInt16LE(offset)
  const stamp = last >= 0xfffe ? 1 : last + 1
  done.writeUInt16LE(stamp, offset)
  for (let index = 1; index <= count; index += 1) {
    done.writeUInt16LE(done.readUInt16LE(index * STRIDE_BYTES - 2), offset + index * 2)
    done.writeUInt16LE(stamp, index * STRIDE_BYTES - 2)
  }
  return done
}

/** Where the update sequence stands, if it can: behind the signature, in the first stride and not over its last bytes. */
function findSequence(bytes: Buffer): { offset: number; count: number } | undefined {
  assert(bytes.length > 0 && bytes.length % STRIDE_BYTES === 0)
  const offset = bytes.readUInt16LE(4)
  const count = bytes.length / STRIDE_BYTES
  if (bytes.readUInt16LE(6) !== count + 1) return undefined
  if (offset < 8 || offset % 2 !== 0) return undefined
  if (offset + (count + 1) * 2 > STRIDE_BYTES - 2) return undefined
  return { offset, count }
}
