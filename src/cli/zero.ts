const ZERO = Buffer.alloc(1024 ** 2)

export function isAllZero(bytes: Uint8Array): boolean {
  for (let at = 0; at < bytes.length; at += ZERO.length) {
    const lengthBytes = Math.min(ZERO.length, bytes.length - at)
    if (ZERO.compare(bytes, at, at + lengthBytes, 0, lengthBytes) !== 0) return false
  }
  return true
}

/** So many zeroes, a piece at a time; the pieces are shared, and not to be written to. */
export function* zeroes(lengthBytes: number): Generator<Buffer> {
  for (let left = lengthBytes; left > 0; left -= ZERO.length)
    yield ZERO.subarray(0, Math.min(left, ZERO.length))
}
