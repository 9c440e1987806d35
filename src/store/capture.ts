import assert from 'node:assert/strict'
import { Fault } from '../image/fault.ts'
import type { Digest, DomainId } from '../image/ids.ts'
import type { ObjectName } from '../objects/names.ts'
import { plainBytesOf } from './chunk.ts'
import { ID_BYTES, isZeroId } from './hashes.ts'
import type { Holds } from './holds.ts'
import { encodeImage, type ImageContent, type ImageDisk } from './image.ts'
import { inOrder } from './in-order.ts'
import type { RefRow } from './journal.ts'
import { cutPages, type DiskMap, PAGE_IDS, readPage } from './map.ts'
import { pageName, signatureName } from './names.ts'
import type { RefInput } from './refs.ts'
import type { RegionStore } from './region.ts'
import { encodeSignature } from './signature.ts'
import { chunkIdAt } from './source.ts'

/** A run of chunks of one disk. */
export interface ChunkRun {
  readonly firstIndex: number
  readonly count: number
}

/** What one thread takes at a time: neighbouring runs, in disk order. */
export interface Stripe {
  readonly runs: readonly ChunkRun[]
  readonly dataBytes: number
}

/**
 * Cuts the parts of a disk that may hold data into stripes of about `stripeBytes`, for threads to take one after the
 * other. A chunk that an extent only touches is taken whole, and once.
 */
export function cutStripes(
  extents: Iterable<{ readonly offset: number; readonly lengthBytes: number }>,
  sizeBytes: number,
  chunkBytes: number,
  stripeBytes = 16 * 1024 * 1024,
): Stripe[] {
  const stripes: Stripe[] = []
  const countMax = Math.max(1, Math.floor(stripeBytes / chunkBytes))
  let runs: { firstIndex: number; count: number }[] = []
  let count = 0
  let next = 0
  const seal = () => {
    const dataBytes = runs.reduce(
      (sum, run) =>
        sum +
        (run.count - 1) * chunkBytes +
        plainBytesOf(sizeBytes, chunkBytes, run.firstIndex + run.count - 1),
      0,
    )
    if (count > 0) stripes.push({ runs, dataBytes })
    runs = []
    count = 0
  }
  for (const { offset, lengthBytes } of extents) {
    assert(offset >= 0 && offset + lengthBytes <= sizeBytes)
    if (lengthBytes === 0) continue
    const end = Math.ceil((offset + lengthBytes) / chunkBytes)
    assert(end >= next, 'extents rise')
    for (let first = Math.max(next, Math.floor(offset / chunkBytes)); first < end; ) {
      const taken = Math.min(end - first, countMax - count)
      const last = runs.at(-1)
      if (last !== undefined && last.firstIndex + last.count === first) last.count += taken
      else runs.push({ firstIndex: first, count: taken })
      count += taken
      first += taken
      if (count === countMax) seal()
    }
    next = end
  }
  seal()
  return stripes
}

/** Fills `ids` with the chunk ids of `map`: the start of a capture that reads changed extents only. */
export async function loadDiskIds(
  region: RegionStore,
  map: DiskMap,
  ids: Uint8Array,
  signal?: AbortSignal,
): Promise<void> {
  assert.equal(ids.length, map.pages.length * PAGE_IDS * ID_BYTES)
  let at = 0
  const read = (id: DiskMap['pages'][number]) => readPage(region.objects, id, signal)
  for await (const [, page] of inOrder(map.pages, region.objects.traits.callsMax, read)) {
    ids.set(page, at)
    at += page.length
  }
}

/**
 * Makes the map of a disk durable, for the session, and adds to `bound` the numbers of the objects it needs: its pages
 * and the packs of its chunks. Every chunk it names must be there for the session or for everybody (I1): a map that
 * names a missing one is Fault 'corrupt', and nothing of the page is written.
 */
export async function writeMap(
  region: RegionStore,
  sessionId: string,
  disk: { readonly sizeBytes: number; readonly chunkBytes: number; readonly ids: Uint8Array },
  bound: Set<number>,
  signal?: AbortSignal,
): Promise<DiskMap> {
  const holds = region.holdsOf(sessionId)
  const write = async ({ id, bytes }: { id: DiskMap['pages'][number]; bytes: Buffer | undefined }) => {
    if (bytes === undefined) return
    if (holds.findObject(pageName(id)) === undefined) {
      await region.putObject(sessionId, pageName(id), bytes, signal)
    }
    bindObject(holds, pageName(id), bound)
  }
  const checked = async function* () {
    let first = 0
    for (const page of cutPages(disk.ids)) {
      // A page takes milliseconds to look up; others on this thread get their turn between two.
      await new Promise(setImmediate)
      if (page.bytes !== undefined) bindChunks(holds, page.bytes, first * disk.chunkBytes, bound)
      first += PAGE_IDS
      yield page
    }
  }
  const pages: DiskMap['pages'][number][] = []
  for await (const [{ id }] of inOrder(checked(), region.objects.traits.callsMax, write)) pages.push(id)
  return { sizeBytes: disk.sizeBytes, chunkBytes: disk.chunkBytes, pages }
}

