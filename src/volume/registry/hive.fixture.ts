import assert from 'node:assert/strict'

/** A value: text is REG_SZ, a number REG_DWORD; else a type and its bytes, or text in UTF-16 with a zero at its end. */
export type HiveValue = string | number | { readonly type: number; readonly data: Buffer | string }

export interface HiveTree {
  /** The default value is ''. */
  readonly values?: Readonly<Record<string, HiveValue>>
  readonly keys?: Readonly<Record<string, HiveTree>>
  readonly className?: string
  /** Keys with equal text share a security cell; a key without one has its parent's. */
  readonly security?: string
}

export interface HiveOptions {
  /** 3 by default; big data begins with 4. */
  readonly minorVersion?: number
  /** How subkeys are listed: 'lh' by default; 'ri' is a list of 'lh' lists with `leafCount` entries each. */
  readonly list?: 'lf' | 'lh' | 'li' | 'ri'
  readonly leafCount?: number
  /** Fills free cells and the ends of used ones, as years of use do. */
  readonly litter?: string
  /** As if it had not been closed. */
  readonly isDirty?: boolean
}

export const REG_EXPAND_SZ = 2

/** REG_EXPAND_SZ, the type of ProfileImagePath. */
export function expandable(text: string): HiveValue {
  return { type: REG_EXPAND_SZ, data: text }
}

/**
 * A SOFTWARE hive as far as the list of profiles goes. `paths`: ProfileImagePath by security identifier.
 */
export function profileListTree(paths: Readonly<Record<string, string>>): HiveTree {
  const profiles = Object.entries(paths).map(([sid, path]): [string, HiveTree] => [
    sid,
    { values: { ProfileImagePath: expandable(path), State: 0, Flags: 0 } },
  ])
  const list: HiveTree = {
    values: {
      ProfilesDirectory: expandable('%SystemDrive%\\Users'),
      Public: expandable('%SystemDrive%\\Users\\Public'),
    },
    keys: Object.fromEntries(profiles),
  }
  return {
    keys: {
      Microsoft: {
        keys: {
          'Windows NT': {
            keys: { CurrentVersion: { values: { ProductName: 'Windows' }, keys: { ProfileList: list } } },
          },
        },
      },
    },
  }
}

const BIN_BYTES = 4096
const NOTHING = 0xffff_ffff
const PIECE_BYTES = 16_344

