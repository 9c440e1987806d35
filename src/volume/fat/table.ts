import assert from 'node:assert/strict'
import type { Medium } from '../contract.ts'
import { damaged, refuse } from '../refuse.ts'
import type { FatGeometry } from './geometry.ts'

const PIECE_BYTES = 3 * 512 * 1024
/** 128 MiB of table in memory; with clusters of 32 KiB a volume of 1 TiB. */
const CLUSTERS_MAX = 32 * 1024 * 1024

/** The file allocation table: for each cluster what follows it. Held in memory; what is freed is written by `flush`. */
export class FatTable {
  readonly geometry: FatGeometry
  readonly #medium: Medium
  readonly #entries: Uint32Array
  /** Positions of changed clusters' entries, by sector of the table. */
  readonly #changed = new Set<number>()
  readonly #mask: number

  private constructor(medium: Medium, geometry: FatGeometry, entries: Uint32Array) {
    this.#medium = medium
    this.geometry = geometry
    this.#entries = entries
    this.#mask = geometry.bits === 32 ? 0x0fffffff : 2 ** geometry.bits - 1
  }

  /** Refuses 'damaged' where two copies do not agree on what is free, or the volume says that it has errors. */
  static async read(medium: Medium, geometry: FatGeometry): Promise<FatTable> {
    const count = geometry.clusterCount + 2
    if (count > CLUSTERS_MAX) {
      throw refuse(
        'too-large',
        `A FAT volume has more than ${CLUSTERS_MAX} clusters, which is more than is cleaned.`,
      )
    }
    const entries = new Uint32Array(count)
    const table = new FatTable(medium, geometry, entries)
    const usedBytes = Math.ceil((count * geometry.bits) / 8)
    for (let copy = 0; copy < geometry.tableCount; copy++) {
      // A piece holds whole entries of 12 bits.
      for (let at = 0; at < usedBytes; at += PIECE_BYTES) {
        const lengthBytes = Math.min(PIECE_BYTES, usedBytes - at)
        const offset = geometry.tableOffset + copy * geometry.tableBytes + at
        table.#load(await medium.read(offset, lengthBytes), (at * 8) / geometry.bits, copy > 0)
      }
    }
    const flags = entries[1] ?? 0
    const isSound = geometry.bits === 12 || (flags & (geometry.bits === 16 ? 0x4000 : 0x04000000)) !== 0
    if (!isSound) throw damaged('a FAT volume says that it met errors')
    return table
  }

  isFree(cluster: number): boolean {
    return this.#value(cluster) === 0
  }

  /** What follows; undefined at the end of a chain. Throws a refusal for what cannot be in a chain. */
  next(cluster: number): number | undefined {
    const value = this.#value(cluster)
    if (value >= this.#mask - 7) return undefined
    if (!this.has(value)) throw damaged(`the chain of a FAT volume goes wrong at cluster ${cluster}`)
    return value
  }

  has(cluster: number): boolean {
    return cluster >= 2 && cluster < this.#entries.length
  }

  get freeCount(): number {
    let count = 0
    for (let cluster = 2; cluster < this.#entries.length; cluster++) if (this.isFree(cluster)) count++
    return count
  }

  free(cluster: number): void {
    assert(this.has(cluster))
    // The four highest bits of FAT32 are not ours.
    this.#entries[cluster] = ((this.#entries[cluster] ?? 0) & ~this.#mask) >>> 0
    const byte = Math.floor((cluster * this.geometry.bits) / 8)
    this.#changed.add(Math.floor(byte / this.geometry.sectorBytes))
    // An entry of 12 bits may go on in the next sector.
    if (this.geometry.bits === 12) this.#changed.add(Math.floor((byte + 1) / this.geometry.sectorBytes))
  }

  /** Writes what was freed into every copy. */
  async flush(): Promise<void> {
    const { tableOffset, tableBytes, tableCount, sectorBytes } = this.geometry
    for (const { first, count } of neighbours(this.#changed)) {
      const start = first * sectorBytes
      if (start >= tableBytes) continue
      const bytes = await this.#medium.read(
        tableOffset + start,
        Math.min(count * sectorBytes, tableBytes - start),
      )
      this.#store(bytes, start)
      for (let copy = 0; copy < tableCount; copy++) {
        await this.#medium.write(tableOffset + copy * tableBytes + start, bytes)
      }
    }
    this.#changed.clear()
  }

  #value(cluster: number): number {
    const entry = this.#entries[cluster]
    assert(entry !== undefined)
    return (entry & this.#mask) >>> 0
  }

  #load(bytes: Buffer, first: number, isCopy: boolean): void {
    const { bits } = this.geometry
    const last = Math.min(this.#entries.length, first + Math.floor((bytes.length * 8) / bits))
    for (let cluster = first; cluster < last; cluster++) {
      const entry = readEntry(bytes, cluster - first, bits)
      if (!isCopy) this.#entries[cluster] = entry
      else if (cluster > 1 && this.isFree(cluster) !== ((entry & this.#mask) === 0)) {
        throw damaged(`the two tables of a FAT volume do not agree on cluster ${cluster}`)
      }
    }
  }

  /** Puts the entries that lie in `bytes`, at `start` of the table, into it; of an entry of 12 bits maybe a half. */
  #store(bytes: Buffer, start: number): void {
    const { bits } = this.geometry
    const first = Math.max(0, Math.floor((start * 8) / bits) - 1)
    const last = Math.min(this.#entries.length, Math.ceil(((start + bytes.length) * 8) / bits) + 1)
    for (let cluster = first; cluster < last; cluster++) {
      const entry = this.#entries[cluster] ?? 0
      if (bits !== 12) {
        const at = (cluster * bits) / 8 - start
        if (at < 0 || at >= bytes.length) continue
        if (bits === 16) bytes.writeUInt16LE(entry, at)
        else bytes.writeUInt32LE(entry, at)
        continue
      }
      for (const half of [0, 1]) {
        const at = Math.floor((cluster * 12) / 8) + half - start
        const old = bytes[at]
        if (at >= 0 && old !== undefined) bytes[at] = mixHalf(old, entry, cluster % 2 === 1, half)
      }
    }
  }
}

function readEntry(bytes: Buffer, index: number, bits: 12 | 16 | 32): number {
  if (bits === 32) return bytes.readUInt32LE(index * 4)
  if (bits === 16) return bytes.readUInt16LE(index * 2)
  const pair = bytes.readUInt16LE(Math.floor((index * 3) / 2))
  return index % 2 === 1 ? pair >> 4 : pair & 0xfff
}

/** A byte of an entry of 12 bits: it shares one of its two with the neighbour. */
function mixHalf(old: number, entry: number, isOdd: boolean, half: number): number {
  if (isOdd) return half === 0 ? (old & 0x0f) | ((entry & 0x0f) << 4) : entry >> 4
  return half === 0 ? entry & 0xff : (old & 0xf0) | (entry >> 8)
}

/** Numbers that follow one another, in groups of a sane size. */
function* neighbours(numbers: Iterable<number>): Generator<{ first: number; count: number }> {
  let group: { first: number; count: number } | undefined
  for (const number of [...numbers].sort((a, b) => a - b)) {
    if (group !== undefined && group.first + group.count === number && group.count < 256) group.count++
    else {
      if (group !== undefined) yield group
      group = { first: number, count: 1 }
    }
  }
  if (group !== undefined) yield group
}
