import { damaged, refuse } from '../refuse.ts'
import {
  BINS_OFFSET,
  dataOf,
  foldName,
  getKey,
  type HiveBytes,
  type KeyNode,
  subkeysOf,
  valuesOf,
} from './cells.ts'
import { withoutKeys } from './without.ts'

/** A path of key names from the root key down; [] is the root. Compared without regard to case. */
export type KeyPath = readonly string[]

/**
 * A registry hive ("regf" 1.3 to 1.6). Source: the layout is not published by its maker; see "Windows registry file format
 * specification" by M. Suhanov, and hivex.
 */
export interface Hive {
  /** It was not closed: changes lie in its log files and not in it. */
  readonly isDirty: boolean
  /** Names of the keys in a key; undefined where there is no such key. Throws refuse('damaged'). */
  keys(path: KeyPath): readonly string[] | undefined
  /**
   * A value; '' is a key's default one. Text for REG_SZ, REG_EXPAND_SZ and REG_LINK, a number for a REG_DWORD of four bytes,
   * bytes for all else. Undefined where there is none, or one of more than 1 MiB. Throws refuse('damaged').
   */
  value(path: KeyPath, name: string): string | number | Buffer | undefined
  /**
   * The same hive, of the same length, without these keys and all beneath them; one that is not there is no error, and []
   * asserts. Every byte that belongs to nothing is zero: what was freed now or ever, cells that nothing refers to, the ends
   * of cells and of the file. Throws refuse('damaged'), and refuse('dirty') if it was not closed.
   */
  without(keys: readonly KeyPath[]): Buffer
}

const SIZE_BYTES_MAX = 256 << 20
const VALUE_BYTES_MAX = 1 << 20
const CHECKED_BYTES = 508

/** Throws refuse('damaged'), 'unsupported' for another version, 'too-large' over 256 MiB. Keeps `bytes`, which stay as they are. */
export function parseHive(bytes: Buffer): Hive {
  if (bytes.length > SIZE_BYTES_MAX)
    throw refuse(
      'too-large',
      'A registry hive of the machine is larger than 256 MiB. Compact it, then try again.',
    )
  if (bytes.length < BINS_OFFSET + 32 || bytes.toString('latin1', 0, 4) !== 'regf')
    throw damaged('a registry hive has no header')
  if (bytes.readUInt32LE(CHECKED_BYTES) !== checksumOf(bytes))
    throw damaged('the header of a registry hive is torn')
  const minorVersion = bytes.readUInt32LE(0x18)
  const isKnown = bytes.readUInt32LE(0x14) === 1 && minorVersion >= 3 && minorVersion <= 6
  if (!isKnown || bytes.readUInt32LE(0x1c) !== 0 || bytes.readUInt32LE(0x20) !== 1)
    throw refuse(
      'unsupported',
      'A registry hive of the machine is of a version that cannot be read. Leave the cleaning of profiles out.',
    )
  const binsBytes = bytes.readUInt32LE(0x28)
  if (binsBytes === 0 || binsBytes % 4096 !== 0 || BINS_OFFSET + binsBytes > bytes.length)
    throw damaged('a registry hive is cut')
  const hive: HiveBytes = { bytes, minorVersion, binsBytes, root: bytes.readUInt32LE(0x24) }
  const isDirty = bytes.readUInt32LE(4) !== bytes.readUInt32LE(8)
  return {
    isDirty,
    keys(path) {
      const key = findKey(hive, path)
      return key && Array.from(subkeysOf(hive, key), (offset) => getKey(hive, offset).name)
    },
    value(path, name) {
      const key = findKey(hive, path)
      return key && readValue(hive, key, foldName(name))
    },
    without(keys) {
      if (isDirty)
        throw refuse(
          'dirty',
          'The registry of the machine was not closed. Start the machine and shut it down in full, then try again.',
        )
      const edited = Buffer.from(bytes)
      withoutKeys({ ...hive, bytes: edited }, keys)
      edited.writeUInt32LE(checksumOf(edited), CHECKED_BYTES)
      return edited
    },
  }
}

/** Undefined where there is no such key. */
export function findKey(hive: HiveBytes, path: KeyPath): KeyNode | undefined {
  let key: KeyNode | undefined = getKey(hive, hive.root)
  for (const name of path) {
    if (key === undefined) return undefined
    const folded = foldName(name)
    let found: KeyNode | undefined
    for (const offset of subkeysOf(hive, key)) {
      const subkey = getKey(hive, offset)
      if (foldName(subkey.name) !== folded) continue
      found = subkey
      break
    }
    key = found
  }
  return key
}

function readValue(hive: HiveBytes, key: KeyNode, folded: string): string | number | Buffer | undefined {
  for (const value of valuesOf(hive, key)) {
    if (foldName(value.name) !== folded) continue
    if (value.dataBytes > VALUE_BYTES_MAX) return undefined
    const data = dataOf(hive, value)
    const isText = value.type === 1 || value.type === 2 || value.type === 6
    if (isText) return data.toString('utf16le').split('\0', 1)[0] ?? ''
    if (value.type === 4 && data.length === 4) return data.readUInt32LE(0)
    return data
  }
  return undefined
}

/** Source: the specification above, "Base block": exclusive or of what is before it, never 0 or all ones. */
function checksumOf(bytes: Buffer): number {
  let sum = 0
  for (let at = 0; at < CHECKED_BYTES; at += 4) sum ^= bytes.readInt32LE(at)
  if (sum === 0) return 1
  return sum === -1 ? 0xffff_fffe : sum >>> 0
}