/** Bytes of a registry hive that holds `tree` under its root key. */
export function buildHive(tree: HiveTree, options: HiveOptions = {}): Buffer {
  const { minorVersion = 3, list = 'lh', leafCount = 500, litter, isDirty = false } = options
  const litterBytes = litter === undefined ? undefined : Buffer.from(litter)
  const cells: { readonly offset: number; readonly content: Buffer }[] = []
  const bins: { offset: number; sizeBytes: number; usedBytes: number }[] = []
  const securities = new Map<string, { offset: number; count: number }>()

  /** A cell in the last bin, or in a new one that it fits into. */
  const allocate = (content: Buffer): number => {
    const cellBytes = Math.ceil((content.length + 4) / 8) * 8
    let bin = bins.at(-1)
    if (bin === undefined || bin.usedBytes + cellBytes > bin.sizeBytes) {
      const offset = bin === undefined ? 0 : bin.offset + bin.sizeBytes
      const sizeBytes = Math.ceil((cellBytes + 32) / BIN_BYTES) * BIN_BYTES
      bin = { offset, sizeBytes, usedBytes: 32 }
      bins.push(bin)
    }
    const offset = bin.offset + bin.usedBytes
    bin.usedBytes += cellBytes
    cells.push({ offset, content })
    return offset
  }

  const securityOf = (text: string): number => {
    const known = securities.get(text)
    if (known !== undefined) {
      known.count += 1
      return known.offset
    }
    const descriptor = Buffer.from(text)
    const content = Buffer.alloc(0x14 + descriptor.length)
    content.write('sk', 0, 'latin1')
    content.writeUInt32LE(descriptor.length, 0x10)
    descriptor.copy(content, 0x14)
    const offset = allocate(content)
    securities.set(text, { offset, count: 1 })
    return offset
  }

  const writeData = (data: Buffer): number => {
    if (minorVersion < 4 || data.length <= PIECE_BYTES) return allocate(Buffer.from(data))
    const pieces: Buffer[] = []
    for (let at = 0; at < data.length; at += PIECE_BYTES) {
      const piece = Buffer.alloc(PIECE_BYTES + 4)
      data.copy(piece, 0, at, Math.min(at + PIECE_BYTES, data.length))
      pieces.push(piece)
    }
    const head = Buffer.alloc(8)
    head.write('db', 0, 'latin1')
    head.writeUInt16LE(pieces.length, 2)
    head.writeUInt32LE(allocate(offsets(pieces.map(allocate))), 4)
    return allocate(head)
  }

  const writeValue = (name: string, value: HiveValue): number => {
    const { type, data } = bytesOf(value)
    const label = nameBytes(name)
    const content = Buffer.alloc(0x14 + label.bytes.length)
    content.write('vk', 0, 'latin1')
    content.writeUInt16LE(label.bytes.length, 2)
    if (data.length <= 4) {
      content.writeUInt32LE((data.length | 0x8000_0000) >>> 0, 4)
      data.copy(content, 8)
    } else {
      content.writeUInt32LE(data.length, 4)
      content.writeUInt32LE(writeData(data), 8)
    }
    content.writeUInt32LE(type, 0xc)
    content.writeUInt16LE(label.isCompressed ? 1 : 0, 0x10)
    label.bytes.copy(content, 0x14)
    return allocate(content)
  }

  const writeList = (entries: readonly { readonly name: string; readonly offset: number }[]): number => {
    if (entries.length === 0) return NOTHING
    const leaf = (part: typeof entries): number => {
      const kind = list === 'ri' ? 'lh' : list
      const entryBytes = kind === 'li' ? 4 : 8
      const content = Buffer.alloc(4 + part.length * entryBytes)
      content.write(kind, 0, 'latin1')
      content.writeUInt16LE(part.length, 2)
      for (const [index, { name, offset }] of part.entries()) {
        content.writeUInt32LE(offset, 4 + index * entryBytes)
        if (kind === 'lh') content.writeUInt32LE(hashOf(name), 8 + index * entryBytes)
        if (kind === 'lf') content.write(name.slice(0, 4), 8 + index * entryBytes, 'latin1')
      }
      return allocate(content)
    }
    if (list !== 'ri') return leaf(entries)
    const leaves: number[] = []
    for (let at = 0; at < entries.length; at += leafCount)
      leaves.push(leaf(entries.slice(at, at + leafCount)))
    const content = Buffer.concat([Buffer.from('ri\0\0', 'latin1'), offsets(leaves)])
    content.writeUInt16LE(leaves.length, 2)
    return allocate(content)
  }

  const writeKey = (name: string, key: HiveTree, parent: number, inherited: string): number => {
    const label = nameBytes(name)
    const content = Buffer.alloc(0x4c + label.bytes.length)
    const offset = allocate(content)
    const security = key.security ?? inherited
    const className = Buffer.from(key.className ?? '', 'utf16le')
    const values = Object.entries(key.values ?? {})
    const subkeys = Object.entries(key.keys ?? {}).sort(([a], [b]) =>
      a.toUpperCase() < b.toUpperCase() ? -1 : 1,
    )
    content.write('nk', 0, 'latin1')
    content.writeUInt16LE((label.isCompressed ? 0x20 : 0) | (parent === NOTHING ? 0x0c : 0), 2)
    content.writeUInt32LE(parent === NOTHING ? 0 : parent, 0x10)
    content.writeUInt32LE(subkeys.length, 0x14)
    content.writeUInt32LE(values.length, 0x24)
    content.writeUInt32LE(securityOf(security), 0x2c)
    content.writeUInt32LE(className.length > 0 ? allocate(className) : NOTHING, 0x30)
    content.writeUInt32LE(Math.max(0, ...subkeys.map(([one]) => one.length * 2)), 0x34)
    content.writeUInt32LE(Math.max(0, ...values.map(([one]) => one.length * 2)), 0x3c)
    content.writeUInt32LE(Math.max(0, ...values.map(([, one]) => bytesOf(one).data.length)), 0x40)
    content.writeUInt16LE(label.bytes.length, 0x48)
    content.writeUInt16LE(className.length, 0x4a)
    label.bytes.copy(content, 0x4c)
    const valueCells = values.map(([one, value]) => writeValue(one, value))
    content.writeUInt32LE(valueCells.length > 0 ? allocate(offsets(valueCells)) : NOTHING, 0x28)
    const keyCells = subkeys.map(([one, subkey]) => ({
      name: one,
      offset: writeKey(one, subkey, offset, security),
    }))
    content.writeUInt32LE(writeList(keyCells), 0x1c)
    content.writeUInt32LE(NOTHING, 0x20)
    return offset
  }

  const root = writeKey('ROOT', tree, NOTHING, 'everyone may read')
  const binsBytes = bins.reduce((sum, bin) => sum + bin.sizeBytes, 0)
  const bytes = Buffer.alloc(BIN_BYTES + binsBytes, litterBytes)
  for (const bin of bins) {
    const at = BIN_BYTES + bin.offset
    bytes.fill(0, at, at + 32)
    bytes.write('hbin', at, 'latin1')
    bytes.writeUInt32LE(bin.offset, at + 4)
    bytes.writeUInt32LE(bin.sizeBytes, at + 8)
    const freeBytes = bin.sizeBytes - bin.usedBytes
    if (freeBytes > 0) bytes.writeInt32LE(freeBytes, at + bin.usedBytes)
  }
  for (const { offset, content } of cells) {
    bytes.writeInt32LE(-Math.ceil((content.length + 4) / 8) * 8, BIN_BYTES + offset)
    content.copy(bytes, BIN_BYTES + offset + 4)
  }
  const ring = [...securities.values()]
  for (const [index, { offset, count }] of ring.entries()) {
    const at = BIN_BYTES + offset + 4
    bytes.writeUInt32LE(ring[(index + 1) % ring.length]?.offset ?? offset, at + 4)
    bytes.writeUInt32LE(ring.at(index - 1)?.offset ?? offset, at + 8)
    bytes.writeUInt32LE(count, at + 0xc)
  }
  bytes.fill(0, 0, BIN_BYTES)
  bytes.write('regf', 0, 'latin1')
  for (const [at, value] of [
    [4, 7],
    [8, isDirty ? 6 : 7],
    [0x14, 1],
    [0x18, minorVersion],
    [0x20, 1],
    [0x24, root],
    [0x28, binsBytes],
    [0x2c, 1],
  ] as const) {
    bytes.writeUInt32LE(value, at)
  }
  return sealHive(bytes)
}

