import assert from 'node:assert/strict'
import { deflateRawSync, zstdCompressSync } from 'node:zlib'

/** What a guest's cluster is: its bytes, a cluster of zeros, compressed bytes, or parts of which some are there. */
export type Qcow2Cluster =
  | Buffer
  | 'zero'
  | { readonly compressed: Buffer }
  | { readonly bytes: Buffer; readonly dataParts: number; readonly zeroParts: number }

export interface Qcow2Recipe {
  readonly version?: 2 | 3
  readonly clusterBits?: number
  readonly virtualBytes: number
  readonly clusters?: ReadonlyMap<number, Qcow2Cluster>
  readonly compression?: 'zlib' | 'zstd'
  readonly hasExtendedL2?: boolean
  readonly refcountOrder?: number
  readonly headerBytes?: number
  readonly spareL1Count?: number
  /** A name in the first cluster, and perhaps the extension that names its format. */
  readonly backing?: { readonly name?: string; readonly format?: string }
  /** The bit that says so, the extension that names it, and the bit of a raw one. */
  readonly dataFile?: { readonly hasBit?: boolean; readonly name?: string; readonly hasRawBit?: boolean }
  readonly cryptMethod?: number
  readonly extensions?: readonly (readonly [type: number, data: Buffer])[]
  readonly snapshotNames?: readonly string[]
  readonly bitmapNames?: readonly string[]
  readonly incompatible?: bigint
  readonly compatible?: bigint
  readonly autoclear?: bigint
  /** The last word, over a file that is right. */
  readonly patch?: (file: Buffer, places: Qcow2Places) => void
}

/** Where in the file things are, for patches. Offsets in bytes. */
export interface Qcow2Places {
  readonly clusterBytes: number
  readonly refcounts: number
  readonly refcountBlocks: readonly number[]
  readonly l1: number
  readonly l1Count: number
  readonly l2: readonly number[]
  readonly entryBytes: number
  /** Of the guest's clusters that are not compressed, by index. */
  readonly data: ReadonlyMap<number, number>
  readonly snapshots: number
  readonly bitmaps: number
}

/** A qcow2 file that QEMU takes and finds nothing wrong in, as long as no option says otherwise. Made by hand. */
export function buildQcow2(recipe: Qcow2Recipe): Buffer {
  return new Qcow2Builder(recipe).build()
}

class Qcow2Builder {
  readonly #recipe: Qcow2Recipe
  readonly #version: 2 | 3
  readonly #clusterBits: number
  readonly #clusterBytes: number
  readonly #entryBytes: number
  readonly #l1Count: number
  readonly #pieces: { readonly offset: number; readonly bytes: Buffer }[] = []
  /** How often each cluster of the file is named. */
  readonly #counts: number[] = []
  readonly #data = new Map<number, number>()
  readonly #l2 = new Map<number, { readonly offset: number; readonly table: Buffer }>()
  #end = 0

