import { damaged } from '../refuse.ts'

/** Source: [MS-FSCC] 2.1.2.1. */
const TAG = {
  mountPoint: 0xa000_0003,
  symbolicLink: 0xa000_000c,
  linuxLink: 0xa000_001d,
  unixSocket: 0x8000_0023,
  linuxPipe: 0x8000_0024,
  linuxCharacter: 0x8000_0025,
  linuxBlock: 0x8000_0026,
} as const

/** This bit of a tag says that the file is another name of something elsewhere. */
const SURROGATE = 0x2000_0000

export function isLinkTag(tag: number): boolean {
  return (tag & SURROGATE) !== 0
}

/** Sockets, pipes and devices of the Linux subsystem. */
export function isSpecialTag(tag: number): boolean {
  return tag >= TAG.unixSocket && tag <= TAG.linuxBlock
}

export const TAG_COMPACT_OS = 0x8000_0017
export const TAG_DEDUPLICATED = 0x8000_0013

/** Where a link points: the name that is shown, or else the one that is used. Undefined for links of a kind we cannot read. */
export function parseLinkTarget(value: Buffer, number: number): string | undefined {
  const wrong = () => damaged(`the link of file record ${number} is wrong`)
  if (value.length < 8) throw wrong()
  const tag = value.readUInt32LE(0)
  const data = value.subarray(8, 8 + value.readUInt16LE(4))
  if (tag === TAG.linuxLink) return data.toString('utf8', 4)
  if (tag !== TAG.mountPoint && tag !== TAG.symbolicLink) return undefined
  const namesOffset = tag === TAG.symbolicLink ? 12 : 8
  if (data.length < namesOffset) throw wrong()
  const nameAt = (offset: number) => {
    const start = namesOffset + data.readUInt16LE(offset)
    const end = start + data.readUInt16LE(offset + 2)
    if (end > data.length) throw wrong()
    return data.toString('utf16le', start, end)
  }
  return nameAt(4) || nameAt(0)
}
