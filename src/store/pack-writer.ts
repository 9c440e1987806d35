import assert from 'node:assert/strict'
import type { DomainId, PackId } from '../image/ids.ts'
import { sha256, sha256Beside } from './hashes.ts'
import { PackBuffer } from './pack.ts'
import type { RegionStore } from './region.ts'

export interface PackWriterOptions {
  readonly region: RegionStore
  readonly sessionId: string
  readonly domain: DomainId
  readonly chunkBytes: number
  /** Instead of the region's. */
  readonly packBytes?: number
  /** True: packs are hashed on the thread pool, for a thread that has enough to do. That copies each once. */
  readonly isHashedBeside?: boolean
  /** Called when a pack has become durable, or could not, which is undefined: `unsafeBytes` has fallen. */
  readonly onSealed?: (pack: PackId | undefined) => void
  readonly signal?: AbortSignal
}

/** More of a pack than this is not moved to another buffer: it would cost more than the memory is worth. */
const MOVED_SHARE_MAX = 1 / 4

/**
 * Turns a stream of chunks into durable packs of one session. Two buffers: while one is being made durable the other
 * fills, so the disk's latency is hidden and memory is two packs at most. It goes on only where its caller lets the
 * event loop turn between calls.
 */
export class PackWriter {
  readonly #options: PackWriterOptions
  #filling: PackBuffer
  #spare: PackBuffer | undefined
  #sealing: Promise<void> | undefined
  #sealingBytes = 0
  #failure: { readonly error: unknown } | undefined
  /** Bytes of packs that are durable, footers included. */
  durableBytes = 0
  /** Set by the owner before `add`: how far it is. Comes back as `durableMark` when that chunk is durable. */
  mark = 0
  durableMark = 0

  constructor(options: PackWriterOptions) {
    this.#options = options
    this.#filling = this.#newBuffer()
  }

  /** True while some chunk given to `add` is not durable. */
  get isPending(): boolean {
    return this.#sealing !== undefined || this.#filling.entries.length > 0
  }

  /**
   * Adds a chunk whose stored form `write` puts into the pack at the offset given, answering its length. A promise
   * means that the disk cannot keep up: await it before the next call. Throws what an earlier pack failed with.
   */
  add(
    id: Buffer,
    plainBytes: number,
    write: (target: Buffer, offset: number) => number,
  ): Promise<void> | undefined {
    this.#throwIfFailed()
    assert(!this.#filling.isFull, 'await the promise of add before the next call')
    this.#filling.add(id, plainBytes, write)
    if (!this.#filling.isFull) return undefined
    if (this.#sealing === undefined) {
      this.#seal()
      return undefined
    }
    return this.#sealNext()
  }

  /** Bytes of chunks that a crash would take: those of the pack that is being made durable, and of the one that fills. */
  get unsafeBytes(): number {
    return this.#sealingBytes + this.#filling.sizeBytes
  }

  /** Makes everything durable that was added. */
  async finish(): Promise<void> {
    await this.#sealing
    this.#throwIfFailed()
    if (this.#filling.entries.length > 0) this.#seal()
    await this.#sealing
    this.#throwIfFailed()
  }

  /** Waits for what is under way and drops the rest: after it nothing is written any more. Never throws. */
  async abandon(): Promise<void> {
    this.#failure ??= { error: new Error('the writer was abandoned') }
    await this.#sealing
  }

  async #sealNext(): Promise<void> {
    await this.#sealing
    this.#throwIfFailed()
    this.#seal()
  }

  #seal(): void {
    const full = this.#filling
    this.#sealingBytes = full.sizeBytes
    this.#filling = this.#spare ?? this.#newBuffer()
    this.#spare = undefined
    this.#sealing = this.#store(full, this.mark)
  }

  /** Never rejects: the failure is thrown by the next call. */
  async #store(full: PackBuffer, mark: number): Promise<void> {
    const { region, sessionId, signal, isHashedBeside, onSealed } = this.#options
    let pack: PackId | undefined
    try {
      const bytes = full.seal()
      const id = (isHashedBeside === true ? await sha256Beside(bytes) : sha256(bytes)) as PackId
      pack = await region.putPack(sessionId, full.domain, bytes, full.entries, signal, id)
      this.durableBytes += bytes.length
      this.durableMark = mark
      full.reset()
      this.#spare = this.#backTo(full)
    } catch (error) {
      this.#failure ??= { error }
    } finally {
      this.#sealing = undefined
      this.#sealingBytes = 0
      onSealed?.(pack)
    }
  }

  /**
   * Goes on in the buffer that has just become free, if the other one is hardly begun: so the other one's memory is not
   * touched further, and a writer whose disk keeps up needs one pack and a few MiB. Answers the one that is spare now.
   */
  #backTo(free: PackBuffer): PackBuffer {
    const begun = this.#filling
    if (begun.sizeBytes > this.#packBytes * MOVED_SHARE_MAX) return free
    free.takeFrom(begun)
    this.#filling = free
    return begun
  }

  get #packBytes(): number {
    return this.#options.packBytes ?? this.#options.region.packBytes
  }

  #throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure.error
  }

  #newBuffer(): PackBuffer {
    const { domain, chunkBytes } = this.#options
    return new PackBuffer(domain, this.#packBytes, chunkBytes)
  }
}
