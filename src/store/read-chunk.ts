import { Fault, isFault } from '../image/fault.ts'
import type { DomainId } from '../image/ids.ts'
import type { ObjectStore } from '../objects/contract.ts'
import { decodeChunk } from './chunk.ts'
import { hashPlain, type IdHasher } from './hashes.ts'
import { packName } from './names.ts'
import type { ChunkPlace } from './places.ts'
import type { RegionStore } from './region.ts'

/** Where a stored chunk lies, as far as checking it goes. */
export type StoredPlace = Omit<ChunkPlace, 'isCommitted'>

/**
 * The plain bytes of a stored chunk whose checksum, form, length and keyed id are right; undefined otherwise.
 * Decompression runs on the thread pool, the two checks (about 70 µs for 256 KiB) on the calling thread.
 */
export async function openChunk(
  stored: Uint8Array,
  place: StoredPlace,
  id: Uint8Array,
  hasher: IdHasher,
): Promise<Buffer | undefined> {
  const plain = await decodeChunk(stored, place.plainBytes, place.crc32)
  return plain !== undefined && hasher.idOf(hashPlain(plain)).equals(id) ? plain : undefined
}

export function damagedChunk(place: StoredPlace, id: Uint8Array, cause?: unknown): Fault {
  const text = Buffer.from(id).toString('hex')
  return new Fault(
    'corrupt',
    `Chunk ${text} at byte ${place.offset} of pack ${place.pack} is damaged or missing.`,
    {
      subject: 'store',
      cause,
    },
  )
}

/** Reads and checks the chunk at one place. Throws Fault 'corrupt' naming pack and chunk. */
export async function readChunkAt(
  objects: Pick<ObjectStore, 'get'>,
  hasherOf: (domain: DomainId) => Promise<IdHasher | undefined>,
  place: StoredPlace,
  id: Uint8Array,
): Promise<Buffer> {
  const hasher = await hasherOf(place.domain)
  if (hasher === undefined) {
    throw new Fault('corrupt', `The key of domain ${place.domain} is missing from the store.`, {
      subject: 'store',
    })
  }
  let stored: Buffer
  try {
    stored = await objects.get(packName(place.pack), place.offset, place.storedBytes)
  } catch (error) {
    if (isFault(error, 'absent') || isFault(error, 'corrupt')) throw damagedChunk(place, id, error)
    throw error
  }
  const plain = await openChunk(stored, place, id, hasher)
  if (plain === undefined) throw damagedChunk(place, id)
  return plain
}

/**
 * The chunk from whichever of its places is whole. Throws Fault 'corrupt' naming the chunk, and the last pack that
 * should hold it.
 */
export async function readChunk(region: RegionStore, id: Uint8Array, sessionId = ''): Promise<Buffer> {
  let failure: Fault | undefined
  for (const place of region.places.find(id, sessionId)) {
    try {
      return await readChunkAt(region.objects, (domain) => region.findHasher(domain), place, id)
    } catch (error) {
      if (!isFault(error, 'corrupt')) throw error
      failure = error
    }
  }
  const text = Buffer.from(id).toString('hex')
  throw failure ?? new Fault('corrupt', `Chunk ${text} is in no pack of this region.`, { subject: 'store' })
}
