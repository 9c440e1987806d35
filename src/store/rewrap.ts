import { Fault } from '../image/fault.ts'
import type { ObjectStore } from '../objects/contract.ts'
import type { ObjectName } from '../objects/names.ts'
import { assertSame, encodeKeyObject, getDomainSecrets, openKeyObject, wrongRegionKey } from './domain.ts'
import type { KeyWrapper } from './keys.ts'
import { keyName, parseDomainId } from './names.ts'

/**
 * Changes the region key: wraps the keys of every domain again with `to`, and when all of that is durable and was read
 * back removes what `from` wrapped. No chunk, pack or image object is touched. Run again after a crash it goes on; run
 * again after success it changes nothing. Answers how many domains it moved. Faults: as `openKeyObject`; 'conflict' if
 * `to` wraps other keys for a domain.
 */
export async function rewrapKeys(
  objects: ObjectStore,
  from: KeyWrapper,
  to: KeyWrapper,
  signal?: AbortSignal,
): Promise<number> {
  if (from.keyId === to.keyId) return 0
  const old = (await listKeys(objects, signal)).filter((key) => key.keyId === from.keyId)
  for (const { name, domain } of old) {
    const sizeBytes = (await objects.size(name, signal)) ?? 0
    const secrets = await openKeyObject(domain, await objects.get(name, 0, sizeBytes, signal), from)
    await objects.put(keyName(domain, to.keyId), await encodeKeyObject(domain, secrets, to), signal)
    assertSame(domain, secrets, await getDomainSecrets(objects, domain, to, signal))
  }
  for (const { name } of old) await objects.remove(name, signal)
  return old.length
}

/** Throws Fault 'denied' if the keys of some domain of the region are wrapped by other region keys only. */
export async function checkRegionKey(
  objects: Pick<ObjectStore, 'list'>,
  keyId: string,
  signal?: AbortSignal,
): Promise<void> {
  const byDomain = Map.groupBy(await listKeys(objects, signal), ({ domain }) => domain)
  for (const keys of byDomain.values()) {
    const ids = keys.map((key) => key.keyId)
    if (!ids.includes(keyId)) throw wrongRegionKey(ids, keyId)
  }
}

/** Every key object of the region. Throws Fault 'corrupt' where something else has such a name. */
export async function listKeys(objects: Pick<ObjectStore, 'list'>, signal?: AbortSignal) {
  const names: ObjectName[] = await Array.fromAsync(objects.list('keys/', signal))
  return names.map((name) => {
    const [, domain = '', keyId, ...rest] = name.split('/')
    if (keyId !== undefined && rest.length === 0) return { name, domain: parseDomainId(domain), keyId }
    throw new Fault(
      'corrupt',
      `The object ${name} is no key of format version 1. Use another data directory.`,
      {
        subject: 'store',
      },
    )
  })
}
