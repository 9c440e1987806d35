import { isFault } from '../image/fault.ts'
import type { DomainId } from '../image/ids.ts'
import type { ObjectName } from '../objects/names.ts'
import { encodeCanonical } from './canonical.ts'
import { COMMITTED, guard } from './database.ts'
import { keyIdOf } from './domain.ts'
import { findDomainId } from './names.ts'
import type { RegionStore } from './region.ts'

/** Keys of a domain that are not as they should be. */
export interface KeyDamage {
  readonly domain: DomainId
  /** Every key object that the domain has, of whichever region key. */
  readonly names: readonly ObjectName[]
  readonly message: string
}

const KEY_OBJECT_BYTES_MAX = 4096

/**
 * Looks at the key objects of every domain of which the region holds packs or keys. With the region's key at hand they
 * have to open; without it only their form can be checked, and that there are any. Domains are few, so this is no part
 * of what a scrub spreads over time. Fault 'unavailable'.
 */
export async function checkKeys(region: RegionStore, signal?: AbortSignal): Promise<KeyDamage[]> {
  const names = await Array.fromAsync(region.objects.list('keys/', signal))
  const byDomain = Map.groupBy(names, (name) => findDomainId(name.split('/')[1] ?? ''))
  for (const domain of domainsOf(region)) if (!byDomain.has(domain)) byDomain.set(domain, [])
  const damaged: KeyDamage[] = []
  for (const [domain, own] of byDomain) {
    if (domain === undefined) continue
    const message = await messageOf(region, domain, own, signal)
    if (message !== undefined) damaged.push({ domain, names: own, message })
  }
  return damaged
}

/** Domains of which the index knows packs. */
export function domainsOf(region: RegionStore): DomainId[] {
  const sql = `SELECT DISTINCT domain FROM object WHERE domain IS NOT NULL AND state = ${COMMITTED}`
  return guard(() => region.database.prepare(sql).all()).map((row) => row.domain as DomainId)
}

async function messageOf(
  region: RegionStore,
  domain: DomainId,
  names: readonly ObjectName[],
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  try {
    await region.getSecrets(domain, signal)
    return undefined
  } catch (error) {
    if (isFault(error, 'corrupt')) return error.message
    if (!isFault(error, 'denied')) throw error
  }
  if (names.length === 0) return `The keys of domain ${domain} are missing from the store.`
  for (const name of names) {
    if (!(await hasForm(region, domain, name, signal))) return `The key object ${name} is damaged.`
  }
  return undefined
}

/** Source: docs/format.md, "Key object". */
async function hasForm(
  region: RegionStore,
  domain: DomainId,
  name: ObjectName,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  try {
    const sizeBytes = (await region.objects.size(name, signal)) ?? 0
    const bytes = await region.objects.get(name, 0, Math.min(sizeBytes, KEY_OBJECT_BYTES_MAX), signal)
    const value = JSON.parse(bytes.toString('utf8'))
    return (
      encodeCanonical(value).equals(bytes) &&
      value.version === 1 &&
      value.hash === 'blake3' &&
      value.domain === domain &&
      value.keyId === keyIdOf(name) &&
      /^([0-9a-f]{2})+$/.test(value.wrapped)
    )
  } catch (error) {
    if (isFault(error) && error.kind !== 'corrupt' && error.kind !== 'absent') throw error
    return false
  }
}
