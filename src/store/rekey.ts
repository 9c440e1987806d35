import assert from 'node:assert/strict'
import { Fault } from '../image/fault.ts'
import type { Digest, DomainId, PageId } from '../image/ids.ts'
import { commitImage, type NewImage } from './capture.ts'
import { CHUNK_BYTES_MAX, decodeChunkHere, plainBytesOf } from './chunk.ts'
import { ChunkWriter } from './chunk-writer.ts'
import { newClaims } from './claims.ts'
import { Decompressor } from './decompressor.ts'
import { hashPlain, ID_BYTES, isZeroId } from './hashes.ts'
import type { ImageContent, ImageDisk } from './image.ts'
import { inOrder } from './in-order.ts'
import { newDiskIds, PAGE_IDS, readPage, ZERO_PAGE } from './map.ts'
import { locateAll } from './missing.ts'
import { packName } from './names.ts'
import { OpenDomain } from './open-domain.ts'
import { getSignedImage } from './pull.ts'
import { mergeRanges, type PackRange, PULL_LIMITS } from './ranges.ts'
import { damagedChunk, missingOrCut } from './read-chunk.ts'
import type { RefInput } from './refs.ts'
import type { RegionStore } from './region.ts'
import type { ChunkTable, ReadOnlyRegion } from './source.ts'

export interface RekeyOptions {
  readonly source: ReadOnlyRegion
  readonly target: RegionStore
  readonly digest: Digest
  readonly sessionId: string
  /** Whose keys the image is written with. */
  readonly domain: DomainId
  /** Who needs the image from the commit on. */
  readonly ref?: RefInput
  readonly signal?: AbortSignal
  /** Plain bytes: `doneBytes` are durable. `movedBytes` were read, as they are stored at the source. */
  readonly onProgress?: (progress: RekeyProgress) => void
  readonly rangeBytesMax?: number
  /**
   * The text of the cleaning report, where it was sealed with other keys than those of the image's domain (an image from
   * another installation): asked for only then.
   */
  readonly openReport?: (image: ImageContent) => Promise<string | undefined>
}

export interface RekeyProgress {
  readonly doneBytes: number
  readonly totalBytes: number
  readonly movedBytes: number
}

export interface RekeyResult {
  readonly digest: Digest
  readonly diskDataBytes: readonly number[]
  /** Bytes read from the source for each disk, as they are stored there. */
  readonly diskMovedBytes: readonly number[]
  /** Bytes of packs that the session has written. */
  readonly storedBytes: number
}

/** A chunk on its way, with the places of its disk that it belongs to: equal ones in one page are read once. */
interface PlainChunk {
  readonly stored: Buffer
  readonly position: number
}

/** 64 MiB of them: the maps of half a TiB. */
const KEPT_PAGES_MAX = 1024
const READS_MAX = 8

/**
 * Reads every chunk of an image and writes it with the keys of another domain, its disks, report and lineage as they are;
 * ids of chunks and the digest are others, so that neither tells of the other. What the target's domain or the public one
 * holds is not written again; nor, in a second run of the session, what the first has made durable. It has to be read
 * again all the same: a chunk's new id is known when its bytes are. To be undone with `abortSession`.
 * Faults as `pullImage`; 'corrupt' (subject 'image') for a report that cannot be read.
 */
export async function rekeyImage(options: RekeyOptions): Promise<RekeyResult> {
  const { source, target, digest, sessionId, domain, ref, signal } = options
  const { image } = await getSignedImage(source, digest, signal)
  await target.openSession(sessionId, domain, signal)
  const report = image.report === null ? undefined : await readReport(options, image, image.report)
  const rekey = new Rekey(options)
  const counts = await rekey.countDisks(image.disks)
  const written: (NewImage['disks'][number] & { readonly ids: Uint8Array })[] = []
  const chunkBytes = Math.max(...image.disks.map((disk) => disk.chunkBytes))
  const chunkCount = counts.reduce((sum, count) => sum + count.chunkCount, 0)
  const writer = await ChunkWriter.open({
    ...{ region: target, sessionId, domain, chunkBytes, claims: newClaims(chunkCount) },
    ...(signal === undefined ? {} : { signal }),
  })
  const diskMovedBytes: number[] = []
  try {
    for (const disk of image.disks) {
      const { index, bus, sizeBytes, chunkBytes } = disk
      const before = rekey.movedBytes
      written.push({ index, bus, sizeBytes, chunkBytes, ids: await rekey.writeDisk(disk, writer) })
      diskMovedBytes.push(rekey.movedBytes - before)
    }
    await writer.finish()
    rekey.report(writer)
  } catch (error) {
    await writer.abandon()
    throw error
  }
  const storedBytes = target.listSessions().find(({ id }) => id === sessionId)?.storedBytes ?? 0
  const { config, os, parent, consistency } = image
  const told = report === undefined ? {} : { report }
  const made = { domain, disks: written, config, os, parent, consistency, ...told }
  const more = { ...(ref && { ref }), ...(signal && { signal }) }
  const result = await commitImage(target, sessionId, made, more)
  const diskDataBytes = counts.map(({ dataBytes }) => dataBytes)
  return { digest: result.digest, diskDataBytes, diskMovedBytes, storedBytes }
}

