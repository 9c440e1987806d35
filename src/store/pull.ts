import { Fault, isFault } from '../image/fault.ts'
import type { Digest, PageId } from '../image/ids.ts'
import { ahead } from './ahead.ts'
import { bindChunks, bindObject } from './capture.ts'
import { encodeImage, type ImageContent } from './image.ts'
import { inOrder } from './in-order.ts'
import { PAGE_BYTES, readPage, ZERO_PAGE } from './map.ts'
import { type Batch, compareImage, ImagePages } from './missing.ts'
import { pageName, signatureName } from './names.ts'
import { OpenDomain } from './open-domain.ts'
import { ChunkPull } from './pull-chunks.ts'
import type { PullOptions, PullPlan } from './pull-options.ts'
import { checkSignature, readSignature } from './signature.ts'
import type { ReadOnlyRegion } from './source.ts'

export type { PullOptions, PullPlan, PullProgress } from './pull-options.ts'

export interface PullResult {
  readonly image: ImageContent
  /** Bytes read from the source, what lay between wanted chunks included. */
  readonly bytesMoved: number
  readonly chunksMoved: number
  /** Stored bytes that did not have to move because the target had them. */
  readonly bytesReused: number
}

/** Looking up so many objects takes a few milliseconds. */
const LOOKS_PER_TURN = 256
/** Where the source has so many missing chunks is kept, 60 MB of places; of more it is asked again on the way. */
const KEPT_CHUNKS_MAX = 1024 * 1024

/**
 * Compares without moving chunks: fetches the image object and the pages that the target lacks. With the session of a
 * copy that was broken off, what that has written counts as resumed.
 */
export async function planPull(
  options: Pick<PullOptions, 'source' | 'target' | 'digest' | 'signal'> & { readonly sessionId?: string },
): Promise<PullPlan> {
  const signed = await getSignedImage(options.source, options.digest, options.signal)
  return (await prepare(options, signed, options.sessionId)).plan
}

/** The image, of the digest asked for and signed with its domain's keys, and the signature object's bytes. */
export async function getSignedImage(source: ReadOnlyRegion, digest: Digest, signal?: AbortSignal) {
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
  options: Pick<PullOptions, 'source' | 'target' | 'signal' | 'limits'>,
  { image }: { readonly image: ImageContent },
  sessionId: string | undefined,
) {
  const { source, target, signal } = options
  const keptChunksMax = options.limits?.keptChunksMax ?? KEPT_CHUNKS_MAX
  const pages = new ImagePages(source, target, sessionId)
  let reusedBytes = 0
  let resumedBytes = 0
  let missingBytes = 0
  let missingChunkCount = 0
  let batches: Batch[] | undefined = []
  const foundIn = new Set<number>()
  for await (const batch of compareImage(image, pages, source, target, sessionId, signal)) {
    reusedBytes += batch.reusedBytes
    resumedBytes += batch.resumedBytes
    missingBytes += batch.missing.storedBytes.reduce((sum, one) => sum + one, 0)
    missingChunkCount += batch.missing.storedBytes.length
    if (missingChunkCount > keptChunksMax) batches = undefined
    for (const number of batch.foundIn) foundIn.add(number)
    if (batch.missingIds.length > 0) batches?.push(batch)
  }
  const missingPageBytes = pages.missing.size * PAGE_BYTES
  resumedBytes += pages.resumedBytes
  const plan = { image, reusedBytes, resumedBytes, missingBytes, missingChunkCount, missingPageBytes }
  return { plan, pages, batches, foundIn }
}

/**
 * Copies a committed image into the target region and commits it there: packs durable, then pages, then signature
 * and image object, then all of it visible at once. Every chunk is checked before it is written (`PullOptions.check`); its
 * stored form is kept. Run again after a crash with the same session, it moves what is still missing; run again
 * after success, it moves nothing. To be undone with `abortSession`, also after a failure.
 * Faults: 'absent' (subject 'image') if the source has no such image; 'corrupt' naming what the source serves wrong,
 * after a second read; 'conflict' if source and target hold different keys for one domain; 'full'; 'unavailable'.
 */
export async function pullImage(options: PullOptions): Promise<PullResult> {
  const { source, target, digest, sessionId, signal } = options
  const held = await takeHeld(options)
  if (held !== undefined) return { image: held, bytesMoved: 0, chunksMoved: 0, bytesReused: 0 }
  const signed = await getSignedImage(source, digest, signal)
  const { image: content, signature } = signed
  await target.openSession(sessionId, content.domain, signal)
  await target.adoptDomain(content.domain, source, signal)
  const { plan, pages, batches, foundIn } = await prepare(options, signed, sessionId)
  const comparedBytes = pages.movedBytes
  const pull = new ChunkPull(options, plan, comparedBytes)
  const compare = () => compareImage(content, pages, source, target, sessionId, signal)
  try {
    await pull.run(batches === undefined ? ahead(compare()) : each(batches))
  } catch (error) {
    await pull.abandon()
    throw error
  }
  const write = async (id: PageId) => {
    const page = await pages.get(id, signal)
    await target.putObject(sessionId, pageName(id), page, signal)
    pages.release(id)
    return page
  }
  for await (const [, page] of inOrder(pages.missing, target.objects.traits.callsMax, write)) {
    pull.pageDone(page.length)
  }
  const { bytes } = encodeImage(content)
  await target.putObject(sessionId, signatureName(digest), signature, signal)
  const chunksIn = foundIn.union(await pull.heldIn())
  await target.putImage(sessionId, digest, bytes, await needsOf(options, content, chunksIn), signal)
  const ref = options.ref && (await target.putRef(sessionId, { ...options.ref, digests: [digest] }, signal))
  signal?.throwIfAborted()
  target.commitSession(sessionId, ref === undefined ? [] : [ref])
  pull.committed()
  return {
    image: content,
    bytesMoved: pull.movedBytes + pages.movedBytes - comparedBytes + signature.length + bytes.length,
    chunksMoved: pull.movedChunkCount,
    bytesReused: pull.savedBytes,
  }
}

async function* each<Item>(items: readonly Item[]): AsyncGenerator<Item> {
  yield* items
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

/** The objects that the image needs in the target, all of them held by the session (I1): its chunks are in `chunksIn`. */
async function needsOf(
  { target, sessionId, digest, signal }: PullOptions,
  image: ImageContent,
  chunksIn: ReadonlySet<number>,
): Promise<Set<number>> {
  const holds = target.holdsOf(sessionId)
  const bound = new Set<number>()
  bindObject(holds, signatureName(digest), bound)
  const pages = new Set(image.disks.flatMap((disk) => disk.pages))
  pages.delete(ZERO_PAGE)
  for (const [i, id] of [...pages].entries()) {
    if (i % LOOKS_PER_TURN === 0) await new Promise(setImmediate)
    bindObject(holds, pageName(id), bound)
  }
  if (![...chunksIn].some((number) => target.places.isDamaged(number))) return bound.union(chunksIn)
  // Something that was relied on, or was there under the name of what was brought, is bad: each chunk is looked up again.
  const read = (id: PageId) => readPage(target.objects, id, signal)
  for await (const [, page] of inOrder(pages, target.objects.traits.callsMax, read)) {
    bindChunks(holds, page, 0, bound)
    await new Promise(setImmediate)
  }
  return bound
}
