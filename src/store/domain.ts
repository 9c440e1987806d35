import { randomBytes } from 'node:crypto'
import { Fault } from '../image/fault.ts'
import type { DomainId } from '../image/ids.ts'
import type { ObjectStore } from '../objects/contract.ts'
import { encodeCanonical } from './canonical.ts'
import { KEY_BYTES, type KeyWrapper } from './keys.ts'
import { keyName, keyPrefix } from './names.ts'
import type { DomainSecrets } from './open-domain.ts'

const KEY_OBJECT_BYTES_MAX = 4096

/** What was wrapped for one domain or version opens for no other. */
const contextOf = (domain: DomainId) => `calotype domain keys 1 ${domain}`

/** The bytes of object `keys/<domain>/<key id>`. Source: docs/format.md, "Key object". */
export async function encodeKeyObject(
  domain: DomainId,
  { idKey, dataKey }: DomainSecrets,
  wrapper: KeyWrapper,
): Promise<Buffer> {
  const wrapped = await wrapper.wrap(Buffer.concat([idKey, dataKey]), contextOf(domain))
  return write(domain, wrapper, wrapped)
}

function write(domain: DomainId, { keyId, method }: KeyWrapper, wrapped: Buffer): Buffer {
  return encodeCanonical({
    domain,
    hash: 'blake3',
    keyId,
    version: 1,
    wrap: method,
    wrapped: wrapped.toString('hex'),
  })
}

/** Throws Fault 'corrupt' if the bytes are no key object of `domain` that `wrapper` made. */
export async function openKeyObject(
  domain: DomainId,
  bytes: Uint8Array,
  wrapper: KeyWrapper,
): Promise<DomainSecrets> {
  const found = /"wrapped":"((?:[0-9a-f]{2})+)"/.exec(Buffer.from(bytes).toString('latin1'))
  const wrapped = Buffer.from(found?.[1] ?? '', 'hex')
  // Version 1 has exactly one spelling, so whatever differs in one byte is damaged, foreign or from a later version.
  const isWhole = write(domain, wrapper, wrapped).equals(bytes)
  const secrets = isWhole ? await wrapper.unwrap(wrapped, contextOf(domain)) : undefined
  if (secrets?.length !== 2 * KEY_BYTES) {
    const name = keyName(domain, wrapper.keyId)
    throw new Fault(
      'corrupt',
      `The keys of domain ${domain} are damaged or of an unknown version. Restore the object ${name} from a backup.`,
      { subject: 'store' },
    )
  }
  return { idKey: secrets.subarray(0, KEY_BYTES), dataKey: secrets.subarray(KEY_BYTES) }
}

/**
 * The domain's keys, or undefined where nothing of the domain was stored yet. Throws Fault 'denied' where they are
 * wrapped by another region key than this.
 */
export async function findDomainSecrets(
  objects: Pick<ObjectStore, 'size' | 'get' | 'list'>,
  domain: DomainId,
  wrapper: KeyWrapper,
  signal?: AbortSignal,
): Promise<DomainSecrets | undefined> {
  const name = keyName(domain, wrapper.keyId)
  const read = async () => {
    const sizeBytes = await objects.size(name, signal)
    if (sizeBytes === undefined) return undefined
    const bytes = await objects.get(name, 0, Math.min(sizeBytes, KEY_OBJECT_BYTES_MAX), signal)
    return openKeyObject(domain, bytes, wrapper)
  }
  const secrets = await read()
  if (secrets !== undefined) return secrets
  const listed = await Array.fromAsync(objects.list(keyPrefix(domain), signal))
  // Another writer may have made them between the two looks.
  if (listed.includes(name)) return read()
  if (listed.length > 0) throw wrongRegionKey(listed.map(keyIdOf), wrapper.keyId)
  return undefined
}

/** As `findDomainSecrets`; throws Fault 'corrupt' instead, because chunks without their keys cannot be read. */
export async function getDomainSecrets(
  objects: Pick<ObjectStore, 'size' | 'get' | 'list'>,
  domain: DomainId,
  wrapper: KeyWrapper,
  signal?: AbortSignal,
): Promise<DomainSecrets> {
  const secrets = await findDomainSecrets(objects, domain, wrapper, signal)
  if (secrets === undefined) {
    throw new Fault('corrupt', `The keys of domain ${domain} are missing from the store.`, {
      subject: 'store',
    })
  }
  return secrets
}

/**
 * The domain's keys; the first caller stores `wanted`, or random ones. Throws Fault 'conflict' if others than `wanted`
 * are there: chunks of one domain under two keys could never be told to be equal. Else as `findDomainSecrets`.
 */
export async function ensureDomainSecrets(
  objects: ObjectStore,
  domain: DomainId,
  wrapper: KeyWrapper,
  wanted: DomainSecrets | undefined,
  signal?: AbortSignal,
): Promise<DomainSecrets> {
  let secrets = await findDomainSecrets(objects, domain, wrapper, signal)
  if (secrets === undefined) {
    const bytes = await encodeKeyObject(domain, wanted ?? randomSecrets(), wrapper)
    await objects.put(keyName(domain, wrapper.keyId), bytes, signal)
    secrets = await getDomainSecrets(objects, domain, wrapper, signal)
  }
  if (wanted !== undefined) assertSame(domain, wanted, secrets)
  return secrets
}

/** Throws Fault 'conflict' unless the keys are equal. */
export function assertSame(domain: DomainId, wanted: DomainSecrets, kept: DomainSecrets): void {
  const bytesOf = ({ idKey, dataKey }: DomainSecrets) => Buffer.concat([idKey, dataKey])
  if (bytesOf(wanted).equals(bytesOf(kept))) return
  throw new Fault('conflict', `This region holds other keys for domain ${domain}.`, {
    subject: 'store',
    reason: 'domain-key',
  })
}

/** The region key that a key object was wrapped by. */
export function keyIdOf(name: string): string {
  return name.slice(name.lastIndexOf('/') + 1)
}

/** `found`: the ids of the region keys that would do. */
export function wrongRegionKey(found: readonly string[], given: string): Fault {
  const needed = [...new Set(found)].sort().join(' or ')
  return new Fault(
    'denied',
    `The region's keys are wrapped by region key ${needed}; the key given is ${given}. Give the server the right one.`,
    { subject: 'store', reason: 'region-key' },
  )
}

function randomSecrets(): DomainSecrets {
  return { idKey: randomBytes(KEY_BYTES), dataKey: randomBytes(KEY_BYTES) }
}
