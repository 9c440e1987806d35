import { createHmac } from 'node:crypto'
import type { DomainId } from '../../image/ids.ts'
import type { ImageContent } from '../image.ts'
import { FOREIGN_PREFIX, findDomainId } from '../names.ts'
import { type DomainSecrets, OpenDomain } from '../open-domain.ts'
import type { RegionStore } from '../region.ts'

/**
 * Under which name a region keeps the keys of another installation's domain: of the keys themselves, so that no two
 * domains meet under one name, and one comes under the same name however often it comes. Our own domains are never
 * called so. Source: docs/format.md, "Domain".
 */
export function foreignDomain({ idKey, dataKey }: DomainSecrets): DomainId {
  const mark = createHmac('sha256', dataKey).update('calotype foreign domain').update(idKey).digest('hex')
  return `${FOREIGN_PREFIX}${mark.slice(0, 32)}` as DomainId
}

export function isSameKeys(one: DomainSecrets, other: DomainSecrets): boolean {
  return Buffer.from(one.idKey).equals(other.idKey) && Buffer.from(one.dataKey).equals(other.dataKey)
}

/**
 * Under which name the keys of a domain are in the region, or are to be: its own where they are those that this
 * installation has for it, else that of a foreign domain. The installation's own keys are made if need be.
 */
export async function nameHere(
  region: RegionStore,
  domain: DomainId,
  secrets: DomainSecrets,
  signal?: AbortSignal,
): Promise<DomainId> {
  if (domain.startsWith(FOREIGN_PREFIX)) return foreignDomain(secrets)
  return isSameKeys(await ownSecrets(region, domain, signal), secrets) ? domain : foreignDomain(secrets)
}

/** The region's keys for a domain, made if need be. */
export async function ownSecrets(
  region: RegionStore,
  domain: DomainId,
  signal?: AbortSignal,
): Promise<DomainSecrets> {
  if ((await region.findDomain(domain, signal)) === undefined) await region.ensureDomain(domain, signal)
  return region.getSecrets(domain, signal)
}

/**
 * The domain whose keys open the report of an image: its own, or, for one that came in a bundle, the foreign one that came
 * with it. Where none does it is the image's own.
 */
export async function reportDomainOf(
  region: RegionStore,
  { domain, report }: ImageContent,
  signal?: AbortSignal,
): Promise<OpenDomain> {
  const own = await region.getDomain(domain)
  if (report === null || own.openReport(report) !== undefined) return own
  const names = await Array.fromAsync(region.objects.list(`keys/${FOREIGN_PREFIX}`, signal))
  for (const name of new Set(names.map((one) => findDomainId(one.split('/')[1] ?? '')))) {
    if (name === undefined) continue
    const foreign = new OpenDomain(name, await region.getSecrets(name, signal))
    if (foreign.openReport(report) !== undefined) return foreign
  }
  return own
}
