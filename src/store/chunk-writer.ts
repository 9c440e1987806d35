import assert from 'node:assert/strict'
import { ChunkEncoder } from './chunk.ts'
import { ClaimTable } from './claims.ts'
import { hashPlain, ID_BYTES, type IdHasher, isAllZero } from './hashes.ts'
import type { Holds } from './holds.ts'
import { PUBLIC_DOMAIN } from './names.ts'
import type { OpenDomain } from './open-domain.ts'
import { PackWriter, type PackWriterOptions } from './pack-writer.ts'

export interface ChunkWriterOptions extends PackWriterOptions {
  /** The session's `newClaims`, the same memory in every thread. */
  readonly claims: SharedArrayBuffer
}

/** Bytes, and they add up: fed = zero + deduped + resumed + new. All but `stored` are plain bytes. */
export interface CaptureCounts {
  /** Everything given to `feed`. */
  readonly fedBytes: number
  readonly zeroBytes: number
  /** Held by the store already, or met twice in this capture. */
  readonly dedupBytes: number
  /** Written by this session before it was interrupted. */
  readonly resumedBytes: number
  readonly newBytes: number
  /** Bytes of the packs that hold the new chunks. */
  readonly storedBytes: number
}

/** The counts of all threads together. */
export function sumCounts(all: readonly CaptureCounts[]): CaptureCounts {
  const sum = (pick: (counts: CaptureCounts) => number) => all.reduce((total, one) => total + pick(one), 0)
  return {
    fedBytes: sum((one) => one.fedBytes),
    zeroBytes: sum((one) => one.zeroBytes),
    dedupBytes: sum((one) => one.dedupBytes),
    resumedBytes: sum((one) => one.resumedBytes),
    newBytes: sum((one) => one.newBytes),
    storedBytes: sum((one) => one.storedBytes),
  }
}

/**
 * The writing half of a capture, one per thread. `open` it, `feed` chunks, `finish`; on any failure `abandon`.
 * The session must be open (`RegionStore.openSession`, once, by the leader).
 */
export class ChunkWriter {
  readonly #holds: Holds
  readonly #chunkBytes: number
  readonly #hasher: IdHasher
  /** Undefined when the session's own domain is the public one, or nothing is public yet. */
  readonly #publicHasher: IdHasher | undefined
  readonly #claims: ClaimTable
  readonly #encoder: ChunkEncoder
  readonly #packs: PackWriter
  #fedBytes = 0
  #zeroBytes = 0
  #dedupBytes = 0
  #resumedBytes = 0
  #newBytes = 0
  #safeBytes = 0

  static async open(options: ChunkWriterOptions): Promise<ChunkWriter> {
    const { region, domain, signal } = options
    const own = await region.ensureDomain(domain, signal)
    const shared = domain === PUBLIC_DOMAIN ? undefined : await region.findDomain(PUBLIC_DOMAIN, signal)
    return new ChunkWriter(options, own, shared)
  }

  private constructor(options: ChunkWriterOptions, own: OpenDomain, shared: OpenDomain | undefined) {
    this.#holds = options.region.holdsOf(options.sessionId)
    this.#chunkBytes = options.chunkBytes
    this.#hasher = own.hasher
    this.#publicHasher = shared?.hasher
    this.#claims = new ClaimTable(options.claims)
    this.#encoder = new ChunkEncoder(options.chunkBytes, options.region.isEncrypting ? own.sealer : undefined)
    this.#packs = new PackWriter(options)
  }

  get counts(): CaptureCounts {
    return {
      fedBytes: this.#fedBytes,
      zeroBytes: this.#zeroBytes,
      dedupBytes: this.#dedupBytes,
      resumedBytes: this.#resumedBytes,
      newBytes: this.#newBytes,
      storedBytes: this.#packs.durableBytes,
    }
  }

  /** How many of the fed bytes a crash can no longer take away: the figure for progress (I8). Never falls. */
  get safeBytes(): number {
    const safe = this.#packs.isPending ? this.#packs.durableMark : this.#fedBytes
    this.#safeBytes = Math.max(this.#safeBytes, safe)
    return this.#safeBytes
  }

  /**
   * Takes chunk `index` of a disk and writes its id to `ids`, the disk's `newDiskIds`. `plain` is a whole chunk (the
   * disk's last one may be short), may be shared memory and belongs to the caller again when this returns. A promise
   * means that the disk cannot keep up: await it before the next call. Throws what an earlier pack failed with.
   */
  feed(ids: Uint8Array, index: number, plain: Uint8Array): Promise<void> | undefined {
    assert(plain.length > 0 && plain.length <= this.#chunkBytes)
    const at = index * ID_BYTES
    assert(at + ID_BYTES <= ids.length)
    this.#fedBytes += plain.length
    if (isAllZero(plain)) {
      ids.fill(0, at, at + ID_BYTES)
      this.#zeroBytes += plain.length
      return undefined
    }
    const plainHash = hashPlain(plain)
    const publicId = this.#publicHasher?.idOf(plainHash)
    if (publicId !== undefined && this.#holds.findChunk(publicId) !== undefined) {
      ids.set(publicId, at)
      this.#dedupBytes += plain.length
      return undefined
    }
    const id = this.#hasher.idOf(plainHash)
    ids.set(id, at)
    if (!this.#claims.claim(id)) {
      this.#dedupBytes += plain.length
      return undefined
    }
    const held = this.#holds.findChunk(id)
    if (held?.isCommitted === true) this.#dedupBytes += plain.length
    else if (held !== undefined) this.#resumedBytes += plain.length
    else {
      this.#newBytes += plain.length
      this.#packs.mark = this.#fedBytes
      return this.#packs.add(id, plain.length, (target, offset) =>
        this.#encoder.encodeInto(id, plain, target, offset),
      )
    }
    return undefined
  }

  /** Resolves when every chunk fed is durable; the ids may then go into a map. */
  async finish(): Promise<CaptureCounts> {
    await this.#packs.finish()
    return this.counts
  }

  /** After a failure or a cancel: when it resolves this thread writes no more. */
  async abandon(): Promise<void> {
    await this.#packs.abandon()
  }
}
