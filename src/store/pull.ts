import assert from 'node:assert/strict'
import { Fault, isFault } from '../image/fault.ts'
import type { Digest, DomainId, PageId } from '../image/ids.ts'
import { bindChunks, bindObject } from './capture.ts'
import { CHUNK_BYTES_MAX } from './chunk.ts'
import { ID_BYTES } from './hashes.ts'
import { encodeImage, type ImageContent } from './image.ts'
import { inOrder } from './in-order.ts'
import { readPage, ZERO_PAGE } from './map.ts'
import { type Batch, compareImage, ImagePages } from './missing.ts'
import { packName, pageName, signatureName } from './names.ts'
import { OpenDomain } from './open-domain.ts'
import { PackWriter } from './pack-writer.ts'
import { mergeRanges, type PackRange, RANGE_LIMITS, type RangeLimits, type WantedChunk } from './ranges.ts'
import { damagedChunk, openChunk } from './read-chunk.ts'
import type { RefInput } from './refs.ts'
import type { RegionStore } from './region.ts'
import { checkSignature, readSignature } from './signature.ts'
import type { ReadOnlyRegion } from './source.ts'

export interface PullOptions {
  readonly source: ReadOnlyRegion
  readonly target: RegionStore
  readonly digest: Digest
  readonly sessionId: string
  /** Who needs the image from the commit on. */
  readonly ref?: RefInput
  readonly signal?: AbortSignal
  /** `doneBytes` counts what is durable in the target; it never falls, and ends at `totalBytes`. */
  readonly onProgress?: (progress: PullProgress) => void
  readonly limits?: Partial<RangeLimits & { readonly readsMax: number }>
}

export interface PullProgress {
  readonly doneBytes: number
  readonly totalBytes: number
}

/** What a copy would do. Bytes are stored bytes of chunks, and whole map pages. */
export interface PullPlan {
  readonly image: ImageContent
  /** In the target for everybody, so never moved. */
  readonly reusedBytes: number
  /** Moved by this session before it was interrupted. */
  readonly resumedBytes: number
  readonly missingBytes: number
  readonly missingChunkCount: number
  readonly missingPageBytes: number
}

export interface PullResult {
  readonly image: ImageContent
  /** Bytes read from the source, what lay between wanted chunks included. */
  readonly bytesMoved: number
  readonly chunksMoved: number
  /** Stored bytes that did not have to move because the target had them. */
  readonly bytesReused: number
}

/**
 * Compares without moving chunks: fetches the image object and the pages that the target lacks. With the session of a
 * copy that was broken off, what that has written counts as resumed.
 */
export async function planPull(
  options: Pick<PullOptions, 'source' | 'target' | 'digest' | 'signal'> & { readonly sessionId?: string },
): Promise<PullPlan> {
  return (await prepare(options, options.sessionId)).plan
}

/** The image, of the digest asked for and signed with its domain's keys, and the signature object's bytes. */
async function getImage(source: ReadOnlyRegion, digest: Digest, signal?: AbortSignal) {
  const image = await source.getImage(digest, signal)
  if (encodeImage(image).digest !== digest) {
    throw new Fault('corrupt', `The source region answers another image for ${digest}.`, { subject: 'image' })
  }
  const signature = await readSignature(source.objects, digest, signal)
  const { domain } = image
  checkSignature(new OpenDomain(domain, await source.getSecrets(domain, signal)), image, signature)
  return { image, signature }
}

async function prepare(
  options: Pick<PullOptions, 'source' | 'target' | 'digest' | 'signal'>,
  sessionId: string | undefined,
) {
  const { source, target, digest, signal } = options
  const { image, signature } = await getImage(source, digest, signal)
  const pages = new ImagePages(source, target, sessionId)
  let reusedBytes = 0
  let resumedBytes = 0
  let missingBytes = 0
  let missingChunkCount = 0
  for await (const batch of compareImage(image, pages, source, target, sessionId, signal)) {
    reusedBytes += batch.reusedBytes
    resumedBytes += batch.resumedBytes
    missingBytes += batch.missing.storedBytes.reduce((sum, one) => sum + one, 0)
    missingChunkCount += batch.missing.storedBytes.length
  }
  const missingPageBytes = pages.movedBytes
  const plan = { image, reusedBytes, resumedBytes, missingBytes, missingChunkCount, missingPageBytes }
  return { plan, pages, signature }
}

/**
 * Copies a committed image into the target region and commits it there: packs durable, then pages, then signature
 * and image object, then all of it visible at once. Every chunk is decrypted and checked by checksum and keyed id before
 * it is written; its stored form is kept. Run again after a crash with the same session, it moves what is still missing; run again
 * after success, it moves nothing. To be undone with `abortSession`, also after a failure.
 * Faults: 'absent' (subject 'image') if the source has no such image; 'corrupt' naming what the source serves wrong,
 * after a second read; 'conflict' if source and target hold different keys for one domain; 'full'; 'unavailable'.
 */
