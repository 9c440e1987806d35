import assert from 'node:assert/strict'
import type { Medium, Path, Run } from '../contract.ts'
import { damaged, refuse } from '../refuse.ts'
import { type FatEntry, readEntries, SLOT_BYTES } from './directory.ts'
import type { FatGeometry } from './geometry.ts'
import type { FatTable } from './table.ts'

/** So many slots has a directory at most, by the specification. */
const DIRECTORY_BYTES_MAX = 65536 * SLOT_BYTES

/** Stands for the root where a first cluster is asked for: that of FAT12 and FAT16 has none. */
export const ROOT = 0

export interface FatDirectory {
  readonly runs: readonly Run[]
  /** All slots, used or not. */
  readonly bytes: Buffer
  readonly entries: readonly FatEntry[]
  readonly endSlot: number
}

/** The directories of a volume and who owns which cluster. */
export class FatTree {
  readonly medium: Medium
  readonly table: FatTable
  readonly geometry: FatGeometry
  /** One bit for each cluster that a file or a directory reaches. */
  readonly #owned: Uint8Array

  private constructor(medium: Medium, table: FatTable) {
    this.medium = medium
    this.table = table
    this.geometry = table.geometry
    this.#owned = new Uint8Array(Math.ceil((this.geometry.clusterCount + 2) / 8))
  }

  /**
   * Walks all of the volume. Refuses 'damaged' when two names own one cluster, also in a circle, or a chain is shorter than
   * its file: nothing could be removed from such a volume without touching what stays.
   */
  static async survey(medium: Medium, table: FatTable): Promise<FatTree> {
    const tree = new FatTree(medium, table)
    if (tree.geometry.rootCluster !== 0) tree.#own(tree.geometry.rootCluster)
    for await (const directory of tree.directories(ROOT)) {
      for (const { kind, firstCluster, sizeBytes } of directory.entries) {
        if (kind !== 'file' && kind !== 'directory') continue
        const clusters = firstCluster === 0 ? 0 : tree.#own(firstCluster)
        if (clusters * tree.geometry.clusterBytes < (kind === 'directory' ? 1 : sizeBytes)) {
          throw damaged('a chain of a FAT volume is shorter than its file')
        }
      }
    }
    return tree
  }

  isOwned(cluster: number): boolean {
    return ((this.#owned[cluster >> 3] ?? 0) & (1 << (cluster & 7))) !== 0
  }

  /** The directory that begins at a cluster, and all beneath it. What is read of one is in hand before the next is. */
  async *directories(firstCluster: number): AsyncGenerator<FatDirectory> {
    const waiting = [firstCluster]
    for (let cluster = waiting.pop(); cluster !== undefined; cluster = waiting.pop()) {
      const directory = await this.directory(cluster)
      for (const entry of directory.entries) {
        if (entry.kind === 'directory') waiting.push(entry.firstCluster)
      }
      yield directory
    }
  }

  async directory(firstCluster: number): Promise<FatDirectory> {
    const { rootCluster, rootOffset, rootBytes, bits } = this.geometry
    const runs: Run[] = []
    if (firstCluster === ROOT && rootCluster === 0) runs.push({ offset: rootOffset, lengthBytes: rootBytes })
    else {
      let lengthBytes = 0
      for (const run of this.runs(firstCluster === ROOT ? rootCluster : firstCluster)) {
        lengthBytes += run.lengthBytes
        if (lengthBytes > DIRECTORY_BYTES_MAX) {
          throw refuse('too-large', 'A directory of a FAT volume has more than 65536 entries.')
        }
        runs.push(run)
      }
    }
    const parts: Buffer[] = []
    for (const { offset, lengthBytes } of runs) parts.push(await this.medium.read(offset, lengthBytes))
    const bytes = Buffer.concat(parts)
    return { runs, bytes, ...readEntries(bytes, bits === 32) }
  }

  /** What a path names in which directory; the root is no entry of any. Case does not count. */
  async find(path: Path): Promise<{ directory: FatDirectory; entry: FatEntry } | undefined> {
    let cluster = ROOT
    for (const [index, name] of path.entries()) {
      const directory = await this.directory(cluster)
      const entry = directory.entries.find(
        (one) => (one.kind === 'file' || one.kind === 'directory') && isSameName(one.name, name),
      )
      if (entry === undefined) return undefined
      if (index === path.length - 1) return { directory, entry }
      if (entry.kind !== 'directory') return undefined
      cluster = entry.firstCluster
    }
    return undefined
  }

  /** Where the bytes of a chain lie, from `skipBytes` on, in the chain's order; neighbours in one. */
  *runs(firstCluster: number, skipBytes = 0): Generator<Run> {
    let skip = skipBytes
    let run: { offset: number; lengthBytes: number } | undefined
    for (const cluster of this.chain(firstCluster)) {
      const cut = Math.min(skip, this.geometry.clusterBytes)
      skip -= cut
      const lengthBytes = this.geometry.clusterBytes - cut
      if (lengthBytes === 0) continue
      const offset = this.offsetOf(cluster) + cut
      if (run !== undefined && run.offset + run.lengthBytes === offset) run.lengthBytes += lengthBytes
      else {
        if (run !== undefined) yield run
        run = { offset, lengthBytes }
      }
    }
    if (run !== undefined) yield run
  }

  *chain(firstCluster: number): Generator<number> {
    if (firstCluster === 0) return
    if (!this.table.has(firstCluster)) throw damaged('a chain of a FAT volume begins nowhere')
    let count = 0
    for (let cluster: number | undefined = firstCluster; cluster !== undefined; ) {
      if (++count > this.geometry.clusterCount) throw damaged('a chain of a FAT volume has no end')
      const next = this.table.next(cluster)
      yield cluster
      cluster = next
    }
  }

  offsetOf(cluster: number): number {
    return this.geometry.dataOffset + (cluster - 2) * this.geometry.clusterBytes
  }

  /** The clusters of a chain are free and zero from now on. */
  async release(firstCluster: number): Promise<void> {
    for (const { offset, lengthBytes } of this.runs(firstCluster)) await this.medium.zero(offset, lengthBytes)
    // In the loop's own order: a cluster's follower is read before it is freed.
    for (const cluster of this.chain(firstCluster)) {
      this.table.free(cluster)
      this.#owned[cluster >> 3] = (this.#owned[cluster >> 3] ?? 0) & ~(1 << (cluster & 7))
    }
  }

  /** Writes a part of a directory's bytes back to where they came from. */
  async writeSlots(directory: FatDirectory, firstSlot: number, lastSlot: number): Promise<void> {
    const from = firstSlot * SLOT_BYTES
    const to = (lastSlot + 1) * SLOT_BYTES
    assert(from < to && to <= directory.bytes.length)
    let start = 0
    for (const { offset, lengthBytes } of directory.runs) {
      const first = Math.max(from, start)
      const end = Math.min(to, start + lengthBytes)
      if (first < end) await this.medium.write(offset + first - start, directory.bytes.subarray(first, end))
      start += lengthBytes
    }
  }

  #own(firstCluster: number): number {
    let count = 0
    for (const cluster of this.chain(firstCluster)) {
      if (this.isOwned(cluster)) throw damaged(`two names of a FAT volume own cluster ${cluster}`)
      this.#owned[cluster >> 3] = (this.#owned[cluster >> 3] ?? 0) | (1 << (cluster & 7))
      count++
    }
    return count
  }
}

function isSameName(one: string, other: string): boolean {
  return one === other || one.toUpperCase() === other.toUpperCase()
}
