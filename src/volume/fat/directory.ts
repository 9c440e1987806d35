import { readLabel } from './geometry.ts'

/** Bytes of one slot of a directory; a name takes one, and one more for every 13 characters of a long name. */
export const SLOT_BYTES = 32

const LONG_NAME = 0x0f
const LABEL = 0x08
const DIRECTORY = 0x10
const REMOVED = 0xe5
const LAST_PART = 0x40
const PART_CHARACTERS = [
  [1, 10],
  [14, 12],
  [28, 4],
] as const
const PARTS_MAX = 20

export interface FatEntry {
  readonly name: string
  readonly kind: 'file' | 'directory' | 'label' | 'dots'
  readonly firstCluster: number
  readonly sizeBytes: number
  /** Its slots in the directory, those of the long name first. */
  readonly firstSlot: number
  readonly lastSlot: number
}

/** All names of a directory, up to its end mark, and where that is. `isWide`: FAT32, whose clusters have 32 bits. */
export function readEntries(
  bytes: Buffer,
  isWide: boolean,
): { entries: readonly FatEntry[]; endSlot: number } {
  const entries: FatEntry[] = []
  const slotCount = Math.floor(bytes.length / SLOT_BYTES)
  let parts: Buffer[] = []
  for (let slot = 0; slot < slotCount; slot++) {
    const bytesOfSlot = bytes.subarray(slot * SLOT_BYTES, (slot + 1) * SLOT_BYTES)
    const first = bytesOfSlot.readUInt8(0)
    if (first === 0) return { entries, endSlot: slot }
    const attributes = bytesOfSlot.readUInt8(11)
    if (first === REMOVED) parts = []
    else if ((attributes & 0x3f) === LONG_NAME) {
      // The last part comes first, and says how many there are.
      if ((first & LAST_PART) !== 0) parts = []
      parts.push(bytesOfSlot)
    } else {
      const longName = (attributes & LABEL) === 0 ? joinParts(parts, sumOf(bytesOfSlot)) : undefined
      const kind = kindOf(bytesOfSlot, attributes)
      const high = isWide ? bytesOfSlot.readUInt16LE(20) : 0
      entries.push({
        name:
          kind === 'label' ? readLabel(bytesOfSlot.subarray(0, 11)) : (longName ?? shortName(bytesOfSlot)),
        kind,
        firstCluster: high * 65536 + bytesOfSlot.readUInt16LE(26),
        sizeBytes: bytesOfSlot.readUInt32LE(28),
        firstSlot: longName === undefined ? slot : slot - parts.length,
        lastSlot: slot,
      })
      parts = []
    }
  }
  return { entries, endSlot: slotCount }
}

/** What a removed name leaves: a slot that may be used again, and nothing else. */
export function removedSlot(): Buffer {
  const bytes = Buffer.alloc(SLOT_BYTES)
  bytes[0] = REMOVED
  return bytes
}

function kindOf(bytes: Buffer, attributes: number): FatEntry['kind'] {
  if ((attributes & LABEL) !== 0) return 'label'
  if ((attributes & DIRECTORY) === 0) return 'file'
  const name = bytes.toString('latin1', 0, 11)
  return name === '.          ' || name === '..         ' ? 'dots' : 'directory'
}

/** Undefined unless the parts are whole, in order, and made for this short name: else they are left of something else. */
function joinParts(parts: readonly Buffer[], sum: number): string | undefined {
  if (parts.length === 0 || parts.length > PARTS_MAX) return undefined
  let name = ''
  for (const [index, part] of parts.entries()) {
    const number = part.readUInt8(0)
    const expected = parts.length - index
    if (number !== (index === 0 ? expected | LAST_PART : expected) || part.readUInt8(13) !== sum)
      return undefined
    name = PART_CHARACTERS.map(([at, bytes]) => part.toString('utf16le', at, at + bytes)).join('') + name
  }
  const end = name.indexOf('\0')
  const whole = end === -1 ? name : name.slice(0, end)
  return whole === '' ? undefined : whole
}

function sumOf(bytes: Buffer): number {
  let sum = 0
  for (const byte of bytes.subarray(0, 11)) sum = (((sum & 1) << 7) + (sum >> 1) + byte) & 0xff
  return sum
}

/** Bytes above 127 mean what the machine's code page says, which we do not know: U+DC80 to U+DCFF stand for them. */
function shortName(bytes: Buffer): string {
  const flags = bytes.readUInt8(12)
  const text = (from: number, to: number, isLower: boolean): string => {
    const codes = [...bytes.subarray(from, to)].map((byte) => (byte > 127 ? 0xdc00 + byte : byte))
    // A first byte of 5 stands for the one that marks removed names.
    if (from === 0 && codes[0] === 5) codes[0] = 0xdc00 + REMOVED
    const name = String.fromCharCode(...codes).replace(/ +$/, '')
    return isLower ? name.toLowerCase() : name
  }
  const base = text(0, 8, (flags & 0x08) !== 0)
  const extension = text(8, 11, (flags & 0x10) !== 0)
  return extension === '' ? base : `${base}.${extension}`
}