export async function pullImage(options: PullOptions): Promise<PullResult> {
  const { source, target, digest, sessionId, signal } = options
  const held = await takeHeld(options)
  if (held !== undefined) return { image: held, bytesMoved: 0, chunksMoved: 0, bytesReused: 0 }
  const { image: content } = await getImage(source, digest, signal)
  await target.openSession(sessionId, content.domain, signal)
  await target.adoptDomain(content.domain, source, signal)
  const { plan, pages, signature } = await prepare(options, sessionId)
  const pull = new Pull(options, plan)
  try {
    for await (const batch of compareImage(content, pages, source, target, sessionId, signal)) {
      await pull.run(batch)
    }
    await pull.finish()
  } catch (error) {
    await pull.abandon()
    throw error
  }
  const write = ([id, page]: [Parameters<typeof pageName>[0], Buffer]) =>
    target.putObject(sessionId, pageName(id), page, signal)
  for await (const [[, page]] of inOrder(pages.fetched(), target.objects.traits.callsMax, write)) {
    pull.pageDone(page.length)
  }
  const { bytes } = encodeImage(content)
  await target.putObject(sessionId, signatureName(digest), signature, signal)
  await target.putImage(
    sessionId,
    digest,
    bytes,
    await needsOf(target, sessionId, digest, content, signal),
    signal,
  )
  const ref = options.ref && (await target.putRef(sessionId, { ...options.ref, digests: [digest] }, signal))
  signal?.throwIfAborted()
  target.commitSession(sessionId, ref === undefined ? [] : [ref])
  pull.committed()
  return {
    image: content,
    bytesMoved: pull.movedBytes + pages.movedBytes + signature.length + bytes.length,
    chunksMoved: pull.movedChunkCount,
    bytesReused: plan.reusedBytes,
  }
}

/** The image where the target has it for everybody and no session of ours is under way, now needed by `ref` as well. */
async function takeHeld({ target, digest, sessionId, ref, signal }: PullOptions) {
  if (!target.hasImage(digest) || target.listSessions().some((session) => session.id === sessionId)) {
    return undefined
  }
  try {
    if (ref !== undefined) await target.setRef({ ...ref, digests: [digest] }, signal)
    return await target.getImage(digest, signal)
  } catch (error) {
    // It was condemned between the two looks: then it is pulled as any other.
    if (isFault(error, 'absent')) return undefined
    throw error
  }
}

/** The objects that the image needs in the target, all of them held by the session (I1). */
async function needsOf(
  target: RegionStore,
  sessionId: string,
  digest: Digest,
  image: ImageContent,
  signal: AbortSignal | undefined,
): Promise<Set<number>> {
  const holds = target.holdsOf(sessionId)
  const bound = new Set<number>()
  bindObject(holds, signatureName(digest), bound)
  const pages = new Set(image.disks.flatMap((disk) => disk.pages))
  pages.delete(ZERO_PAGE)
  const read = (id: PageId) => readPage(target.objects, id, signal)
  for await (const [id, page] of inOrder(pages, target.objects.traits.callsMax, read)) {
    bindObject(holds, pageName(id), bound)
    bindChunks(holds, page, 0, bound)
    await new Promise(setImmediate)
  }
  return bound
}

type FetchedChunk = WantedChunk & {
  readonly stored: Buffer
  readonly id: Buffer
  readonly plainBytes: number
}

/** The moving half of one copy: fetches, checks, packs. */
class Pull {
  readonly #options: PullOptions
  readonly #limits: RangeLimits
  readonly #readsMax: number
  readonly #totalBytes: number
  readonly #resumedBytes: number
  #pageBytes = 0
  readonly #writers = new Map<DomainId, PackWriter>()
  readonly #addedBytes = new Map<DomainId, number>()
  readonly #domains = new Map<DomainId, OpenDomain>()
  movedBytes = 0
  movedChunkCount = 0

  constructor(options: PullOptions, plan: PullPlan) {
    const { readsMax, ...limits } = options.limits ?? {}
    this.#options = options
    this.#limits = { ...RANGE_LIMITS, ...limits }
    this.#readsMax = readsMax ?? options.source.objects.traits.callsMax
    this.#totalBytes = plan.missingBytes + plan.missingPageBytes + plan.resumedBytes
    this.#resumedBytes = plan.resumedBytes
    this.#report()
  }