/** Makes the checksum of a header right again that a test has changed. */
export function sealHive(bytes: Buffer): Buffer {
  let sum = 0
  for (let at = 0; at < 508; at += 4) sum ^= bytes.readInt32LE(at)
  assert(sum !== 0 && sum !== -1, 'a header of this form has no such sum')
  bytes.writeInt32LE(sum, 508)
  return bytes
}

function bytesOf(value: HiveValue): { readonly type: number; readonly data: Buffer } {
  if (typeof value === 'string') return { type: 1, data: Buffer.from(`${value}\0`, 'utf16le') }
  if (typeof value === 'number') {
    const data = Buffer.alloc(4)
    data.writeUInt32LE(value)
    return { type: 4, data }
  }
  const { type, data } = value
  return { type, data: typeof data === 'string' ? Buffer.from(`${data}\0`, 'utf16le') : data }
}

function nameBytes(name: string): { readonly bytes: Buffer; readonly isCompressed: boolean } {
  const isCompressed = [...name].every((letter) => letter.charCodeAt(0) < 0x100)
  return { bytes: Buffer.from(name, isCompressed ? 'latin1' : 'utf16le'), isCompressed }
}

function offsets(values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length)
  for (const [index, value] of values.entries()) bytes.writeUInt32LE(value, 4 * index)
  return bytes
}

function hashOf(name: string): number {
  let hash = 0
  for (const letter of name.toUpperCase()) hash = (Math.imul(hash, 37) + letter.charCodeAt(0)) >>> 0
  return hash
}
