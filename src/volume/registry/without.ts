import assert from 'node:assert/strict'
import { damaged } from '../refuse.ts'
import { type Bins, readBins } from './bins.ts'
import {
  BINS_OFFSET,
  type Cell,
  dataCells,
  entryOf,
  foldName,
  getCell,
  getKey,
  getSubkeyList,
  type HiveBytes,
  type KeyNode,
  keyEnd,
  leavesOf,
  NOTHING,
  type SubkeyList,
  valueEnd,
  valuesOf,
} from './cells.ts'

/**
 * Takes keys out, in place. Only what names a key in its parent is unhooked; then everything that the root still reaches is
 * marked, and every cell that is not becomes a free one. So nothing of a removed key can be forgotten, however it was kept.
 */
export function withoutKeys(hive: HiveBytes, keys: readonly (readonly string[])[]): void {
  const bins = readBins(hive)
  for (const path of keys) {
    assert(path.length > 0, 'the root key stays')
    const names = path.map(foldName)
    let parent = getKey(hive, hive.root)
    for (const [depth, name] of names.entries()) {
      const place = findPlace(hive, parent, name)
      if (place === undefined) break
      if (depth === names.length - 1) unhook(hive, parent, place)
      else parent = place.key
    }
  }
  const reached = reach(hive, bins)
  mendSecurity(hive, bins, reached)
  bins.sweep()
  hive.bytes.fill(0, BINS_OFFSET + hive.binsBytes)
}

interface Place {
  readonly key: KeyNode
  readonly leaf: SubkeyList
  readonly leafIndex: number
  readonly index: number
}

function findPlace(hive: HiveBytes, parent: KeyNode, folded: string): Place | undefined {
  for (const [leafIndex, leaf] of leavesOf(hive, parent).entries()) {
    for (let index = 0; index < leaf.count; index += 1) {
      const key = getKey(hive, entryOf(hive, leaf, index))
      if (foldName(key.name) === folded) return { key, leaf, leafIndex, index }
    }
  }
  return undefined
}

/** A leaf without entries goes out of its list of lists, and an empty list of lists out of the key. */
function unhook(hive: HiveBytes, parent: KeyNode, { leaf, leafIndex, index }: Place): void {
  const { bytes } = hive
  const top = getSubkeyList(hive, parent.subkeyList)
  takeOut(hive, leaf, index)
  if (leaf.count === 1 && top.kind === 'ri') takeOut(hive, top, leafIndex)
  const subkeyCount = parent.subkeyCount - 1
  bytes.writeUInt32LE(subkeyCount, parent.start + 0x14)
  if (subkeyCount === 0) bytes.writeUInt32LE(NOTHING, parent.start + 0x1c)
}

function takeOut({ bytes }: HiveBytes, list: SubkeyList, index: number): void {
  const at = list.start + 4 + index * list.entryBytes
  const end = list.start + 4 + list.count * list.entryBytes
  bytes.copyWithin(at, at + list.entryBytes, end)
  bytes.fill(0, end - list.entryBytes, end)
  bytes.writeUInt16LE(list.count - 1, list.start + 2)
}

/** Marks all that the root key reaches and zeroes the ends of those cells. How many keys use each security cell. */
function reach(hive: HiveBytes, bins: Bins): Map<number, number> {
  const uses = new Map<number, number>()
  const keep = (cell: Cell, end: number): void => {
    bins.mark(cell.offset)
    hive.bytes.fill(0, end, cell.end)
  }
  const waiting = [hive.root]
  for (let offset = waiting.pop(); offset !== undefined; offset = waiting.pop()) {
    const key = getKey(hive, offset)
    keep(key, keyEnd(hive, key))
    uses.set(key.security, (uses.get(key.security) ?? 0) + 1)
    if (key.className !== NOTHING) {
      const cell = getCell(hive, key.className, key.classBytes)
      keep(cell, cell.start + key.classBytes)
    }
    if (key.valueCount > 0) {
      const list = getCell(hive, key.valueList, 4 * key.valueCount)
      keep(list, list.start + 4 * key.valueCount)
    }
    for (const value of valuesOf(hive, key)) {
      keep(value, valueEnd(hive, value))
      for (const cell of dataCells(hive, value)) keep(cell, cell.start + cell.usedBytes)
    }
    if (key.subkeyCount === 0) continue
    const top = getSubkeyList(hive, key.subkeyList)
    const lists = [...(top.kind === 'ri' ? [top] : []), ...leavesOf(hive, key)]
    for (const list of lists) {
      keep(list, list.start + 4 + list.count * list.entryBytes)
      if (list.kind === 'ri') continue
      for (let index = 0; index < list.count; index += 1) waiting.push(entryOf(hive, list, index))
    }
  }
  return uses
}

/** Security cells form a ring. Those that no key uses any more go out of it; of the others the uses are counted anew. */
function mendSecurity(hive: HiveBytes, bins: Bins, uses: ReadonlyMap<number, number>): void {
  const { bytes } = hive
  const first = getKey(hive, hive.root).security
  const ring: number[] = []
  let before = -1
  for (let offset = first; ring.length === 0 || offset !== first; ) {
    const cell = getCell(hive, offset, 0x14)
    if (bytes.toString('latin1', cell.start, cell.start + 2) !== 'sk')
      throw damaged(`registry cell ${offset} is no security`)
    if (before !== -1 && bytes.readUInt32LE(cell.start + 8) !== before)
      throw damaged(`the ring of registry security is broken at ${offset}`)
    const end = cell.start + 0x14 + bytes.readUInt32LE(cell.start + 0x10)
    if (end > cell.end) throw damaged(`registry security ${offset} is cut`)
    bins.mark(offset)
    bytes.fill(0, end, cell.end)
    ring.push(offset)
    before = offset
    offset = bytes.readUInt32LE(cell.start + 4)
  }
  const kept = ring.filter((offset) => uses.has(offset))
  if (kept.length !== uses.size) throw damaged('a registry key has a security that is not in the ring')
  for (const offset of ring) if (!uses.has(offset)) bins.unmark(offset)
  for (const [index, offset] of kept.entries()) {
    const at = BINS_OFFSET + offset + 4
    bytes.writeUInt32LE(kept[(index + 1) % kept.length] ?? first, at + 4)
    bytes.writeUInt32LE(kept.at(index - 1) ?? first, at + 8)
    bytes.writeUInt32LE(uses.get(offset) ?? 0, at + 0xc)
  }
}
