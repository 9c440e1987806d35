import { damaged } from '../refuse.ts'
import { type Reference, readReference, readSize } from './bytes.ts'

export const NAMESPACE = { posix: 0, win32: 1, dos: 2, win32AndDos: 3 } as const

export const FILE_ATTRIBUTE = { system: 0x4, reparsePoint: 0x400, directory: 0x1000_0000 } as const

/** The value of a $FILE_NAME attribute, and the key of a directory's entry, which is a copy of it. */
export interface FileName {
  readonly parent: Reference
  readonly allocatedBytes: number
  readonly dataBytes: number
  readonly fileAttributes: number
  /** Of meaning if the attributes say that it is a reparse point. */
  readonly reparseTag: number
  readonly namespace: number
  readonly name: string
}

/** Where in it the sizes stand: allocated, then data. */
export const FILE_NAME_SIZES_OFFSET = 0x28

const HEAD_BYTES = 0x42

/** `number`: of the record or directory it was found in, for errors. */
export function parseFileName(bytes: Buffer, number: number): FileName {
  if (bytes.length < HEAD_BYTES + 2) throw damaged(`a name in file record ${number} is cut off`)
  const end = HEAD_BYTES + bytes.readUInt8(0x40) * 2
  const namespace = bytes.readUInt8(0x41)
  if (end > bytes.length || end === HEAD_BYTES || namespace > 3)
    throw damaged(`a name in file record ${number} is wrong`)
  return {
    parent: readReference(bytes, 0),
    allocatedBytes: readSize(bytes, 0x28, 'a size'),
    dataBytes: readSize(bytes, 0x30, 'a size'),
    fileAttributes: bytes.readUInt32LE(0x38),
    reparseTag: bytes.readUInt32LE(0x3c),
    namespace,
    name: bytes.toString('utf16le', HEAD_BYTES, end),
  }
}

/** The form in which two names are the same for this volume. */
export function foldName(name: string, upcase: Uint16Array): string {
  const units = new Uint16Array(name.length)
  for (let index = 0; index < name.length; index += 1) {
    const unit = name.charCodeAt(index)
    units[index] = upcase[unit] ?? unit
  }
  return String.fromCharCode(...units)
}

/** Tells the names of one file in one directory apart (FNV-1a of the exact code units). */
export function hashName(bytes: Buffer): number {
  let hash = 0x811c_9dc5
  const end = Math.min(bytes.length, HEAD_BYTES + bytes.readUInt8(0x40) * 2)
  for (let index = HEAD_BYTES; index < end; index += 1) {
    hash = Math.imul(hash ^ (bytes[index] ?? 0), 0x0100_0193)
  }
  return hash >>> 0
}
