import assert from 'node:assert/strict'
import { Fault } from '../image/fault.ts'
import type { DomainId, PackId } from '../image/ids.ts'
import { bindObject } from './capture.ts'
import { CHUNK_BYTES_MAX, isSealedFor } from './chunk.ts'
import { ID_BYTES } from './hashes.ts'
import { inOrder } from './in-order.ts'
import { type Batch, locateAll } from './missing.ts'
import { packName } from './names.ts'
import type { OpenDomain } from './open-domain.ts'
import { PACK_HEADER_BYTES } from './pack.ts'
import { PackWriter } from './pack-writer.ts'
import type { PullOptions, PullPlan } from './pull-options.ts'
import { PullRoom } from './pull-room.ts'
import { type WantedPack, WholePacks } from './pull-whole.ts'
import { mergeRanges, type PackRange, PULL_LIMITS, type RangeLimits, type WantedChunk } from './ranges.ts'
import { damagedChunk, missingOrCut, openChunk, type StoredPlace } from './read-chunk.ts'
import type { ChunkTable } from './source.ts'

/** More reads at once hide no more latency. */
const READS_MAX = 16
/**
 * So many times as many reads are begun as are under way: one that is done is followed at once by one that was ready, also while
 * one before it still runs.
 */
const BEGUN_FACTOR = 2
/**
 * Of the region's packs, so large are those that a copy writes: two of them, of which one is on its way to the disk, and what is
 * being read are together no more than one of the usual size. So much at most is moved twice after a kill.
 */
const PACK_SHARE = 3 / 8
/** On their way at once: one is read and hashed, two are written, of which one may have come to its sync. They are a bit above their size. */
const WHOLE_PACKS_MAX = 3
/** Looking up so many chunks takes a few milliseconds. */
const LOOKS_PER_TURN = 256

type Job =
  | { readonly is: 'range'; readonly range: PackRange; readonly batch: Batch }
  | { readonly is: 'pack'; readonly pack: WantedPack; readonly batch: Batch }

interface FetchedChunk {
  readonly id: Buffer
  readonly domain: DomainId
  readonly stored: Buffer
  readonly plainBytes: number
}

/** The moving half of one copy: fetches, checks, packs. */
export class ChunkPull {
  readonly #options: PullOptions
  readonly #limits: RangeLimits
  readonly #readsMax: number
  readonly #totalBytes: number
  readonly #resumedBytes: number
  readonly #packBytes: number
  readonly #room: PullRoom
  readonly #whole: WholePacks
  readonly #writers = new Map<DomainId, PackWriter>()
  readonly #addedBytes = new Map<DomainId, number>()
  readonly #domains = new Map<DomainId, OpenDomain>()
  /** In which chunks were found that did not have to move. */
  readonly #foundIn = new Set<number>()
  readonly #packs = new Set<PackId>()
  #wantedChunkCount = 0
  #pageBytes = 0
  #skippedBytes = 0
  #savedBytes: number
  #movedBytes: number
  movedChunkCount = 0

  /** `movedBytes`: read before chunks are. */
  constructor(options: PullOptions, plan: PullPlan, movedBytes: number) {
    const { readsMax, keptChunksMax: _kept, ...limits } = options.limits ?? {}
    const { source, target } = options
    this.#options = options
    this.#limits = { ...PULL_LIMITS, ...limits }
    this.#readsMax = readsMax ?? Math.min(READS_MAX, source.objects.traits.callsMax)
    this.#resumedBytes = plan.resumedBytes
    this.#totalBytes = plan.missingBytes + plan.missingPageBytes + plan.resumedBytes
    this.#savedBytes = plan.reusedBytes
    this.#movedBytes = movedBytes
    this.#packBytes = Math.max(PACK_HEADER_BYTES + 1, Math.ceil(target.packBytes * PACK_SHARE))
    this.#room = new PullRoom({
      unsafeBytes: () => sum([...this.#writers.values()].map((one) => one.unsafeBytes)),
      bytesMax: () => this.#roomBytes(),
      readsMax: this.#readsMax,
    })
    this.#whole = new WholePacks(options)
    this.#report()
  }

