import { crc32 } from 'node:zlib'
import { Fault, isFault } from '../image/fault.ts'
import type { DomainId } from '../image/ids.ts'
import type { ObjectStore } from '../objects/contract.ts'
import { decodeChunk } from './chunk.ts'
import { hashPlain } from './hashes.ts'
import { packName } from './names.ts'
import type { OpenDomain } from './open-domain.ts'
import type { ChunkPlace } from './places.ts'
import type { RegionStore } from './region.ts'

/** Where a stored chunk lies, as far as checking it goes. */
export type StoredPlace = Omit<ChunkPlace, 'isCommitted'>

/**
 * The plain bytes of a stored chunk whose checksum, form, seal, length and keyed id are right; undefined otherwise.
 * Decompression runs on the thread pool, the checks (about 150 µs for 256 KiB) on the calling thread.
 */
export async function openChunk(
  stored: Uint8Array,
  place: StoredPlace,
  id: Uint8Array,
  domain: OpenDomain,
): Promise<Buffer | undefined> {
  const { plainBytes, crc32 } = place
  const plain = await decodeChunk(stored, { id, plainBytes, crc32 }, domain.sealer)
  return plain !== undefined && domain.hasher.idOf(hashPlain(plain)).equals(id) ? plain : undefined
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

/** The stored bytes of the chunk at one place. Throws Fault 'corrupt' naming pack and chunk. */
async function readStored(objects: Pick<ObjectStore, 'get'>, place: StoredPlace, id: Uint8Array) {
  try {
    return await objects.get(packName(place.pack), place.offset, place.storedBytes)
  } catch (error) {
    if (isFault(error, 'absent') || isFault(error, 'corrupt')) throw damagedChunk(place, id, error)
    throw error
  }
}

/**
 * Reads and checks the chunk at one place. Throws Fault 'corrupt' naming pack and chunk, and as
 * `RegionStore.getDomain`.
 */
export async function readChunkAt(
  objects: Pick<ObjectStore, 'get'>,
  domainOf: (domain: DomainId) => Promise<OpenDomain>,
  place: StoredPlace,
  id: Uint8Array,
): Promise<Buffer> {
  const domain = await domainOf(place.domain)
  const plain = await openChunk(await readStored(objects, place, id), place, id, domain)
  if (plain === undefined) throw damagedChunk(place, id)
  return plain
}

/**
 * The chunk from whichever of its places is whole. Throws Fault 'corrupt' naming the chunk, and the last pack that
 * should hold it.
 */
export function readChunk(region: RegionStore, id: Uint8Array, sessionId = ''): Promise<Buffer> {
  const domainOf = (domain: DomainId) => region.getDomain(domain)
  return firstWhole(region, id, sessionId, (place) => readChunkAt(region.objects, domainOf, place, id))
}

/** As `readChunk` as far as it goes without a key: some place has stored bytes of the right checksum. */
export async function checkStored(region: RegionStore, id: Uint8Array): Promise<void> {
  await firstWhole(region, id, '', async (place) => {
    const stored = await readStored(region.objects, place, id)
    if (crc32(stored) !== place.crc32) throw damagedChunk(place, id)
  })
}

async function firstWhole<Result>(
  region: RegionStore,
  id: Uint8Array,
  sessionId: string,
  read: (place: StoredPlace) => Promise<Result>,
): Promise<Result> {
  let failure: Fault | undefined
  for (const place of region.places.find(id, sessionId)) {
    try {
      return await read(place)
    } catch (error) {
      if (!isFault(error, 'corrupt')) throw error
      failure = error
    }
  }
  const text = Buffer.from(id).toString('hex')
  throw failure ?? new Fault('corrupt', `Chunk ${text} is in no pack of this region.`, { subject: 'store' })
}
