import assert from 'node:assert/strict'
import { writeSync } from 'node:fs'
import { access, type FileHandle, link, open, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { Fault, isFault } from '../image/fault.ts'
import type { Digest, PackId } from '../image/ids.ts'
import { cutStripes, type Stripe } from './capture.ts'
import { decodeChunkHere, plainBytesOf } from './chunk.ts'
import { Decompressor } from './decompressor.ts'
import { hashPlain, ID_BYTES, isZeroId } from './hashes.ts'
import type { ImageDisk } from './image.ts'
import { inOrder } from './in-order.ts'
import { PAGE_IDS, readPage } from './map.ts'
import { packName } from './names.ts'
import type { OpenDomain } from './open-domain.ts'
import { mergeRanges, type PackRange, type WantedChunk } from './ranges.ts'
import { readChunk, type StoredPlace } from './read-chunk.ts'
import { MapDisk } from './reader.ts'
import type { RegionStore } from './region.ts'
import type { PackRef } from './source.ts'

/** What the threads of one restore share: each takes the stripe that `next` counts to, until there are none. */
export interface RestoreShare {
  readonly disk: ImageDisk
  readonly stripes: readonly Stripe[]
  readonly next: Int32Array<SharedArrayBuffer>
  /** The file to write to; it has its size, and reads as zeroes. */
  readonly partPath: string
}

export interface RestoreOptions {
  readonly region: RegionStore
  readonly digest: Digest
  readonly diskIndex: number
  readonly path: string
  readonly signal: AbortSignal
  /** Writes all stripes and tells what it wrote; resolves or rejects when nobody touches the file any more. */
  readonly fill: (share: RestoreShare, onBytes: (bytes: number) => void) => Promise<void>
}

/** So much is left to be made durable at the end, while no core has anything else to do. */
const SYNC_BYTES = 128 * 1024 * 1024
/** Ranges on their way to one thread: enough to cover the latency of an object store, each up to 4 MiB of memory. */
const READS_MAX = 8

/**
 * Writes one disk of a committed image to a new sparse file `path`, of the disk's size, with holes where whole chunks
 * are zero. The name appears when all of it is checked and durable, and not at all otherwise. Until then the bytes
 * are in `path` with '.part' behind, which a failure takes away and the next restore replaces, should a crash leave it.
 * Faults: 'absent' (subject 'image'); 'conflict' if there is such a file; 'corrupt' naming the byte of the disk; 'full'.
 */
export async function restoreImage(options: RestoreOptions): Promise<void> {
  const { region, digest, diskIndex, path, signal, fill } = options
  const disk = (await region.getImage(digest, signal)).disks[diskIndex]
  assert(disk !== undefined, 'the image has such a disk')
  const partPath = `${path}.part`
  const reader = new MapDisk(region, disk)
  const extents = (await reader.extents(0, disk.sizeBytes, signal)).filter(({ holds }) => holds === 'data')
  const stripes = cutStripes(extents, disk.sizeBytes, disk.chunkBytes)
  try {
    if (await isThere(path)) throw taken(path)
    const file = await open(partPath, 'w', 0o600)
    try {
      try {
        await file.truncate(disk.sizeBytes)
        const sync = new SyncBeside(file)
        const share = { disk, stripes, next: new Int32Array(new SharedArrayBuffer(4)), partPath }
        try {
          await fill(share, (bytes) => sync.wrote(bytes))
        } finally {
          await sync.rest()
        }
        signal.throwIfAborted()
        await file.datasync()
        sync.throwIfFailed()
      } finally {
        await file.close()
      }
      signal.throwIfAborted()
      // A link, unlike a rename, never replaces a file that somebody else made meanwhile.
      await link(partPath, path)
    } finally {
      await unlink(partPath)
    }
    await syncFolder(dirname(path))
  } catch (error) {
    throw codeOf(error) === 'EEXIST' ? taken(path) : translate(error)
  }
}

/** Makes a file durable while others still write to it. */
class SyncBeside {
  readonly #file: FileHandle
  #newBytes = 0
  #running: Promise<void> | undefined
  #failure: unknown

  constructor(file: FileHandle) {
    this.#file = file
  }

  wrote(bytes: number): void {
    this.#newBytes += bytes
    if (this.#newBytes < SYNC_BYTES || this.#running !== undefined) return
    this.#newBytes = 0
    this.#running = this.#file
      .datasync()
      .catch((error: unknown) => {
        // The kernel tells of lost bytes once: the next sync would not fail for them.
        this.#failure ??= error
      })
      .finally(() => {
        this.#running = undefined
      })
  }

  /** Never rejects. */
  async rest(): Promise<void> {
    await this.#running
  }

  throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure
  }
}

export interface FillOptions {
  readonly region: RegionStore
  readonly share: RestoreShare
  readonly signal: AbortSignal
  /** Told the plain bytes that were written, as they are. */
  readonly onBytes: (bytes: number) => void
}

/** One thread's part of a restore. Faults as `restoreImage`; after one, nothing of it touches the file any more. */
export async function fillStripes({ region, share, signal, onBytes }: FillOptions): Promise<void> {
  let file: FileHandle | undefined
  const decompressor = new Decompressor(share.disk.chunkBytes)
  try {
    file = await open(share.partPath, 'r+')
    const readsMax = Math.min(READS_MAX, region.objects.traits.callsMax)
    const read = ({ range }: Batch) => readRange(region, range, signal)
    for await (const [{ range, chunks }, bytes] of inOrder(batches(region, share, signal), readsMax, read)) {
      const domain = range && (await region.getDomain(range.pack.domain))
      for (const chunk of chunks) {
        const at = (chunk.place?.offset ?? 0) - (range?.offset ?? 0)
        const stored = bytes?.subarray(at, at + (chunk.place?.storedBytes ?? 0))
        const whole = stored && domain && decode(chunk, stored, domain, decompressor)
        const plain = whole ?? (await readElsewhere(region, share.disk, chunk))
        for (const index of chunk.indexes) {
          assertFits(share.disk, index, plain)
          writeAll(file.fd, plain, index * share.disk.chunkBytes)
          onBytes(plain.length)
        }
      }
      // Everything above may happen without a turn of the loop, which is where we hear that we are to stop.
      await new Promise(setImmediate)
      signal.throwIfAborted()
    }
  } catch (error) {
    throw translate(error)
  } finally {
    await file?.close()
  }
}

/** A chunk that is not zero, and where it is in the disk: in several places, if they are near each other. */
interface MappedChunk {
  readonly id: Uint8Array
  readonly indexes: number[]
  /** Where it should be stored, as far as the index knows. */
  readonly place: StoredPlace | undefined
}

/** Chunks that one read of one pack brings; without a range, those of which the index knows no place. */
interface Batch {
  readonly range: PackRange | undefined
  readonly chunks: readonly MappedChunk[]
}

async function* batches(
  region: RegionStore,
  { disk, stripes, next }: RestoreShare,
  signal: AbortSignal,
): AsyncIterable<Batch> {
  let page: { index: number; bytes: Buffer } | undefined
  const idAt = async (index: number) => {
    const pageIndex = Math.floor(index / PAGE_IDS)
    if (page?.index !== pageIndex) {
      const pageId = disk.pages[pageIndex]
      assert(pageId !== undefined)
      page = { index: pageIndex, bytes: await readPage(region.objects, pageId, signal) }
    }
    const at = (index % PAGE_IDS) * ID_BYTES
    return isZeroId(page.bytes, at) ? undefined : page.bytes.subarray(at, at + ID_BYTES)
  }
  for (;;) {
    const stripe = stripes[Atomics.add(next, 0, 1)]
    if (stripe === undefined) return
    const found = new Map<string, MappedChunk>()
    for (const run of stripe.runs) {
      for (let index = run.firstIndex; index < run.firstIndex + run.count; index++) {
        const id = await idAt(index)
        if (id === undefined) continue
        const key = Buffer.from(id).toString('latin1')
        const known = found.get(key)
        if (known !== undefined) known.indexes.push(index)
        else found.set(key, { id, indexes: [index], place: region.places.find(id)[0] })
      }
    }
    yield* merge([...found.values()])
  }
}

function* merge(chunks: readonly MappedChunk[]): Iterable<Batch> {
  const packs = new Map<PackId, PackRef>()
  const wanted: WantedChunk[] = []
  for (const [position, { place }] of chunks.entries()) {
    if (place === undefined) continue
    const pack = packs.get(place.pack) ?? { id: place.pack, domain: place.domain }
    packs.set(place.pack, pack)
    wanted.push({ pack, offset: place.offset, storedBytes: place.storedBytes, position })
  }
  for (const range of mergeRanges(wanted)) {
    yield { range, chunks: range.chunks.map(({ position }) => chunks[position] as MappedChunk) }
  }
  const lost = chunks.filter(({ place }) => place === undefined)
  if (lost.length > 0) yield { range: undefined, chunks: lost }
}

/** Undefined for a range that is missing, cut short or unreadable: each of its chunks may be whole somewhere else. */
async function readRange(
  region: RegionStore,
  range: PackRange | undefined,
  signal: AbortSignal,
): Promise<Buffer | undefined> {
  signal.throwIfAborted()
  if (range === undefined) return undefined
  try {
    return await region.objects.get(packName(range.pack.id), range.offset, range.lengthBytes, signal)
  } catch (error) {
    if (isFault(error, 'absent') || isFault(error, 'corrupt')) return undefined
    throw error
  }
}

/** The chunk if it is whole: checksum, seal, length and keyed id. */
function decode(
  { id, place }: MappedChunk,
  stored: Buffer,
  { sealer, hasher }: OpenDomain,
  decompressor: Decompressor,
): Buffer | undefined {
  if (place === undefined) return undefined
  const { plainBytes, crc32 } = place
  const plain = decodeChunkHere(stored, { id, plainBytes, crc32 }, sealer, decompressor)
  return plain !== undefined && hasher.idOf(hashPlain(plain)).equals(id) ? plain : undefined
}

/** The chunk from wherever it is whole. Throws Fault 'corrupt' naming the byte of the disk. */
async function readElsewhere(region: RegionStore, disk: ImageDisk, chunk: MappedChunk): Promise<Buffer> {
  try {
    return await readChunk(region, chunk.id)
  } catch (error) {
    throw isFault(error, 'corrupt') ? atByte(disk, chunk.indexes[0] as number, error) : error
  }
}

/** The id fixes the bytes, so another length than the disk wants means that the map itself is wrong. */
function assertFits(disk: ImageDisk, index: number, plain: Buffer): void {
  if (plain.length === plainBytesOf(disk.sizeBytes, disk.chunkBytes, index)) return
  throw atByte(
    disk,
    index,
    new Fault('corrupt', 'The chunk does not fit its place in the map.', { subject: 'store' }),
  )
}

function atByte(disk: ImageDisk, index: number, fault: Fault): Fault {
  const at = `Disk ${disk.index} cannot be restored at byte ${index * disk.chunkBytes}`
  return new Fault('corrupt', `${at}: ${fault.message}`, { subject: 'store', cause: fault })
}

/** Without the pool: its threads decode, and this one has nothing better to do. */
function writeAll(file: number, bytes: Uint8Array, offset: number): void {
  for (let done = 0; done < bytes.length; ) {
    done += writeSync(file, bytes, done, bytes.length - done, offset + done)
  }
}

async function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}

function taken(path: string): Fault {
  return new Fault('conflict', 'There is a file where the disk is to be restored to. Choose another name.', {
    subject: 'disk',
    cause: new Error(path),
  })
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined
}

/** What the operating system said of the file, as a Fault; aborts, faults and bugs pass unchanged. */
function translate(cause: unknown): unknown {
  const code = codeOf(cause)
  if (isFault(cause) || code === undefined || code === 'ABORT_ERR' || code.startsWith('ERR_')) return cause
  if (code === 'ENOSPC' || code === 'EDQUOT' || code === 'EFBIG') {
    return new Fault('full', 'The restored disk has no room there. Make room, then try again.', {
      subject: 'disk',
      cause,
    })
  }
  return new Fault('unavailable', `The restored disk cannot be written (${code}).`, {
    subject: 'disk',
    cause,
  })
}