  /** Bytes that did not have to move because the target had them, before or meanwhile. */
  get savedBytes(): number {
    return this.#savedBytes
  }

  /** Bytes read from the source. */
  get movedBytes(): number {
    return this.#movedBytes + this.#whole.movedBytes
  }

  /** All chunks of all batches, durable when it resolves. To be followed by `abandon` where it rejects. */
  async run(batches: AsyncIterable<Batch>): Promise<void> {
    const { signal } = this.#options
    const stop = () => this.#room.close(signal?.reason)
    signal?.addEventListener('abort', stop, { once: true })
    try {
      signal?.throwIfAborted()
      const jobs = inOrder(this.#jobs(batches), BEGUN_FACTOR * this.#readsMax, (job) => this.#fetch(job))
      for await (const [job, chunks] of jobs) {
        // It was made durable as a whole, and has left the room.
        if (chunks === undefined) continue
        try {
          for (const chunk of chunks) await this.#add(chunk)
        } catch (error) {
          // Those that wait for room are waited for when this loop is left.
          this.#room.close(error)
          throw error
        }
        this.#room.leave(bytesOf(job))
        this.#report()
      }
      for (const writer of this.#writers.values()) await writer.finish()
    } finally {
      signal?.removeEventListener('abort', stop)
    }
  }

  /**
   * After `run`: the objects in which the session holds every chunk of its batches, those that were missing and those that were
   * not.
   */
  async heldIn(): Promise<Set<number>> {
    assert.equal(this.movedChunkCount, this.#wantedChunkCount, 'every chunk that is missing was moved')
    const { target, sessionId } = this.#options
    const held = new Set(this.#foundIn)
    for (const [i, pack] of [...this.#packs].entries()) {
      if (i % LOOKS_PER_TURN === 0) await new Promise(setImmediate)
      bindObject(target.holdsOf(sessionId), packName(pack), held)
    }
    return held
  }

  async abandon(): Promise<void> {
    for (const writer of this.#writers.values()) await writer.abandon()
  }

  pageDone(lengthBytes: number): void {
    this.#pageBytes += lengthBytes
    this.#report()
  }

  /** Everything is committed. */
  committed(): void {
    this.#tell(this.#totalBytes)
  }

  async *#jobs(batches: AsyncIterable<Batch>): AsyncGenerator<Job> {
    let isBegun = false
    try {
      for await (const batch of batches) {
        for (const number of batch.foundIn) this.#foundIn.add(number)
        const wanted = await this.#wantedOf(batch)
        for (const { domain } of batch.missing.packs) await this.#learnDomain(domain)
        const isSplit = this.#options.takesPacks === true && this.#options.check === 'seal'
        const { packs, rest } = isSplit ? await this.#whole.split(wanted) : { packs: [], rest: wanted }
        for (const pack of packs) yield { is: 'pack', pack, batch }
        // Where all end at once the line is idle until the next ones begin to come.
        const limits = isBegun ? this.#limits : { ...this.#limits, risingCount: this.#readsMax }
        for (const range of mergeRanges(rest, limits)) yield { is: 'range', range, batch }
        isBegun ||= rest.length > 0
      }
    } catch (error) {
      this.#room.close(error)
      throw error
    }
  }

  /** What of a batch the target still lacks: others may have brought something since it was compared. */
  async #wantedOf({ missing, missingIds, foreignVersion }: Batch): Promise<WantedChunk[]> {
    const { target, sessionId, signal } = this.#options
    // What this pull itself has written since is of other batches: no chunk is in two of them.
    const isAsCompared = target.database.foreignVersion === foreignVersion
    const holds = target.holdsOf(sessionId)
    const wanted: WantedChunk[] = []
    const count = missing.packIndex.length
    for (let from = 0; from < count; from += LOOKS_PER_TURN) {
      await new Promise(setImmediate)
      signal?.throwIfAborted()
      const positions = Array.from({ length: Math.min(LOOKS_PER_TURN, count - from) }, (_, i) => from + i)
      const found = isAsCompared
        ? []
        : holds.findChunks(positions.map((position) => idAt(missingIds, position)))
      for (const position of positions) {
        const storedBytes = missing.storedBytes[position] as number
        const holder = found[position - from]
        if (holder !== undefined) {
          this.#foundIn.add(holder.number)
          this.#skippedBytes += storedBytes
          this.#savedBytes += storedBytes
          continue
        }
        const pack = missing.packs[missing.packIndex[position] as number]
        assert(pack !== undefined)
        wanted.push({ pack, offset: missing.offset[position] as number, storedBytes, position })
      }
    }
    this.#wantedChunkCount += wanted.length
    return wanted
  }

  async #learnDomain(domain: DomainId): Promise<void> {
    if (this.#domains.has(domain)) return
    const { source, target, signal } = this.#options
    this.#domains.set(domain, await target.adoptDomain(domain, source, signal))
  }

  /** Its chunks, which are to be packed; undefined for a pack that was taken as it is. */
  async #fetch(job: Job): Promise<FetchedChunk[] | undefined> {
    try {
      await this.#room.enter(bytesOf(job))
      if (job.is === 'range') return await this.#fetchRange(job.range, job.batch)
      const idIn = (chunk: WantedChunk) => idOf(chunk, job.batch)
      if (!(await this.#whole.move(job.pack, idIn))) return await this.#fetchRanges(job)
      this.#packs.add(job.pack.pack.id)
      this.movedChunkCount += job.pack.chunks.length
      this.#room.leave(bytesOf(job))
      this.#report()
      return undefined
    } catch (error) {
      this.#room.close(error)
      throw error
    }
  }

  async #fetchRanges({ pack, batch }: Extract<Job, { is: 'pack' }>): Promise<FetchedChunk[]> {
    const chunks: FetchedChunk[] = []
    for (const range of mergeRanges(pack.chunks, this.#limits)) {
      chunks.push(...(await this.#fetchRange(range, batch)))
    }
    return chunks
  }

  /** Reads one range and checks its chunks; what is wrong is read once more, in case only the way was bad. */
  async #fetchRange(range: PackRange, batch: Batch): Promise<FetchedChunk[]> {
    const bytes = await this.#read(range, range.offset, range.lengthBytes).catch(missingOrCut)
    const check = async (chunk: WantedChunk): Promise<FetchedChunk | undefined> => {
      const at = chunk.offset - range.offset
      const place = placeAt(batch.missing, chunk.position)
      return bytes && this.#check(bytes.subarray(at, at + chunk.storedBytes), place, idOf(chunk, batch))
    }
    const checked = await Promise.all(range.chunks.map(check))
    const chunks: FetchedChunk[] = []
    for (const [i, chunk] of range.chunks.entries()) {
      chunks.push(checked[i] ?? (await this.#fetchAgain(chunk, range, batch)))
    }
    return chunks
  }

  /** Asks for the place again as well: since the first look a collection at the source may have moved the chunk. */
  async #fetchAgain(chunk: WantedChunk, range: PackRange, batch: Batch): Promise<FetchedChunk> {
    const { source, signal } = this.#options
    await source.forget?.(packName(range.pack.id), range.offset, range.lengthBytes)
    const id = idOf(chunk, batch)
    const place = placeAt(await locateAll(source, id, signal), 0)
    await this.#learnDomain(place.domain)
    const stored = await this.#read({ pack: { id: place.pack } }, place.offset, place.storedBytes).catch(
      (error: unknown) => {
        missingOrCut(error)
        const text = `Pack ${place.pack} of the source region is missing or cut short.`
        throw new Fault('corrupt', text, { subject: 'store', cause: error })
      },
    )
    const second = await this.#check(stored, place, id)
    if (second === undefined) throw damagedChunk(place, id)
    return second
  }

  async #read(
    { pack }: { readonly pack: Pick<PackRange['pack'], 'id'> },
    offset: number,
    lengthBytes: number,
  ): Promise<Buffer> {
    const { source, signal } = this.#options
    const name = packName(pack.id)
    const bytes = await this.#room.read(() => source.objects.get(name, offset, lengthBytes, signal))
    this.#movedBytes += bytes.length
    return bytes
  }

  async #check(stored: Buffer, place: StoredPlace, id: Buffer): Promise<FetchedChunk | undefined> {
    const domain = this.#domains.get(place.domain)
    assert(domain !== undefined)
    const { plainBytes } = place
    const isEnough = this.#options.check === 'seal' && isSealedFor(stored, { id, plainBytes }, domain.sealer)
    const isRight = isEnough || (await openChunk(stored, place, id, domain)) !== undefined
    return isRight ? { id, domain: place.domain, stored, plainBytes } : undefined
  }

  async #add({ id, domain, stored, plainBytes }: FetchedChunk): Promise<void> {
    const writer = this.#writerOf(domain)
    this.movedChunkCount++
    const addedBytes = (this.#addedBytes.get(domain) ?? 0) + stored.length
    this.#addedBytes.set(domain, addedBytes)
    writer.mark = addedBytes
    // The id is a view of the whole batch, which the pack's entries would keep alive.
    await writer.add(Buffer.from(id), plainBytes, (target, offset) => stored.copy(target, offset))
  }

  #writerOf(domain: DomainId): PackWriter {
    let writer = this.#writers.get(domain)
    if (writer === undefined) {
      const { target, sessionId, signal } = this.#options
      const onSealed = (pack: PackId | undefined) => this.#sealed(pack)
      const [chunkBytes, packBytes] = [CHUNK_BYTES_MAX, this.#packBytes]
      const more = signal === undefined ? {} : { signal }
      const isHashedBeside = this.#options.isHashedBeside === true
      const packs = { sessionId, domain, chunkBytes, packBytes, isHashedBeside, onSealed, ...more }
      writer = new PackWriter({ region: target, ...packs })
      this.#writers.set(domain, writer)
    }
    return writer
  }

  #sealed(pack: PackId | undefined): void {
    if (pack !== undefined) this.#packs.add(pack)
    this.#report()
    this.#room.look()
  }

  /** All is no more than a pack for each domain, beside those that are taken whole. */
  #roomBytes(): number {
    const { takesPacks, target } = this.#options
    const packCount = Math.max(1, this.#writers.size) + (takesPacks === true ? WHOLE_PACKS_MAX : 0)
    return target.packBytes * packCount - this.#limits.rangeBytesMax
  }

  #report(): void {
    const durableBytes =
      this.#whole.durableBytes + sum([...this.#writers.values()].map((writer) => writer.durableMark))
    const doneBytes = this.#resumedBytes + this.#pageBytes + this.#skippedBytes + durableBytes
    this.#tell(Math.min(doneBytes, this.#totalBytes))
  }

  #tell(doneBytes: number): void {
    const { movedBytes, savedBytes } = this
    this.#options.onProgress?.({ doneBytes, totalBytes: this.#totalBytes, movedBytes, savedBytes })
  }
}

const sum = (numbers: readonly number[]) => numbers.reduce((total, one) => total + one, 0)

const bytesOf = (job: Job) => (job.is === 'pack' ? job.pack.sizeBytes : job.range.lengthBytes)

const idAt = (ids: Buffer, position: number) => ids.subarray(position * ID_BYTES, (position + 1) * ID_BYTES)
const idOf = ({ position }: WantedChunk, { missingIds }: Batch) => idAt(missingIds, position)

function placeAt(table: ChunkTable, position: number): StoredPlace {
  const pack = table.packs[table.packIndex[position] ?? -1]
  assert(pack !== undefined)
  return {
    pack: pack.id,
    domain: pack.domain,
    offset: table.offset[position] as number,
    storedBytes: table.storedBytes[position] as number,
    plainBytes: table.plainBytes[position] as number,
    crc32: table.crc32[position] as number,
  }
}
