import type { Digest, DomainId, PageId } from '../../image/ids.ts'
import { encodeImage, type ImageContent } from '../image.ts'
import { inOrder } from '../in-order.ts'
import { signatureName } from '../names.ts'
import { type DomainSecrets, OpenDomain } from '../open-domain.ts'
import type { RegionStore } from '../region.ts'
import { encodeSignature } from '../signature.ts'
import type { ReadOnlyRegion } from '../source.ts'
import { DiskData } from './disk-data.ts'
import { foreignDomain, isSameKeys, nameHere, ownSecrets } from './foreign.ts'
import { pagesOf } from './write.ts'

/** An image of another installation, in a file or over a network, whose signature was checked with its domain's keys. */
export interface Stranger extends Pick<ReadOnlyRegion, 'objects' | 'locate'> {
  readonly digest: Digest
  readonly image: ImageContent
  /** Of all domains that the image needs, by the names that they have there. Never to be logged. */
  readonly secrets: ReadonlyMap<DomainId, DomainSecrets>
}

/**
 * The image as one of a region of this installation: domains by the names they have here, that of a foreign domain where
 * this installation has other keys (`foreignDomain`), and the image signed with our keys: who has checked the signature of
 * its maker's domain vouches for it with his own, so that whoever reads the target later needs to know of no stranger. The
 * domain of its report is made in the target. `damaged`: what a domain that nobody spoke of is.
 */
export async function asRegion(
  stranger: Stranger,
  target: RegionStore,
  damaged: () => Error,
  signal?: AbortSignal,
): Promise<ReadOnlyRegion> {
  const { digest, image, objects } = stranger
  const names = new Map<DomainId, DomainId>()
  for (const [domain, secrets] of stranger.secrets) {
    names.set(domain, await nameHere(target, domain, secrets, signal))
  }
  const known = <Value>(map: ReadonlyMap<DomainId, Value>, domain: DomainId): Value => {
    const found = map.get(domain)
    if (found === undefined) throw damaged()
    return found
  }
  const own = await ownSecrets(target, image.domain, signal)
  if (image.report !== null && names.get(image.domain) !== image.domain) {
    // The report was sealed with the keys of its maker (`reportDomainOf`).
    const secrets = known(stranger.secrets, image.domain)
    await target.adoptDomain(foreignDomain(secrets), { getSecrets: async () => secrets }, signal)
  }
  const secrets = new Map([...stranger.secrets].map(([domain, keys]) => [known(names, domain), keys]))
  secrets.set(image.domain, own)
  const signature = encodeSignature(new OpenDomain(image.domain, own).sign(encodeImage(image).bytes))
  const signatureAt = signatureName(digest)
  return {
    getImage: async () => image,
    objects: {
      traits: objects.traits,
      size: async (name, signal) => (name === signatureAt ? signature.length : objects.size(name, signal)),
      get: async (name, offset, lengthBytes, signal) =>
        name === signatureAt
          ? Buffer.from(signature.subarray(offset, offset + lengthBytes))
          : objects.get(name, offset, lengthBytes, signal),
    },
    getSecrets: async (domain) => known(secrets, domain),
    async locate(ids, signal) {
      const table = await stranger.locate(ids, signal)
      const packs = table.packs.map(({ id, domain }) => ({ id, domain: known(names, domain) }))
      return { ...table, packs }
    },
  }
}

export interface MapCheck {
  readonly stranger: Stranger
  readonly target: RegionStore
  readonly readPage: (id: PageId) => Promise<Buffer>
  /** Pages looked up at once. */
  readonly readsMax: number
  /** What of it the target is to see: committed chunks alone if absent. */
  readonly sessionId?: string
  /** A chunk that the target has, and that the stranger has shown no key for. */
  readonly refused: () => Error
  /** Ids of a page that the target lacks. */
  readonly onMissing?: (ids: Buffer) => Promise<void>
  readonly signal?: AbortSignal | undefined
}

/**
 * Every chunk of the image that the target has is of a domain of which the stranger has the keys, whatever he says that he
 * has himself: ids alone give nobody the bytes of others. Reads maps, and changes nothing. Returns what the disks hold.
 */
export async function checkMap(check: MapCheck): Promise<DiskData> {
  const { stranger, target, sessionId = '', signal } = check
  const data = new DiskData()
  const isShared = sharedDomains(stranger, target, signal)
  for await (const [id, page] of inOrder(pagesOf(stranger.image), check.readsMax, check.readPage)) {
    signal?.throwIfAborted()
    const missing: Buffer[] = []
    for (const one of data.add(id, page)) {
      const places = target.places.find(one, sessionId)
      if (places.length === 0) missing.push(one)
      let isOurs = places.length === 0
      for (const { domain } of places) isOurs ||= await isShared(domain)
      if (!isOurs) throw check.refused()
    }
    if (missing.length > 0) await check.onMissing?.(Buffer.concat(missing))
    await new Promise(setImmediate)
  }
  return data
}

/** Whether a domain of the target has the keys of some domain of the stranger, under whatever name. */
function sharedDomains({ secrets }: Stranger, target: RegionStore, signal: AbortSignal | undefined) {
  const known = new Map<DomainId, boolean>()
  return async (domain: DomainId): Promise<boolean> => {
    let isShared = known.get(domain)
    if (isShared === undefined) {
      const here = await target.getSecrets(domain, signal)
      isShared = [...secrets.values()].some((one) => isSameKeys(one, here))
      known.set(domain, isShared)
    }
    return isShared
  }
}
