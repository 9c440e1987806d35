import type { ChunkId, Digest, DomainId, PackId } from '../image/ids.ts'
import type { ObjectStore } from '../objects/contract.ts'
import type { ObjectName } from '../objects/names.ts'
import { ID_BYTES } from './hashes.ts'
import type { ImageContent } from './image.ts'
import type { DomainSecrets } from './open-domain.ts'
import type { ChunkPlace } from './places.ts'

export interface PackRef {
  readonly id: PackId
  readonly domain: DomainId
}

/** Places of many chunks, by position; plain arrays, so that a table can cross a thread or a network. */
export interface ChunkTable {
  readonly packs: readonly PackRef[]
  /** Position in `packs`, or -1 for a chunk that the region does not have. */
  readonly packIndex: Int32Array
  readonly offset: Uint32Array
  readonly storedBytes: Uint32Array
  readonly plainBytes: Uint32Array
  readonly crc32: Uint32Array
}

/** What a copy needs of the region it reads from: committed objects, and where chunks are. */
export interface ReadOnlyRegion {
  /** A committed image. Throws Fault 'absent' (subject 'image'). */
  getImage(digest: Digest, signal?: AbortSignal): Promise<ImageContent>
  readonly objects: Pick<ObjectStore, 'get' | 'getInto' | 'size' | 'traits'>
  /**
   * A domain's keys, unwrapped, for a region that may have them. Throws Fault 'corrupt' where they are missing, 'denied'
   * where the region's own key is not at hand.
   */
  getSecrets(domain: DomainId, signal?: AbortSignal): Promise<DomainSecrets>
  /** Places of `ids.length / 32` chunks, in the order given. */
  locate(ids: Uint8Array, signal?: AbortSignal): Promise<ChunkTable>
  /** What `objects` answered for this range was wrong: if anything between here and the region kept it, it does no longer. */
  forget?(name: ObjectName, offset: number, lengthBytes: number): Promise<void>
}

/** Looking up so many takes a few milliseconds. */
const LOOKS_PER_TURN = 1024

/**
 * The table that a lookup answers for each id in turn; others on this thread get their turn between a thousand. `looking` is
 * around those of one turn.
 */
export async function tableOf(
  ids: Uint8Array,
  find: (id: Uint8Array) => ChunkPlace | undefined,
  looking: (looks: () => void) => void = (looks) => looks(),
): Promise<ChunkTable> {
  const count = ids.length / ID_BYTES
  const packs: PackRef[] = []
  const positions = new Map<PackId, number>()
  const table = {
    packs,
    packIndex: new Int32Array(count).fill(-1),
    offset: new Uint32Array(count),
    storedBytes: new Uint32Array(count),
    plainBytes: new Uint32Array(count),
    crc32: new Uint32Array(count),
  }
  const look = (i: number) => {
    const place = find(ids.subarray(i * ID_BYTES, (i + 1) * ID_BYTES))
    if (place === undefined) return
    let position = positions.get(place.pack)
    if (position === undefined) {
      position = packs.push({ id: place.pack, domain: place.domain }) - 1
      positions.set(place.pack, position)
    }
    table.packIndex[i] = position
    table.offset[i] = place.offset
    table.storedBytes[i] = place.storedBytes
    table.plainBytes[i] = place.plainBytes
    table.crc32[i] = place.crc32
  }
  for (let from = 0; from < count; from += LOOKS_PER_TURN) {
    if (from > 0) await new Promise(setImmediate)
    looking(() => {
      for (let i = from; i < Math.min(count, from + LOOKS_PER_TURN); i++) look(i)
    })
  }
  return table
}

/** The id at `index` of a run of ids, as text. */
export function chunkIdAt(ids: Uint8Array, index: number): ChunkId {
  return Buffer.from(ids.buffer, ids.byteOffset + index * ID_BYTES, ID_BYTES).toString('hex') as ChunkId
}