async function readReport(
  { source, openReport, signal }: RekeyOptions,
  image: ImageContent,
  sealed: string,
): Promise<string> {
  const own = new OpenDomain(image.domain, await source.getSecrets(image.domain, signal))
  const text = own.openReport(sealed) ?? (await openReport?.(image))
  if (text !== undefined) return text
  throw new Fault('corrupt', 'The cleaning report of the image is damaged.', { subject: 'image' })
}

class Rekey {
  readonly #options: RekeyOptions
  readonly #domains = new Map<DomainId, OpenDomain>()
  readonly #decompressor = new Decompressor(CHUNK_BYTES_MAX)
  /** They are read to be counted and again to be copied: so many cross the line once. */
  readonly #kept = new Map<PageId, Buffer>()
  movedBytes = 0
  #totalBytes = 0

  constructor(options: RekeyOptions) {
    this.#options = options
  }

  /** What each disk holds, by its map; reads all pages. */
  async countDisks(disks: readonly ImageDisk[]): Promise<{ dataBytes: number; chunkCount: number }[]> {
    const counts: { dataBytes: number; chunkCount: number }[] = []
    for (const disk of disks) {
      const count = { dataBytes: 0, chunkCount: 0 }
      for await (const [, page, first] of this.#pages(disk)) {
        for (let i = 0; i < PAGE_IDS; i++) {
          if (isZeroId(page, i * ID_BYTES)) continue
          count.chunkCount++
          count.dataBytes += this.#plainBytesAt(disk, first + i)
        }
      }
      counts.push(count)
      this.#totalBytes += count.dataBytes
    }
    return counts
  }

  /** The new ids of a disk, whose chunks were given to the writer. */
  async writeDisk(disk: ImageDisk, writer: ChunkWriter): Promise<Uint8Array> {
    const ids = newDiskIds(disk.sizeBytes, disk.chunkBytes)
    for await (const [, page, first] of this.#pages(disk)) {
      const places = new Map<string, number[]>()
      const wantedIds: Buffer[] = []
      for (let i = 0; i < PAGE_IDS; i++) {
        if (isZeroId(page, i * ID_BYTES)) continue
        const id = page.subarray(i * ID_BYTES, (i + 1) * ID_BYTES)
        const key = id.toString('latin1')
        const known = places.get(key)
        if (known !== undefined) known.push(first + i)
        else {
          places.set(key, [first + i])
          wantedIds.push(id)
        }
      }
      await this.#writePage(disk, writer, ids, { wantedIds: Buffer.concat(wantedIds), places })
    }
    return ids
  }

