import { isFault } from '../image/fault.ts'
import type { DomainId } from '../image/ids.ts'
import type { ObjectStore } from '../objects/contract.ts'
import type { ObjectName } from '../objects/names.ts'
import { ChunkEncoder } from './chunk.ts'
import { packName } from './names.ts'
import type { OpenDomain } from './open-domain.ts'
import type { ChunkPlace } from './places.ts'
import { openChunk } from './read-chunk.ts'
import type { RepairOptions } from './repair-run.ts'
import { CHUNK_HEADER_BYTES, SEAL_BYTES } from './seal.ts'

/** What a chunk is looked for in: a region's store, or a part of it. */
export interface ChunkSource {
  readonly objects: Pick<ObjectStore, 'get'>
  readonly places: { find(id: Uint8Array): ChunkPlace[] }
}

/** A chunk that was found somewhere: as it is stored there, and decoded and checked. */
export interface FoundChunk {
  readonly place: ChunkPlace
  readonly stored: Buffer
  readonly plain: Buffer
}

/**
 * A chunk's stored bytes from a region, of which only those are believed that decrypt, decode and have the right id
 * under the keys of `domainOf`, which are the asking region's own. Undefined if the region has none, or does not answer.
 */
export async function findChunkIn(
  region: ChunkSource,
  id: Uint8Array,
  domainOf: (domain: DomainId) => Promise<OpenDomain | undefined>,
  signal?: AbortSignal,
): Promise<FoundChunk | undefined> {
  for (const place of (await quietly(async () => region.places.find(id), signal)) ?? []) {
    const domain = await domainOf(place.domain)
    const { pack, offset, storedBytes } = place
    const stored = await quietly(
      () => region.objects.get(packName(pack), offset, storedBytes, signal),
      signal,
    )
    const plain =
      domain === undefined || stored === undefined ? undefined : await openChunk(stored, place, id, domain)
    if (stored !== undefined && plain !== undefined) return { place, stored, plain }
  }
  return undefined
}

async function quietly<Result>(
  ask: () => Promise<Result>,
  signal: AbortSignal | undefined,
): Promise<Result | undefined> {
  try {
    return await ask()
  } catch (error) {
    signal?.throwIfAborted()
    if (!isFault(error)) throw error
    return undefined
  }
}

/** The chunk from a pack of the region other than `not`, or from the first of the peers that has it whole. */
export async function findChunk(
  { region, peers, signal }: Pick<RepairOptions, 'region' | 'peers' | 'signal'>,
  id: Uint8Array,
  not?: ObjectName,
): Promise<(FoundChunk & { readonly isOwn: boolean }) | undefined> {
  const find = (one: Uint8Array) => region.places.find(one).filter((place) => packName(place.pack) !== not)
  const others: ChunkSource = { objects: region.objects, places: { find } }
  const domainOf = async (domain: DomainId) => {
    try {
      return await region.findDomain(domain, signal)
    } catch (error) {
      // Its keys are damaged, and that is told by itself.
      if (isFault(error, 'corrupt')) return undefined
      throw error
    }
  }
  for (const source of [others, ...peers]) {
    const found = await findChunkIn(source, id, domainOf, signal)
    if (found !== undefined) return { ...found, isOwn: source === others }
  }
  return undefined
}

/**
 * Another stored form of the chunk: sealed anew. A pack that holds one has another name than every pack before it, also
 * where it replaces a damaged one chunk by chunk; under the same name the damaged bytes would stay.
 */
export function sealAnew(plain: Buffer, id: Uint8Array, domain: OpenDomain): Buffer {
  const target = Buffer.allocUnsafe(plain.length + CHUNK_HEADER_BYTES + SEAL_BYTES)
  return target.subarray(0, new ChunkEncoder(plain.length, domain.sealer).encodeInto(id, plain, target, 0))
}