  async run(batch: Batch): Promise<void> {
    const { missing } = batch
    const wanted: WantedChunk[] = Array.from(missing.packIndex, (packIndex, position) => {
      const pack = missing.packs[packIndex]
      assert(pack !== undefined)
      return {
        pack,
        offset: missing.offset[position] as number,
        storedBytes: missing.storedBytes[position] as number,
        position,
      }
    })
    for (const { domain } of missing.packs) await this.#learnDomain(domain)
    const ranges = mergeRanges(wanted, this.#limits)
    const fetch = (range: PackRange) => this.#fetch(range, batch)
    for await (const [, chunks] of inOrder(ranges, this.#readsMax, fetch)) {
      for (const chunk of chunks) await this.#add(chunk)
    }
  }

  async #learnDomain(domain: DomainId): Promise<void> {
    if (this.#domains.has(domain)) return
    const { source, target, signal } = this.#options
    this.#domains.set(domain, await target.adoptDomain(domain, source, signal))
  }

  /** Reads one range and checks its chunks; what is wrong is read once more, in case only the way was bad. */
  async #fetch(range: PackRange, batch: Batch): Promise<FetchedChunk[]> {
    const bytes = await this.#read(range, range.offset, range.lengthBytes)
    const check = async (chunk: WantedChunk): Promise<FetchedChunk> => {
      const at = chunk.offset - range.offset
      const first = this.#take(chunk, bytes.subarray(at, at + chunk.storedBytes), batch)
      if (await this.#isRight(first, batch)) return first
      const second = this.#take(chunk, await this.#read(range, chunk.offset, chunk.storedBytes), batch)
      if (await this.#isRight(second, batch)) return second
      throw damagedChunk(this.#placeOf(chunk, batch), second.id)
    }
    const results = await Promise.allSettled(range.chunks.map(check))
    return results.map((result) => {
      if (result.status === 'rejected') throw result.reason
      return result.value
    })
  }

  async #read(range: PackRange, offset: number, lengthBytes: number): Promise<Buffer> {
    const { source, signal } = this.#options
    this.movedBytes += lengthBytes
    try {
      return await source.objects.get(packName(range.pack.id), offset, lengthBytes, signal)
    } catch (error) {
      if (!(error instanceof Fault) || (error.kind !== 'absent' && error.kind !== 'corrupt')) throw error
      throw new Fault('corrupt', `Pack ${range.pack.id} of the source region is missing or cut short.`, {
        subject: 'store',
        cause: error,
      })
    }
  }

  #take(chunk: WantedChunk, stored: Buffer, { missing, missingIds }: Batch): FetchedChunk {
    const id = missingIds.subarray(chunk.position * ID_BYTES, (chunk.position + 1) * ID_BYTES)
    return { ...chunk, stored, id, plainBytes: missing.plainBytes[chunk.position] as number }
  }

  #placeOf(chunk: WantedChunk, { missing }: Batch) {
    return {
      pack: chunk.pack.id,
      domain: chunk.pack.domain,
      offset: chunk.offset,
      storedBytes: chunk.storedBytes,
      plainBytes: missing.plainBytes[chunk.position] as number,
      crc32: missing.crc32[chunk.position] as number,
    }
  }

  async #isRight(chunk: FetchedChunk, batch: Batch): Promise<boolean> {
    const domain = this.#domains.get(chunk.pack.domain)
    assert(domain !== undefined)
    if (chunk.plainBytes > CHUNK_BYTES_MAX) return false
    return (await openChunk(chunk.stored, this.#placeOf(chunk, batch), chunk.id, domain)) !== undefined
  }

  async #add(chunk: FetchedChunk): Promise<void> {
    const { domain } = chunk.pack
    let writer = this.#writers.get(domain)
    if (writer === undefined) {
      const { target, sessionId, signal } = this.#options
      writer = new PackWriter({
        region: target,
        sessionId,
        domain,
        chunkBytes: CHUNK_BYTES_MAX,
        ...(signal === undefined ? {} : { signal }),
      })
      this.#writers.set(domain, writer)
    }
    this.movedChunkCount++
    const addedBytes = (this.#addedBytes.get(domain) ?? 0) + chunk.storedBytes
    this.#addedBytes.set(domain, addedBytes)
    writer.mark = addedBytes
    // The id is a view of the whole batch, which the pack's entries would keep alive.
    await writer.add(Buffer.from(chunk.id), chunk.plainBytes, (target, offset) =>
      chunk.stored.copy(target, offset),
    )
    this.#report()
  }

  async finish(): Promise<void> {
    for (const writer of this.#writers.values()) {
      await writer.finish()
      this.#report()
    }
  }

  async abandon(): Promise<void> {
    for (const writer of this.#writers.values()) await writer.abandon()
  }

  pageDone(lengthBytes: number): void {
    this.#pageBytes += lengthBytes
    this.#report()
  }

  /** Others may have brought chunks meanwhile that we then did not have to: they are done as well. */
  committed(): void {
    this.#options.onProgress?.({ doneBytes: this.#totalBytes, totalBytes: this.#totalBytes })
  }

  #report(): void {
    let doneBytes = this.#resumedBytes + this.#pageBytes
    for (const writer of this.#writers.values()) doneBytes += writer.durableMark
    this.#options.onProgress?.({ doneBytes, totalBytes: this.#totalBytes })
  }
}
