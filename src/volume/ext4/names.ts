import { isUtf8 } from 'node:buffer'

const ESCAPE = 0xdc00

/** A name as text: what is no UTF-8 in it has U+DC80 to U+DCFF in place of its bytes, so that no two names become one. */
export function decodeName(bytes: Buffer): string {
  if (isUtf8(bytes)) return bytes.toString('utf8')
  let text = ''
  for (let at = 0; at < bytes.length; ) {
    const length = sequenceBytes(bytes[at] as number)
    const piece = bytes.subarray(at, at + length)
    if (piece.length === length && isUtf8(piece)) {
      text += piece.toString('utf8')
      at += length
    } else {
      text += String.fromCharCode(ESCAPE + (bytes[at] as number))
      at++
    }
  }
  return text
}

function sequenceBytes(first: number): number {
  if (first >= 0xf0) return 4
  if (first >= 0xe0) return 3
  return first >= 0xc0 ? 2 : 1
}
