import { isFault } from '../image/fault.ts'
import { chunkCountOf, plainBytesOf } from './chunk.ts'
import { ID_BYTES, isZeroId } from './hashes.ts'
import type { Holds } from './holds.ts'
import { inOrder } from './in-order.ts'
import { type DiskMap, PAGE_IDS, readPage } from './map.ts'
import type { RegionStore } from './region.ts'

/** A disk about to be read: its ids are filled from what is known, and by its writers. */
export interface KnownDisk {
  readonly sizeBytes: number
  readonly chunkBytes: number
  readonly ids: Uint8Array
}

/**
 * One byte for each chunk of a disk: 1 where one of the runs touches it, 0 elsewhere.
 */
export function flagChunks(
  runs: Iterable<{ readonly offset: number; readonly lengthBytes: number }>,
  { sizeBytes, chunkBytes }: Pick<KnownDisk, 'sizeBytes' | 'chunkBytes'>,
): Uint8Array {
  const flags = new Uint8Array(chunkCountOf(sizeBytes, chunkBytes))
  addFlags(flags, runs, { chunkBytes })
  return flags
}

/** Flags the chunks that these runs touch as well. */
export function addFlags(
  flags: Uint8Array,
  runs: Iterable<{ readonly offset: number; readonly lengthBytes: number }>,
  { chunkBytes }: Pick<KnownDisk, 'chunkBytes'>,
): void {
  for (const { offset, lengthBytes } of runs) {
    if (lengthBytes === 0) continue
    flags.fill(1, Math.floor(offset / chunkBytes), Math.ceil((offset + lengthBytes) / chunkBytes))
  }
}

/** The other way: runs of flagged chunks, in disk order. */
export function* flaggedRuns(
  flags: Uint8Array,
  { sizeBytes, chunkBytes }: Pick<KnownDisk, 'sizeBytes' | 'chunkBytes'>,
): Iterable<{ readonly offset: number; readonly lengthBytes: number }> {
  for (let first = flags.indexOf(1); first !== -1; ) {
    const end = flags.indexOf(0, first)
    const offset = first * chunkBytes
    const endBytes = end === -1 ? sizeBytes : Math.min(end * chunkBytes, sizeBytes)
    yield { offset, lengthBytes: endBytes - offset }
    first = end === -1 ? -1 : flags.indexOf(1, end)
  }
}

/**
 * Takes the ids of the chunks that are not flagged from `map`, the content that the disk had before, and answers how many
 * of their bytes are not zero. With `holds` the session relies on each of them from then on. A chunk that cannot be
 * taken over is flagged, to be read again: beyond the end of the map or cut by it, its page lost or damaged, or itself
 * known to be bad or gone.
 */
export async function loadUnchanged(
  region: RegionStore,
  holds: Holds | undefined,
  map: DiskMap,
  disk: KnownDisk,
  isChanged: Uint8Array,
  signal?: AbortSignal,
): Promise<number> {
  const { sizeBytes, chunkBytes, ids } = disk
  if (map.chunkBytes !== chunkBytes) {
    isChanged.fill(1)
    return 0
  }
  // Of disks of unequal size, the last chunk of the smaller one is cut differently.
  const isEqual = map.sizeBytes === sizeBytes
  if (!isEqual) isChanged.fill(1, Math.floor(Math.min(map.sizeBytes, sizeBytes) / chunkBytes))
  let knownBytes = 0
  const wanted = map.pages
    .map((page, number) => ({ page, firstIndex: number * PAGE_IDS }))
    .filter(({ firstIndex }) => isChanged.subarray(firstIndex, firstIndex + PAGE_IDS).includes(0))
  const read = ({ page }: (typeof wanted)[number]) =>
    readPage(region.objects, page, signal).catch((error: unknown) => {
      if (isFault(error, 'corrupt') || isFault(error, 'absent')) return undefined
      throw error
    })
  for await (const [{ firstIndex }, page] of inOrder(wanted, region.objects.traits.callsMax, read)) {
    const flags = isChanged.subarray(firstIndex, firstIndex + PAGE_IDS)
    if (page === undefined) flags.fill(1)
    for (let i = flags.indexOf(0); i !== -1; i = flags.indexOf(0, i + 1)) {
      if (page === undefined || isZeroId(page, i * ID_BYTES)) continue
      const id = page.subarray(i * ID_BYTES, (i + 1) * ID_BYTES)
      if (holds !== undefined && holds.findChunk(id) === undefined) {
        holds.assertOpen()
        flags[i] = 1
        continue
      }
      ids.set(id, (firstIndex + i) * ID_BYTES)
      knownBytes += plainBytesOf(sizeBytes, chunkBytes, firstIndex + i)
    }
    // A page takes milliseconds to look up; others on this thread get their turn between two.
    await new Promise(setImmediate)
    signal?.throwIfAborted()
  }
  return knownBytes
}

/** Bytes of the chunks that are not zero. */
export function dataBytesOf({ sizeBytes, chunkBytes, ids }: KnownDisk): number {
  const count = chunkCountOf(sizeBytes, chunkBytes)
  let bytes = 0
  for (let i = 0; i < count; i++) {
    if (!isZeroId(ids, i * ID_BYTES)) bytes += plainBytesOf(sizeBytes, chunkBytes, i)
  }
  return bytes
}