  async #writePage(
    disk: ImageDisk,
    writer: ChunkWriter,
    ids: Uint8Array,
    { wantedIds, places }: { readonly wantedIds: Buffer; readonly places: ReadonlyMap<string, number[]> },
  ): Promise<void> {
    const { source, signal, rangeBytesMax = PULL_LIMITS.rangeBytesMax } = this.#options
    const table = await locateAll(source, wantedIds, signal)
    for (const { domain } of table.packs) await this.#learnDomain(domain)
    const wanted = Array.from(table.packIndex, (packIndex, position) => {
      const pack = table.packs[packIndex]
      assert(pack !== undefined)
      const [offset, storedBytes] = [table.offset[position] as number, table.storedBytes[position] as number]
      return { pack, offset, storedBytes, position }
    })
    const ranges = mergeRanges(wanted, { ...PULL_LIMITS, rangeBytesMax })
    const readsMax = Math.min(READS_MAX, source.objects.traits.callsMax)
    for await (const [range, bytes] of inOrder(ranges, readsMax, (one) => this.#read(one))) {
      for (const { position, offset, storedBytes } of range.chunks) {
        const id = wantedIds.subarray(position * ID_BYTES, (position + 1) * ID_BYTES)
        const at = offset - range.offset
        const stored = bytes?.subarray(at, at + storedBytes)
        const first = stored && this.#open({ stored, position }, table, id)
        const plain = first ?? (await this.#readAgain(range, id))
        for (const index of places.get(id.toString('latin1')) ?? []) {
          if (plain.length !== this.#plainBytesAt(disk, index)) {
            const text = `The chunk at byte ${index * disk.chunkBytes} of disk ${disk.index} does not fit its place.`
            throw new Fault('corrupt', text, { subject: 'store' })
          }
          await writer.feed(ids, index, plain)
        }
      }
      this.report(writer)
      // Decoding and encoding wait for nothing: reads and writes that are done get their turn.
      await new Promise(setImmediate)
      signal?.throwIfAborted()
    }
  }

  report(writer: ChunkWriter): void {
    const doneBytes = Math.min(writer.safeBytes, this.#totalBytes)
    this.#options.onProgress?.({ doneBytes, totalBytes: this.#totalBytes, movedBytes: this.movedBytes })
  }

  /** Undefined for bytes that the pack does not have. */
  async #read({ pack, offset, lengthBytes }: Pick<PackRange, 'pack' | 'offset' | 'lengthBytes'>) {
    const { source, signal } = this.#options
    try {
      const bytes = await source.objects.get(packName(pack.id), offset, lengthBytes, signal)
      this.movedBytes += bytes.length
      return bytes
    } catch (error) {
      return missingOrCut(error)
    }
  }

  /** From where the source has it now: in case only the way was bad, or the chunk has moved. */
  async #readAgain(range: PackRange, id: Buffer): Promise<Buffer> {
    const { source, signal } = this.#options
    await source.forget?.(packName(range.pack.id), range.offset, range.lengthBytes)
    const table = await locateAll(source, id, signal)
    const pack = table.packs[table.packIndex[0] ?? -1]
    assert(pack !== undefined)
    await this.#learnDomain(pack.domain)
    const [offset = 0, storedBytes = 0] = [table.offset[0], table.storedBytes[0]]
    const stored = await this.#read({ pack, offset, lengthBytes: storedBytes })
    const plain = stored && this.#open({ stored, position: 0 }, table, id)
    if (plain !== undefined) return plain
    const [plainBytes = 0, crc32 = 0] = [table.plainBytes[0], table.crc32[0]]
    throw damagedChunk({ pack: pack.id, domain: pack.domain, offset, storedBytes, plainBytes, crc32 }, id)
  }

  /** The plain bytes if everything about them is right, good until the next call. */
  #open({ stored, position }: PlainChunk, table: ChunkTable, id: Buffer): Buffer | undefined {
    const domain = this.#domains.get(table.packs[table.packIndex[position] as number]?.domain as DomainId)
    assert(domain !== undefined)
    const [plainBytes, crc32] = [table.plainBytes[position] as number, table.crc32[position] as number]
    const plain = decodeChunkHere(stored, { id, plainBytes, crc32 }, domain.sealer, this.#decompressor)
    return plain !== undefined && domain.hasher.idOf(hashPlain(plain)).equals(id) ? plain : undefined
  }

  /** Only here, and not in the target: there the image has nothing of these domains. */
  async #learnDomain(domain: DomainId): Promise<void> {
    if (this.#domains.has(domain)) return
    const { source, signal } = this.#options
    this.#domains.set(domain, new OpenDomain(domain, await source.getSecrets(domain, signal)))
  }

  /** Pages that are not zero, each with the number of its first chunk. */
  async *#pages(disk: ImageDisk): AsyncGenerator<[PageId, Buffer, number]> {
    const { source, signal } = this.#options
    const numbered = disk.pages
      .map((id, n) => ({ id, first: n * PAGE_IDS }))
      .filter(({ id }) => id !== ZERO_PAGE)
    const readsMax = Math.min(READS_MAX, source.objects.traits.callsMax)
    const read = async ({ id }: { readonly id: PageId }) => {
      const kept = this.#kept.get(id)
      if (kept !== undefined) return kept
      const page = await readPage(source.objects, id, signal)
      this.movedBytes += page.length
      if (this.#kept.size < KEPT_PAGES_MAX) this.#kept.set(id, page)
      return page
    }
    for await (const [{ id, first }, page] of inOrder(numbered, readsMax, read)) {
      yield [id, page, first]
      await new Promise(setImmediate)
      signal?.throwIfAborted()
    }
  }

  /** A map that names a chunk behind the disk's end is refused where it is read. */
  #plainBytesAt({ sizeBytes, chunkBytes }: ImageDisk, index: number): number {
    if (index * chunkBytes >= sizeBytes) {
      throw new Fault('corrupt', 'A map of the image goes on behind the end of its disk.', {
        subject: 'store',
      })
    }
    return plainBytesOf(sizeBytes, chunkBytes, index)
  }
}
