import { randomBytes } from 'node:crypto'
import { Fault } from '../image/fault.ts'
import type { DomainId } from '../image/ids.ts'
import type { ObjectStore } from '../objects/contract.ts'
import { encodeCanonical } from './canonical.ts'
import { ID_BYTES } from './hashes.ts'
import { keyName } from './names.ts'

/** What the ids of a domain are keyed with. Equal in every region that holds chunks of the domain. */
export interface DomainKey {
  readonly domain: DomainId
  readonly idKey: Buffer
}

/** The bytes of object `keys/<domain>`. Source: docs/format.md, "Key object". */
export function encodeDomainKey(key: DomainKey): Buffer {
  return encodeCanonical({
    domain: key.domain,
    hash: 'blake3',
    idKey: key.idKey.toString('hex'),
    version: 1,
    wrap: 'none',
  })
}

/** Throws Fault 'corrupt' if the bytes are no key of `domain`. */
export function parseDomainKey(domain: DomainId, bytes: Uint8Array): DomainKey {
  const found = /"idKey":"([0-9a-f]{64})"/.exec(Buffer.from(bytes).toString('latin1'))
  const key = { domain, idKey: Buffer.from(found?.[1] ?? '', 'hex') }
  // Version 1 has exactly one spelling, so whatever differs in one byte is damaged, foreign or from a later version.
  if (key.idKey.length !== ID_BYTES || !encodeDomainKey(key).equals(bytes)) {
    throw new Fault('corrupt', `The key of domain ${domain} is damaged or of an unknown version.`, {
      subject: 'store',
    })
  }
  return key
}

/** The domain's key, or undefined where nothing of the domain was stored yet. */
export async function findDomainKey(
  objects: Pick<ObjectStore, 'size' | 'get'>,
  domain: DomainId,
  signal?: AbortSignal,
): Promise<DomainKey | undefined> {
  const name = keyName(domain)
  const sizeBytes = await objects.size(name, signal)
  if (sizeBytes === undefined) return undefined
  return parseDomainKey(domain, await objects.get(name, 0, Math.min(sizeBytes, 4096), signal))
}

/** As `findDomainKey`; throws Fault 'corrupt', because chunks without their key cannot be checked. */
export async function getDomainKey(
  objects: Pick<ObjectStore, 'size' | 'get'>,
  domain: DomainId,
  signal?: AbortSignal,
): Promise<DomainKey> {
  const key = await findDomainKey(objects, domain, signal)
  if (key === undefined) {
    throw new Fault('corrupt', `The key of domain ${domain} is missing from the store.`, { subject: 'store' })
  }
  return key
}

/**
 * The domain's key; the first caller stores `wanted`, or a random one. Throws Fault 'conflict' if another key than
 * `wanted` is there: chunks of one domain under two keys could never be told to be equal.
 */
export async function ensureDomainKey(
  objects: ObjectStore,
  domain: DomainId,
  wanted: Buffer | undefined,
  signal?: AbortSignal,
): Promise<DomainKey> {
  let key = await findDomainKey(objects, domain, signal)
  if (key === undefined) {
    const fresh = { domain, idKey: wanted ?? randomBytes(ID_BYTES) }
    await objects.put(keyName(domain), encodeDomainKey(fresh), signal)
    key = await getDomainKey(objects, domain, signal)
  }
  if (wanted !== undefined && !key.idKey.equals(wanted)) {
    throw new Fault('conflict', `This region holds another key for domain ${domain}.`, {
      subject: 'store',
      reason: 'domain-key',
    })
  }
  return key
}
