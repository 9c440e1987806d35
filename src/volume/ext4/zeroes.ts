const ZEROES = Buffer.alloc(65_536)

/** Whether bytes [start, end) are all zero. */
export function isZero(bytes: Buffer, start = 0, end = bytes.length): boolean {
  for (let at = start; at < end; at += ZEROES.length) {
    const to = Math.min(end, at + ZEROES.length)
    if (bytes.compare(ZEROES, 0, to - at, at, to) !== 0) return false
  }
  return true
}

/** Makes bytes [start, end) zero; how many of them were not. */
export function blank(bytes: Buffer, start: number, end: number): number {
  if (start >= end || isZero(bytes, start, end)) return 0
  let count = 0
  for (let at = start; at < end; at++) if (bytes[at] !== 0) count++
  bytes.fill(0, start, end)
  return count
}
