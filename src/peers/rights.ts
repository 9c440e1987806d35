import { Fault } from '../image/fault.ts'
import type { Digest, DomainId, ImageId } from '../image/ids.ts'
import type { ObjectName } from '../objects/names.ts'
import { boundOf } from '../store/bound.ts'
import { encodeImage } from '../store/image.ts'
import { FOREIGN_PREFIX, PUBLIC_DOMAIN, packName, signatureName } from '../store/names.ts'
import type { DomainSecrets } from '../store/open-domain.ts'
import type { RegionStore } from '../store/region.ts'
import { type ChunkTable, tableOf } from '../store/source.ts'
import type { PeerEndpointParts, PeerImage, PeerReader } from './contract.ts'

/** One content of a region, as somebody who may read it sees it, and nothing beside it. */
export interface ReadableContent {
  /** Bytes of the image object. */
  image(signal: AbortSignal): Promise<Buffer>
  /** Fault 'denied' 'peer' for an object that is none of the image's; 'absent' 'store' for one that has gone. */
  sizeOf(name: ObjectName, signal: AbortSignal): Promise<number>
  read(name: ObjectName, offset: number, lengthBytes: number, signal: AbortSignal): Promise<Buffer>
  /** Chunks of other images are nowhere. */
  locate(ids: Uint8Array): Promise<ChunkTable>
  /** Of the image's domain, and of those that its chunks are in. */
  secrets(signal: AbortSignal): Promise<ReadonlyMap<string, DomainSecrets>>
}

/** Those of our regions that it may know of. */
export function regionsOf(parts: PeerEndpointParts, reader: PeerReader): readonly string[] {
  const { regions } = reader
  return parts.regionIds.filter((id) => regions === 'all' || regions.includes(id))
}

/** An available image that it may read. Somebody else's is answered as one that is not there (I10). */
export async function readImageWords(
  parts: PeerEndpointParts,
  reader: PeerReader,
  regionId: string,
  id: ImageId,
): Promise<PeerImage> {
  refuseRegion(parts, reader, regionId)
  const { digest, facts } = await parts.image(regionId, id, reader.projects)
  return { id, digest, facts }
}

/**
 * The content for a reader; Fault 'absent' 'image' where it may not read it or it is not there. What it may read of the
 * packs is whole packs: a pack that holds a chunk of the image may hold other chunks of the same domain, and whoever may read
 * one image of a domain has the keys of all of it. So a peer is to be believed with all projects whose images it may read
 * (I10 holds between projects, not inside one), and gets nothing of packs that the image has no chunk in. An image with keys of
 * a project that it may not read, as one that was granted from there has, is denied: Fault 'denied' 'peer' of what it asks.
 */
export async function openContent(
  parts: PeerEndpointParts,
  reader: PeerReader,
  regionId: string,
  digest: Digest,
): Promise<ReadableContent> {
  refuseRegion(parts, reader, regionId)
  if (!(await parts.mayRead(regionId, digest, reader.projects))) throw noImage()
  const region = await parts.region(regionId)
  if (!region.hasImage(digest)) throw noImage()
  const bound = boundOf(region, digest)
  const own = signatureName(digest)
  const check = (name: ObjectName) => {
    if (name === own) return
    const domain = bound.domainOf(name)
    if (domain === undefined) {
      throw new Fault('denied', 'The object is none of the image.', { subject: 'peer' })
    }
    if (domain !== null) refuseDomain(reader, domain)
  }
  /** Of the image and of what it is made of. */
  const getDomains = async (signal: AbortSignal) => {
    const { domain } = await region.getImage(digest, signal)
    const domains = [...new Set([domain, ...bound.domains()])]
    for (const one of domains) refuseDomain(reader, one)
    return domains
  }
  return {
    async image(signal) {
      await getDomains(signal)
      return encodeImage(await region.getImage(digest, signal)).bytes
    },
    async sizeOf(name, signal) {
      check(name)
      const sizeBytes = await region.objects.size(name, signal)
      if (sizeBytes !== undefined) return sizeBytes
      throw new Fault('absent', `Object ${name} does not exist.`, { subject: 'store' })
    },
    read(name, offset, lengthBytes, signal) {
      check(name)
      return region.objects.get(name, offset, lengthBytes, signal)
    },
    async locate(ids) {
      const table = await locateBound(region, bound.packs(), ids)
      for (const { domain } of table.packs) refuseDomain(reader, domain)
      return table
    },
    async secrets(signal) {
      const domains = await getDomains(signal)
      const secrets = await Promise.all(domains.map((one) => region.getSecrets(one, signal)))
      return new Map(domains.map((one, index) => [one, secrets[index] as DomainSecrets]))
    },
  }
}

function locateBound(region: RegionStore, packs: ReadonlySet<string>, ids: Uint8Array): Promise<ChunkTable> {
  return tableOf(ids, (id) => region.places.find(id).find(({ pack }) => packs.has(packName(pack))))
}

/** Whose keys a peer may have: those of its projects, of base images, and what came from other installations. */
function refuseDomain({ projects }: PeerReader, domain: DomainId): void {
  const isOfNone = domain === PUBLIC_DOMAIN || domain.startsWith(FOREIGN_PREFIX)
  if (projects === 'all' || isOfNone || projects.includes(domain)) return
  throw new Fault('denied', 'The image has keys of a project that this peer may not read.', {
    subject: 'peer',
  })
}

/** Those that are not ours and those that it may not know of are answered alike. */
function refuseRegion(parts: PeerEndpointParts, reader: PeerReader, regionId: string): void {
  if (regionsOf(parts, reader).includes(regionId)) return
  throw new Fault('denied', 'The region is not for this peer.', { subject: 'region' })
}

function noImage(): Fault {
  return new Fault('absent', 'There is no such image that this peer may read.', { subject: 'image' })
}
