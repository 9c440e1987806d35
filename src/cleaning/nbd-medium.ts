import assert from 'node:assert/strict'
import type { NbdClient } from '../disk/nbd-client.ts'
import type { Medium, Run } from '../volume/contract.ts'
import { isInside } from '../volume/slice.ts'
import { BlockCache, PIECE_BYTES, range } from './block-cache.ts'
import { BlockStatus, type Marked, STATUS_BYTES } from './block-status.ts'
import { BLOCK_BYTES } from './data-map.ts'

const CACHE_BYTES = 64 * 1024 * 1024
/** Longer reads pass by the cache, and longer writes are waited for. */
const LONG_BYTES = 1024 * 1024
/** Changes under way; the server takes so many of one connection. */
const CHANGE_COUNT_MAX = 16
/** What is zeroed behind the caller's back begins by then. */
const LATE_BYTES_MAX = 1024 * 1024 * 1024
const ZEROES = Buffer.alloc(BLOCK_BYTES)

interface Change extends Marked {
  readonly done: Promise<void>
}

/**
 * A disk behind an NBD export, made fast for many small steps: reads come from larger pieces that are kept, writes and
 * zeroes are done behind the caller's back, and nothing is made zero that the server knows to be so. A change that fails
 * fails the next call; `flush` tells that there is none. Nobody else may change the export between two `forget`.
 */
export class NbdMedium implements Medium {
  readonly sizeBytes: number
  readonly #client: NbdClient
  readonly #status: BlockStatus
  readonly #cache = new BlockCache(CACHE_BYTES)
  /** Whole pieces under way, for whoever else needs one; not those that a change has made old meanwhile. */
  readonly #reading = new Map<number, Promise<Buffer>>()
  /** Oldest first. */
  readonly #changes = new Set<Change>()
  /** Zeroed as far as the caller knows, and not yet asked for: the next call may go on where it ends. */
  #late: { from: number; to: number } | undefined
  #failure: unknown