/** Adds the packs in which the session finds the chunks of a page. `offset`: where the page begins on its disk. */
export function bindChunks(holds: Holds, page: Buffer, offset: number, bound: Set<number>): void {
  for (let i = 0; i < PAGE_IDS; i++) {
    if (isZeroId(page, i * ID_BYTES)) continue
    const found = holds.findChunk(page.subarray(i * ID_BYTES, (i + 1) * ID_BYTES))
    if (found !== undefined) bound.add(found.number)
    else {
      holds.assertOpen()
      throw new Fault(
        'corrupt',
        `Chunk ${chunkIdAt(page, i)} of the map, in the page at ${offset}, is missing.`,
        { subject: 'store' },
      )
    }
  }
}

/** Adds an object that the session has written, or found. */
export function bindObject(holds: Holds, name: ObjectName, bound: Set<number>): void {
  const number = holds.findObject(name)
  // A session that somebody ended holds nothing any more, which is no bug of who goes on.
  if (number === undefined) holds.assertOpen()
  assert(number !== undefined, `${name} was written before it is bound`)
  bound.add(number)
}

/** An image about to be written: maps instead of page lists are not needed, the ids of each disk are. */
export interface NewImage extends Omit<ImageContent, 'version' | 'domain' | 'disks' | 'report'> {
  readonly domain: DomainId
  /** What was cleaned out of it, as text. */
  readonly report?: string
  readonly disks: readonly (Omit<ImageDisk, 'pages'> & { readonly ids: Uint8Array })[]
}

export interface WrittenObject {
  readonly digest: Digest
  readonly content: ImageContent
}

/** Makes maps, signature and image object durable, in this order, all still the session's own. */
export async function writeImage(
  region: RegionStore,
  sessionId: string,
  image: NewImage,
  signal?: AbortSignal,
): Promise<WrittenObject> {
  const bound = new Set<number>()
  const disks: ImageDisk[] = []
  for (const { index, bus, ...disk } of image.disks) {
    disks.push({ index, bus, ...(await writeMap(region, sessionId, disk, bound, signal)) })
  }
  const { domain, config, os, parent, consistency } = image
  const opened = image.report === undefined ? undefined : await region.ensureDomain(domain, signal)
  const report = opened?.sealReport(image.report ?? '') ?? null
  const version = report === null ? 2 : 3
  const content: ImageContent = { version, domain, disks, config, os, parent, consistency, report }
  return await putContent(region, sessionId, content, bound, signal)
}

/** The object and its signature, when everything else that it needs is in `bound`. */
export async function putContent(
  region: RegionStore,
  sessionId: string,
  content: ImageContent,
  bound: Set<number>,
  signal?: AbortSignal,
): Promise<WrittenObject> {
  const { digest, bytes } = encodeImage(content)
  const signature = encodeSignature((await region.ensureDomain(content.domain, signal)).sign(bytes))
  await region.putObject(sessionId, signatureName(digest), signature, signal)
  bindObject(region.holdsOf(sessionId), signatureName(digest), bound)
  await region.putImage(sessionId, digest, bytes, bound, signal)
  return { digest, content }
}

/**
 * The end of a capture, after every writer has finished: packs are durable, then the maps, then the image objects and
 * who needs them, then one transaction shows all of it to everybody and ends the session. An image that nobody needs
 * goes with the next collection.
 */
export async function commitImages(
  region: RegionStore,
  sessionId: string,
  images: readonly (NewImage & { readonly ref?: RefInput | undefined })[],
  signal?: AbortSignal,
): Promise<readonly WrittenObject[]> {
  const written: WrittenObject[] = []
  const refs: RefRow[] = []
  for (const { ref, ...image } of images) {
    const one = await writeImage(region, sessionId, image, signal)
    written.push(one)
    if (ref !== undefined)
      refs.push(await region.putRef(sessionId, { ...ref, digests: [one.digest] }, signal))
  }
  signal?.throwIfAborted()
  region.commitSession(sessionId, refs)
  return written
}

/** As `commitImages`, of one image. */
export async function commitImage(
  region: RegionStore,
  sessionId: string,
  image: NewImage,
  options: { readonly ref?: RefInput; readonly signal?: AbortSignal } = {},
): Promise<WrittenObject> {
  const [written] = await commitImages(region, sessionId, [{ ...image, ref: options.ref }], options.signal)
  assert(written !== undefined)
  return written
}
