import { damaged } from '../refuse.ts'

const HIGH = 2 ** 32

/** A count, size or position of eight bytes. Refuses what a number cannot hold exactly: no volume is that large. */
export function readSize(bytes: Buffer, offset: number, what: string): number {
  const high = bytes.readUInt32LE(offset + 4)
  if (high >= 2 ** 21) throw damaged(`${what} is absurdly large`)
  return high * HIGH + bytes.readUInt32LE(offset)
}

/** The same, but -1 and others below zero may come. */
export function readSignedSize(bytes: Buffer, offset: number, what: string): number {
  const high = bytes.readInt32LE(offset + 4)
  if (high >= 2 ** 21 || high < -(2 ** 21)) throw damaged(`${what} is absurdly large`)
  return high * HIGH + bytes.readUInt32LE(offset)
}

export function writeSize(bytes: Buffer, value: number, offset: number): void {
  bytes.writeUInt32LE(value % HIGH, offset)
  bytes.writeUInt32LE(Math.floor(value / HIGH), offset + 4)
}

/** A reference to a file: record number, and the sequence it had when the reference was made. */
export interface Reference {
  readonly record: number
  readonly sequence: number
}

/** Record numbers have 48 bits; what is beyond the MFT is for the reader to notice. */
export function readReference(bytes: Buffer, offset: number): Reference {
  return {
    record: bytes.readUInt16LE(offset + 4) * HIGH + bytes.readUInt32LE(offset),
    sequence: bytes.readUInt16LE(offset + 6),
  }
}

export function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit
}
