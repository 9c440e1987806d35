import { crc32 } from 'node:zlib'
import { Fault, isFault } from '../image/fault.ts'
import type { DomainId } from '../image/ids.ts'
import type { ObjectStore } from '../objects/contract.ts'
import { decodeChunk } from './chunk.ts'
import { Damage, type DamageFinding } from './damage.ts'
import { hashPlain } from './hashes.ts'
import { domainsOf } from './key-check.ts'
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
  place: Pick<StoredPlace, 'plainBytes' | 'crc32'>,
  id: Uint8Array,
  domain: OpenDomain,
): Promise<Buffer | undefined> {
  const { plainBytes, crc32 } = place
  const plain = await decodeChunk(stored, { id, plainBytes, crc32 }, domain.sealer)
  return plain !== undefined && isChunk(plain, id, domain) ? plain : undefined
}

/** Of a failed read: undefined for a pack that does not have these bytes. Throws whatever else it is. */
export function missingOrCut(error: unknown): undefined {
  if (isFault(error, 'absent') || isFault(error, 'corrupt')) return undefined
  throw error
}

function isChunk(plain: Uint8Array, id: Uint8Array, domain: OpenDomain): boolean {
  return domain.hasher.idOf(hashPlain(plain)).equals(id)
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
 * The chunk from whichever of its places is whole, or else, by `RegionStoreOptions.rescue`, from elsewhere. Bad places
 * are listed (`Damage`). Throws Fault 'corrupt' naming the chunk, and the last pack that should hold it.
 */
export async function readChunk(region: RegionStore, id: Uint8Array, sessionId = ''): Promise<Buffer> {
  const search = await searchPlaces(region, id, sessionId, openAt(region, id))
  noteBad(region, id, search.bad)
  if (search.found !== undefined) return search.found
  const rescued = region.rescue && (await rescueChunk(region, region.rescue, id, search.bad))
  if (rescued !== undefined) return rescued
  throw faultOf(search, id)
}

/** The chunk from a place of the region, and nothing listed or rescued: for a check, which tells what it finds. */
export async function readOwnChunk(region: RegionStore, id: Uint8Array): Promise<Buffer> {
  const search = await searchPlaces(region, id, '', openAt(region, id))
  if (search.found === undefined) throw faultOf(search, id)
  return search.found
}

/** As `readOwnChunk` as far as it goes without a key: some place has stored bytes of the right checksum. */
export async function checkStored(region: RegionStore, id: Uint8Array): Promise<void> {
  const search = await searchPlaces(region, id, '', async (place) => async () => {
    const stored = await readStored(region.objects, place, id)
    if (crc32(stored) !== place.crc32) throw damagedChunk(place, id)
    return true
  })
  if (search.found === undefined) throw faultOf(search, id)
}

function openAt(region: RegionStore, id: Uint8Array) {
  return async (place: StoredPlace) => {
    const domain = await region.getDomain(place.domain)
    return () => readChunkAt(region.objects, async () => domain, place, id)
  }
}

interface BadPlace {
  readonly place: ChunkPlace
  readonly fault: Fault
}

interface Search<Result> {
  readonly found: Result | undefined
  /** The places that were tried before it, or all. */
  readonly bad: readonly BadPlace[]
  /** Why places could not be tried: keys that are damaged are no fault of theirs. */
  readonly locked: Fault | undefined
}

async function searchPlaces<Result>(
  region: RegionStore,
  id: Uint8Array,
  sessionId: string,
  prepare: (place: StoredPlace) => Promise<() => Promise<Result>>,
): Promise<Search<Result>> {
  const bad: BadPlace[] = []
  let locked: Fault | undefined
  // A repack may have moved the chunk and its pack may be gone since the first look: then there is a new place.
  for (let look = 0; look < 2; look++) {
    for (const place of region.places.find(id, sessionId)) {
      if (bad.some((tried) => tried.place.pack === place.pack)) continue
      let read: (() => Promise<Result>) | undefined
      try {
        read = await prepare(place)
        return { found: await read(), bad, locked }
      } catch (error) {
        if (!isFault(error, 'corrupt')) throw error
        if (read === undefined) locked = error
        else bad.push({ place, fault: error })
      }
    }
    if (!bad.some(({ fault }) => isGone(fault))) break
  }
  return { found: undefined, bad, locked }
}

/** The pack is not there at all. */
function isGone(fault: Fault): boolean {
  return isFault(fault.cause, 'absent')
}

function faultOf({ bad, locked }: Search<unknown>, id: Uint8Array): Fault {
  const text = Buffer.from(id).toString('hex')
  return (
    bad.at(-1)?.fault ??
    locked ??
    new Fault('corrupt', `Chunk ${text} is in no pack of this region.`, { subject: 'store' })
  )
}

function noteBad(region: RegionStore, id: Uint8Array, bad: readonly BadPlace[]): void {
  if (bad.length === 0) return
  const damage = new Damage(region.database)
  for (const { place, fault } of bad) {
    const name = packName(place.pack)
    const findings: DamageFinding[] = [{ chunk: id, message: fault.message }]
    if (isGone(fault)) findings.push({ message: `The object ${name} is missing.` })
    damage.noteSoftly(name, findings, region.clock())
  }
}

/** Believes nothing but the keyed id. An elsewhere that cannot be reached has nothing for us. */
async function rescueChunk(
  region: RegionStore,
  rescue: NonNullable<RegionStore['rescue']>,
  id: Uint8Array,
  bad: readonly BadPlace[],
): Promise<Buffer | undefined> {
  const known = new Set(bad.map(({ place }) => place.domain))
  for (const domain of known.size > 0 ? known : domainsOf(region)) {
    try {
      const plain = await rescue(id, domain)
      if (plain !== undefined && isChunk(plain, id, await region.getDomain(domain))) return plain
    } catch (error) {
      if (!isFault(error)) throw error
    }
  }
  return undefined
}
