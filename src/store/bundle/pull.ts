import type { DomainId } from '../../image/ids.ts'
import { ID_BYTES } from '../hashes.ts'
import { encodeImage } from '../image.ts'
import { inOrder } from '../in-order.ts'
import { readPage } from '../map.ts'
import { pageName, signatureName } from '../names.ts'
import { type DomainSecrets, OpenDomain } from '../open-domain.ts'
import { type PullOptions, type PullResult, pullImage } from '../pull.ts'
import type { RegionStore } from '../region.ts'
import { encodeSignature } from '../signature.ts'
import type { ReadOnlyRegion } from '../source.ts'
import { DiskData } from './disk-data.ts'
import { damagedBundle, lackingHere } from './fault.ts'
import { foreignDomain, isSameKeys, nameHere, ownSecrets } from './foreign.ts'
import type { OpenBundle } from './opened.ts'
import { pagesOf } from './write.ts'

export interface PullBundleOptions extends Omit<PullOptions, 'source' | 'digest'> {
  readonly bundle: OpenBundle
}

/**
 * Takes the image of a bundle into a region and commits it there, with the same digest, everything checked again as
 * `pullImage` does it. Chunks of a domain for which this installation has other keys come under the name of a foreign
 * domain (`foreignDomain`), whatever the domain is called; nothing that the region has is changed by it. To be undone with
 * `abortSession`. Faults as `pullImage`; 'invalid' 'file' for a damaged bundle; 'conflict' 'file' reason 'inventory' where
 * chunks are neither in it nor here.
 */
export async function pullBundle(options: PullBundleOptions): Promise<PullResult> {
  const { bundle, target, sessionId, signal, ...others } = options
  await checkMap(bundle, target, sessionId, signal)
  const { image } = bundle
  const names = new Map<DomainId, DomainId>()
  for (const [domain, secrets] of bundle.secrets) {
    names.set(domain, await nameHere(target, domain, secrets, signal))
  }
  const own = await ownSecrets(target, image.domain, signal)
  if (image.report !== null && names.get(image.domain) !== image.domain) {
    // The report was sealed with the keys of the bundle (`reportDomainOf`).
    const secrets = bundle.secrets.get(image.domain) as DomainSecrets
    await target.adoptDomain(foreignDomain(secrets), { getSecrets: async () => secrets }, signal)
  }
  const source = asRegion(bundle, names, own)
  const { digest } = bundle.statement
  return pullImage({
    ...others,
    ...{ source, target, digest, sessionId },
    ...(signal === undefined ? {} : { signal }),
  })
}

/**
 * The bundle as a region of this installation: domains by their names here, and the image signed with our keys. Who opened
 * the bundle has checked the signature that its maker's domain gave it, and vouches for it with his own, so that whoever
 * reads the region later needs to know of no bundle.
 */
function asRegion(
  bundle: OpenBundle,
  names: ReadonlyMap<DomainId, DomainId>,
  own: DomainSecrets,
): ReadOnlyRegion {
  const { image, statement, objects } = bundle
  const secrets = new Map([...bundle.secrets].map(([domain, keys]) => [names.get(domain) as DomainId, keys]))
  secrets.set(image.domain, own)
  const signature = encodeSignature(new OpenDomain(image.domain, own).sign(encodeImage(image).bytes))
  const signatureAt = signatureName(statement.digest)
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
    async getSecrets(domain) {
      const found = secrets.get(domain)
      if (found === undefined) throw damagedBundle()
      return found
    },
    async locate(ids, signal) {
      const table = await bundle.locate(ids, signal)
      // It was here when the map was checked: collected since.
      if (table.packIndex.includes(-1)) throw lackingHere()
      const packs = table.packs.map(({ id, domain }) => ({ id, domain: names.get(domain) as DomainId }))
      return { ...table, packs }
    },
  }
}

/**
 * Every chunk of the image is in the bundle, or here among chunks of which the bundle's maker has the keys: ids alone
 * give nobody the bytes of others. And the disks hold as much as the bundle says. Reads maps, and changes nothing.
 */
async function checkMap(
  bundle: OpenBundle,
  target: RegionStore,
  sessionId: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  const data = new DiskData()
  const isShared = sharedDomains(bundle, target, signal)
  const read = async (id: Parameters<typeof pageName>[0]) => {
    if (bundle.hasPage(id)) return readPage(bundle.objects, id, signal)
    if (!target.journal.isCommitted(pageName(id))) throw lackingHere()
    return readPage(target.objects, id, signal)
  }
  for await (const [id, page] of inOrder(pagesOf(bundle.image), bundle.objects.traits.callsMax, read)) {
    signal?.throwIfAborted()
    const ids = Buffer.concat(data.add(id, page))
    const { packIndex } = await bundle.locate(ids, signal)
    for (const [i, index] of packIndex.entries()) {
      if (index >= 0) continue
      const places = target.places.find(ids.subarray(i * ID_BYTES, (i + 1) * ID_BYTES), sessionId)
      let isHere = false
      for (const { domain } of places) isHere ||= await isShared(domain)
      if (!isHere) throw lackingHere()
    }
    await new Promise(setImmediate)
  }
  for (const [index, disk] of bundle.image.disks.entries()) {
    if (data.bytesOf(disk) !== bundle.statement.dataBytes[index]) throw damagedBundle()
  }
}

/** Whether a domain of the region has the keys of some domain of the bundle, under whatever name. */
function sharedDomains(bundle: OpenBundle, target: RegionStore, signal: AbortSignal | undefined) {
  const known = new Map<DomainId, boolean>()
  return async (domain: DomainId): Promise<boolean> => {
    let isShared = known.get(domain)
    if (isShared === undefined) {
      const secrets = await target.getSecrets(domain, signal)
      isShared = [...bundle.secrets.values()].some((one) => isSameKeys(one, secrets))
      known.set(domain, isShared)
    }
    return isShared
  }
}