  constructor(recipe: Qcow2Recipe) {
    this.#recipe = recipe
    this.#version = recipe.version ?? 3
    this.#clusterBits = recipe.clusterBits ?? 12
    this.#clusterBytes = 2 ** this.#clusterBits
    this.#entryBytes = recipe.hasExtendedL2 === true ? 16 : 8
    const l2Bytes = (this.#clusterBytes / this.#entryBytes) * this.#clusterBytes
    this.#l1Count = Math.ceil(recipe.virtualBytes / l2Bytes) + (recipe.spareL1Count ?? 0)
  }

  build(): Buffer {
    const header = Buffer.alloc(this.#clusterBytes)
    this.#place(header)
    const refcounts = this.#place(Buffer.alloc(this.#clusterBytes))
    const l1 = Buffer.alloc(this.#l1Count * 8)
    const l1Offset = this.#place(l1)
    for (const [index, cluster] of this.#recipe.clusters ?? []) this.#placeCluster(l1, index, cluster)
    this.#align()
    const snapshots = this.#placeSnapshots()
    const bitmaps = this.#placeBitmaps()
    this.#writeHeader(header, { l1Offset, refcounts, snapshots, bitmaps })
    const refcountBlocks = this.#placeRefcountBlocks(refcounts)
    const file = Buffer.alloc(this.#end)
    for (const { offset, bytes } of this.#pieces) bytes.copy(file, offset)
    refcountBlocks.forEach((offset, index) => {
      file.writeBigUInt64BE(BigInt(offset), refcounts + index * 8)
    })
    this.#recipe.patch?.(file, {
      clusterBytes: this.#clusterBytes,
      refcounts,
      refcountBlocks,
      l1: l1Offset,
      l1Count: this.#l1Count,
      l2: [...this.#l2.values()].map(({ offset }) => offset),
      entryBytes: this.#entryBytes,
      data: this.#data,
      snapshots,
      bitmaps,
    })
    return file
  }

  /** Whole clusters at the end of the file. Later changes of `bytes` are still seen. */
  #place(bytes: Buffer): number {
    this.#align()
    const offset = this.#end
    this.#pieces.push({ offset, bytes })
    this.#end += bytes.length
    this.#align()
    this.#count(offset, this.#end)
    return offset
  }

  #align(): void {
    this.#end = Math.ceil(this.#end / this.#clusterBytes) * this.#clusterBytes
  }

  #count(from: number, to: number): void {
    for (let cluster = Math.floor(from / this.#clusterBytes); cluster * this.#clusterBytes < to; cluster++) {
      this.#counts[cluster] = (this.#counts[cluster] ?? 0) + 1
    }
  }

  #placeCluster(l1: Buffer, index: number, cluster: Qcow2Cluster): void {
    const l2Count = this.#clusterBytes / this.#entryBytes
    const l1Index = Math.floor(index / l2Count)
    let l2 = this.#l2.get(l1Index)
    if (l2 === undefined) {
      const table = Buffer.alloc(this.#clusterBytes)
      l2 = { table, offset: this.#place(table) }
      this.#l2.set(l1Index, l2)
      l1.writeBigUInt64BE((1n << 63n) | BigInt(l2.offset), l1Index * 8)
    }
    const at = (index % l2Count) * this.#entryBytes
    const isExtended = this.#recipe.hasExtendedL2 === true
    if (cluster === 'zero') {
      assert(this.#version === 3)
      if (isExtended) l2.table.writeUInt32BE(0xffff_ffff, at + 8)
      else l2.table.writeBigUInt64BE(1n, at)
    } else if ('compressed' in cluster) {
      l2.table.writeBigUInt64BE(this.#placeCompressed(cluster.compressed), at)
    } else {
      const bytes = Buffer.isBuffer(cluster) ? cluster : cluster.bytes
      const whole = Buffer.alloc(this.#clusterBytes)
      bytes.copy(whole)
      const offset = this.#place(whole)
      this.#data.set(index, offset)
      l2.table.writeBigUInt64BE((1n << 63n) | BigInt(offset), at)
      if (!isExtended) return
      l2.table.writeUInt32BE(Buffer.isBuffer(cluster) ? 0 : cluster.zeroParts >>> 0, at + 8)
      l2.table.writeUInt32BE(Buffer.isBuffer(cluster) ? 0xffff_ffff : cluster.dataParts >>> 0, at + 12)
    }
  }

  /** Right behind what is there, if that was compressed too, as the format allows. */
  #placeCompressed(bytes: Buffer): bigint {
    const whole = Buffer.alloc(this.#clusterBytes)
    bytes.copy(whole)
    // QEMU inflates with a window of 4 KiB.
    const packed =
      this.#recipe.compression === 'zstd'
        ? zstdCompressSync(whole)
        : deflateRawSync(whole, { windowBits: 12 })
    const offset = this.#end
    this.#pieces.push({ offset, bytes: packed })
    this.#end += packed.length
    const first = Math.floor(offset / 512)
    const last = Math.floor((this.#end - 1) / 512)
    this.#count(first * 512, (last + 1) * 512)
    const shift = BigInt(62 - (this.#clusterBits - 8))
    return (1n << 62n) | (BigInt(last - first) << shift) | BigInt(offset)
  }

  #placeSnapshots(): number {
    const names = this.#recipe.snapshotNames ?? []
    const entries = names.map((name, index) => {
      const id = String(index + 1)
      const entry = Buffer.alloc(Math.ceil((40 + 24 + id.length + name.length) / 8) * 8)
      // An empty table of its own: a snapshot of the disk from before anything was written.
      entry.writeBigUInt64BE(BigInt(this.#place(Buffer.alloc(this.#l1Count * 8))), 0)
      entry.writeUInt32BE(this.#l1Count, 8)
      entry.writeUInt16BE(id.length, 12)
      entry.writeUInt16BE(name.length, 14)
      entry.writeUInt32BE(24, 36)
      entry.writeBigUInt64BE(BigInt(this.#recipe.virtualBytes), 48)
      entry.writeBigUInt64BE((1n << 64n) - 1n, 56)
      entry.write(id + name, 64, 'latin1')
      return entry
    })
    return entries.length === 0 ? 0 : this.#place(Buffer.concat(entries))
  }

  #placeBitmaps(): number {
    const names = this.#recipe.bitmapNames ?? []
    const granularityBits = 16
    const bitmapBytes = Math.ceil(Math.ceil(this.#recipe.virtualBytes / 2 ** granularityBits) / 8)
    const tableCount = Math.ceil(bitmapBytes / this.#clusterBytes)
    const entries = names.map((name) => {
      const entry = Buffer.alloc(Math.ceil((24 + name.length) / 8) * 8)
      entry.writeBigUInt64BE(BigInt(this.#place(Buffer.alloc(tableCount * 8))), 0)
      entry.writeUInt32BE(tableCount, 8)
      entry.writeUInt32BE(2, 12)
      entry.writeUInt8(1, 16)
      entry.writeUInt8(granularityBits, 17)
      entry.writeUInt16BE(name.length, 18)
      entry.write(name, 24, 'latin1')
      return entry
    })
    return entries.length === 0 ? 0 : this.#place(Buffer.concat(entries))
  }

  #placeRefcountBlocks(refcounts: number): readonly number[] {
    const bits = 2 ** (this.#recipe.refcountOrder ?? 4)
    const perBlock = (this.#clusterBytes * 8) / bits
    const blocks: { readonly offset: number; readonly bytes: Buffer }[] = []
    // A block counts itself too, so there is one more until they reach.
    while (blocks.length * perBlock < this.#end / this.#clusterBytes) {
      const bytes = Buffer.alloc(this.#clusterBytes)
      blocks.push({ offset: this.#place(bytes), bytes })
    }
    assert(blocks.length * 8 <= this.#clusterBytes && refcounts > 0)
    this.#counts.forEach((count, cluster) => {
      const block = blocks[Math.floor(cluster / perBlock)]
      assert(block !== undefined && (bits >= 32 || count < 2 ** bits))
      const at = cluster % perBlock
      if (bits < 8) {
        const byte = Math.floor((at * bits) / 8)
        block.bytes[byte] = (block.bytes[byte] ?? 0) | (count << ((at * bits) % 8))
      } else if (bits === 64) block.bytes.writeBigUInt64BE(BigInt(count), at * 8)
      else block.bytes.writeUIntBE(count, at * (bits / 8), bits / 8)
    })
    return blocks.map(({ offset }) => offset)
  }

  #writeHeader(
    header: Buffer,
    at: { l1Offset: number; refcounts: number; snapshots: number; bitmaps: number },
  ): void {
    const { dataFile, backing } = this.#recipe
    header.writeUInt32BE(0x514649fb, 0)
    header.writeUInt32BE(this.#version, 4)
    header.writeUInt32BE(this.#clusterBits, 20)
    header.writeBigUInt64BE(BigInt(this.#recipe.virtualBytes), 24)
    header.writeUInt32BE(this.#recipe.cryptMethod ?? 0, 32)
    header.writeUInt32BE(this.#l1Count, 36)
    header.writeBigUInt64BE(BigInt(at.l1Offset), 40)
    header.writeBigUInt64BE(BigInt(at.refcounts), 48)
    header.writeUInt32BE(1, 56)
    header.writeUInt32BE(this.#recipe.snapshotNames?.length ?? 0, 60)
    header.writeBigUInt64BE(BigInt(at.snapshots), 64)
    const headerBytes = this.#version === 2 ? 72 : (this.#recipe.headerBytes ?? 112)
    if (this.#version === 3) {
      const isZstd = this.#recipe.compression === 'zstd'
      const incompatible =
        (this.#recipe.incompatible ?? 0n) |
        (dataFile?.hasBit === true ? 4n : 0n) |
        (isZstd ? 8n : 0n) |
        (this.#recipe.hasExtendedL2 === true ? 16n : 0n)
      const autoclear =
        (this.#recipe.autoclear ?? 0n) | (at.bitmaps > 0 ? 1n : 0n) | (dataFile?.hasRawBit === true ? 2n : 0n)
      header.writeBigUInt64BE(incompatible, 72)
      header.writeBigUInt64BE(this.#recipe.compatible ?? 0n, 80)
      header.writeBigUInt64BE(autoclear, 88)
      header.writeUInt32BE(this.#recipe.refcountOrder ?? 4, 96)
      header.writeUInt32BE(headerBytes, 100)
      if (isZstd) header.writeUInt8(1, 104)
    }
    const end = this.#writeExtensions(header, headerBytes, at.bitmaps)
    if (backing?.name !== undefined) {
      header.writeBigUInt64BE(BigInt(end), 8)
      header.writeUInt32BE(Buffer.byteLength(backing.name), 16)
      header.write(backing.name, end)
    }
  }

  /** Answers where they end. */
  #writeExtensions(header: Buffer, headerBytes: number, bitmaps: number): number {
    const { dataFile, backing } = this.#recipe
    const extensions: [type: number, data: Buffer][] = []
    if (backing?.format !== undefined) extensions.push([0xe2792aca, Buffer.from(backing.format)])
    if (dataFile?.name !== undefined) extensions.push([0x44415441, Buffer.from(dataFile.name)])
    if (bitmaps > 0) {
      const names = this.#recipe.bitmapNames ?? []
      const data = Buffer.alloc(24)
      data.writeUInt32BE(names.length, 0)
      const directoryBytes = names.reduce((sum, name) => sum + Math.ceil((24 + name.length) / 8) * 8, 0)
      data.writeBigUInt64BE(BigInt(directoryBytes), 8)
      data.writeBigUInt64BE(BigInt(bitmaps), 16)
      extensions.push([0x23852875, data])
    }
    let end = headerBytes
    for (const [type, data] of [...extensions, ...(this.#recipe.extensions ?? [])]) {
      header.writeUInt32BE(type, end)
      header.writeUInt32BE(data.length, end + 4)
      data.copy(header, end + 8)
      end += 8 + Math.ceil(data.length / 8) * 8
    }
    return end + 8
  }
}