  /** `statusBytes`: what block status is asked for at once. */
  constructor(client: NbdClient, statusBytes = STATUS_BYTES) {
    assert(client.minimumBlockBytes === 1 || client.readOnly, 'an overlay is served byte by byte')
    assert(statusBytes % PIECE_BYTES === 0, 'a piece lies inside one window')
    this.#client = client
    this.sizeBytes = client.sizeBytes
    this.#status = new BlockStatus(
      client.sizeBytes,
      (offset, lengthBytes) => client.extents(offset, lengthBytes),
      (from, to) => this.#marked().filter((one) => one.from < to && from < one.to),
      statusBytes,
    )
  }

  async read(offset: number, lengthBytes: number): Promise<Buffer> {
    this.#check(offset, lengthBytes)
    if (lengthBytes === 0) return Buffer.alloc(0)
    if (lengthBytes >= LONG_BYTES) {
      await this.#settle(offset, offset + lengthBytes)
      return await this.#client.read(offset, lengthBytes)
    }
    const first = Math.floor(offset / PIECE_BYTES)
    const last = Math.floor((offset + lengthBytes - 1) / PIECE_BYTES)
    const cut = (piece: Buffer, index: number): Buffer => {
      const start = index * PIECE_BYTES
      return piece.subarray(Math.max(0, offset - start), Math.min(piece.length, offset + lengthBytes - start))
    }
    if (first === last) return Buffer.from(cut(await this.#piece(first), first))
    const pieces = await Promise.all(
      [...range(first, last)].map(async (at) => cut(await this.#piece(at), at)),
    )
    return Buffer.concat(pieces)
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    this.#check(offset, bytes.length)
    if (bytes.length === 0) return
    const end = offset + bytes.length
    await this.#settle(offset, end)
    // A copy: the caller may go on with his own.
    const own = bytes.length < LONG_BYTES ? Buffer.from(bytes) : bytes
    this.#cache.patch(offset, bytes.length, own)
    this.#mark({ from: offset, to: end, isData: true })
    this.#start({ from: offset, to: end, isData: true }, this.#client.write(offset, own))
    if (own === bytes) await this.#settle(offset, end)
    else await this.#moderate()
  }

  async zero(offset: number, lengthBytes: number): Promise<number> {
    this.#check(offset, lengthBytes)
    let heldBytes = 0
    for await (const run of this.dataRuns(offset, lengthBytes)) {
      const end = run.offset + run.lengthBytes
      const from = (await this.#isZeroUpToBlock(run.offset, end)) ?? run.offset
      const to = from < end ? ((await this.#isZeroFromBlock(from, end)) ?? end) : end
      if (from >= to) continue
      heldBytes += to - from
      await this.#zeroRun(from, to)
    }
    return heldBytes
  }

  async *dataRuns(offset: number, lengthBytes: number): AsyncGenerator<Run> {
    this.#check(offset, lengthBytes)
    yield* this.#status.runs(offset, lengthBytes)
  }

  /** Once this resolves, all that was asked for is done, and on the server's disk if it promises that. */
  async flush(): Promise<void> {
    this.#sendLate()
    await Promise.all([...this.#changes].map(({ done }) => done))
    this.#check(0, 0)
    await this.#client.flush()
  }

  /** Somebody else has changed the disk: nothing that is known of it holds any more. */
  forget(): void {
    assert(this.#changes.size === 0 && this.#late === undefined, 'a disk is flushed before it is forgotten')
    this.#reading.clear()
    this.#cache.forget()
    this.#status.forget()
  }

  #check(offset: number, lengthBytes: number): void {
    assert(isInside(this.sizeBytes, offset, lengthBytes), `${offset} + ${lengthBytes} of ${this.sizeBytes}`)
    if (this.#failure !== undefined) throw this.#failure
  }

  async #piece(index: number): Promise<Buffer> {
    const known = this.#cache.find(index)
    if (known !== undefined) return known
    const another = this.#reading.get(index)
    if (another !== undefined) return await another
    const reading = this.#readPiece(index)
    this.#reading.set(index, reading)
    try {
      const piece = await reading
      if (this.#reading.get(index) === reading) this.#cache.put(index, piece)
      return piece
    } finally {
      if (this.#reading.get(index) === reading) this.#reading.delete(index)
    }
  }

  /** Where it is known what holds data, no more than that is read. */
  async #readPiece(index: number): Promise<Buffer> {
    const offset = index * PIECE_BYTES
    const lengthBytes = Math.min(PIECE_BYTES, this.sizeBytes - offset)
    await this.#settle(offset, offset + lengthBytes)
    const runs = this.#status.knownRuns(offset, lengthBytes)
    const [first, last] = [runs?.[0], runs?.at(-1)]
    if (runs === undefined) return await this.#client.read(offset, lengthBytes)
    const piece = Buffer.alloc(lengthBytes)
    if (first === undefined || last === undefined) return piece
    const from = first.offset - offset
    const to = last.offset + last.lengthBytes - offset
    await this.#client.readInto(piece.subarray(from, to), first.offset)
    return piece
  }

  /** The end of the block that `from` lies inside of, if the run's part of it is zero already. */
  async #isZeroUpToBlock(from: number, end: number): Promise<number | undefined> {
    if (from % BLOCK_BYTES === 0) return undefined
    const to = Math.min(end, Math.ceil(from / BLOCK_BYTES) * BLOCK_BYTES)
    return isZero(await this.read(from, to - from)) ? to : undefined
  }

  /** The same for the block that `end` lies inside of: its beginning. */
  async #isZeroFromBlock(from: number, end: number): Promise<number | undefined> {
    if (end % BLOCK_BYTES === 0 || end === this.sizeBytes) return undefined
    const start = Math.max(from, Math.floor(end / BLOCK_BYTES) * BLOCK_BYTES)
    return isZero(await this.read(start, end - start)) ? start : undefined
  }

  async #zeroRun(from: number, to: number): Promise<void> {
    // Also where it goes on from the last one: a write of its own may be under way there.
    await this.#settle(from, to)
    if (this.#late?.to === from) {
      this.#late.to = to
    } else {
      this.#sendLate()
      this.#late = { from, to }
    }
    this.#cache.patch(from, to - from)
    // From the beginning of its block: two halves are a whole one.
    const start = Math.max(this.#late.from, from - (from % BLOCK_BYTES))
    this.#mark({ from: start, to, isData: false })
    if (to - this.#late.from >= LATE_BYTES_MAX) this.#sendLate()
    await this.#moderate()
  }

  #sendLate(): void {
    const late = this.#late
    if (late === undefined) return
    this.#late = undefined
    this.#start({ ...late, isData: false }, this.#client.zero(late.from, late.to - late.from))
  }

  /** What is read or asked for meanwhile may or may not show it. */
  #mark(change: Marked): void {
    for (const index of this.#reading.keys()) {
      const start = index * PIECE_BYTES
      if (change.from < start + PIECE_BYTES && start < change.to) this.#reading.delete(index)
    }
    this.#status.mark(change)
  }

  /** Changes that may not be in an answer that is asked for now, oldest first. */
  #marked(): Marked[] {
    const late = this.#late === undefined ? [] : [{ ...this.#late, isData: false }]
    return [...this.#changes, ...late]
  }

  #start(marked: Marked, work: Promise<void>): void {
    const done = work
      .catch((error: unknown) => {
        this.#failure ??= error
      })
      .then(() => {
        this.#changes.delete(change)
      })
    const change: Change = { ...marked, done }
    this.#changes.add(change)
  }

  /** Waits until nothing under way concerns the range. The server may do what it was told in any order. */
  async #settle(from: number, to: number): Promise<void> {
    if (this.#late !== undefined && this.#late.from < to && from < this.#late.to) this.#sendLate()
    for (;;) {
      const hindering = [...this.#changes].filter((change) => change.from < to && from < change.to)
      if (hindering.length === 0) break
      await Promise.all(hindering.map(({ done }) => done))
    }
    if (this.#failure !== undefined) throw this.#failure
  }

  async #moderate(): Promise<void> {
    while (this.#changes.size >= CHANGE_COUNT_MAX)
      await Promise.race([...this.#changes].map(({ done }) => done))
  }
}

/** Of at most one block. */
function isZero(bytes: Uint8Array): boolean {
  return ZEROES.subarray(0, bytes.length).equals(bytes)
}
