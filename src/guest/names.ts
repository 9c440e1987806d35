import { isUtf8 } from 'node:buffer'
import type { FileSystem, Path } from '../volume/contract.ts'

/** A to Z alone: Windows calls 'publıc' and 'PUBLIC' two names, JavaScript's own upper case calls them one. */
export function foldName(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => letter.toLowerCase())
}

export function sameName(one: string, other: string): boolean {
  return foldName(one) === foldName(other)
}

/** Control characters and half surrogates as '\x1b' and '\udc80': a report is read in terminals and browsers. */
export function shownName(name: string): string {
  return name
    .toWellFormed()
    .split('')
    .map((unit, index) => {
      const code = name.charCodeAt(index)
      if (code >= 0xdc80 && code <= 0xdcff && unit === '\ufffd') return `\\x${(code - 0xdc00).toString(16)}`
      if (unit === '\ufffd' && code !== 0xfffd) return `\\u${code.toString(16)}`
      const isControl = code < 0x20 || (code >= 0x7f && code < 0xa0) || (code >= 0x202a && code <= 0x202e)
      return isControl ? `\\x${code.toString(16).padStart(2, '0')}` : unit
    })
    .join('')
}

/** A path as the system of that volume shows it. */
export function shownPath(files: FileSystem, path: Path): string {
  const separator = files.type === 'ntfs' ? '\\' : '/'
  return separator + path.map(shownName).join(separator)
}

/** Names between slashes; the empty ones and '.' say nothing. */
export function splitPath(text: string): Path {
  return text.split('/').filter((name) => name !== '' && name !== '.')
}

/** Bytes of a text file as names are spelled in `FileSystem`: U+DC80 to U+DCFF for bytes that are not UTF-8. */
export function decodeNames(bytes: Buffer): string {
  if (isUtf8(bytes)) return bytes.toString('utf8')
  const pieces: string[] = []
  for (let at = 0; at < bytes.length; ) {
    const first = bytes[at] ?? 0
    const lengthBytes = first < 0x80 ? 1 : first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2
    const piece = bytes.subarray(at, at + lengthBytes)
    if (piece.length === lengthBytes && isUtf8(piece)) {
      pieces.push(piece.toString('utf8'))
      at += lengthBytes
    } else {
      pieces.push(String.fromCharCode(0xdc00 + first))
      at += 1
    }
  }
  return pieces.join('')
}

/** True if `path` is `above` or beneath it. */
export function isWithin(path: Path, above: Path): boolean {
  return path.length >= above.length && above.every((name, index) => path[index] === name)
}
