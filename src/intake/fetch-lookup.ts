import type { LookupAddress } from 'node:dns'
import { lookup, Resolver } from 'node:dns/promises'

/** Every address of a name. Throws what the system says. */
export type Lookup = (name: string, signal: AbortSignal) => Promise<readonly LookupAddress[]>

/**
 * For names of the operator: as every program on this host resolves them, with its hosts file. Takes one of the few
 * threads that also read files, for as long as name servers let it wait.
 */
export const lookupAsHost: Lookup = (name) => lookup(name, { all: true })

/**
 * For names of strangers: asks the name servers and nothing else, and takes no thread. With the other way, a few names
 * whose servers never answer would keep those threads busy. IPv4 first.
 */
export const lookupInDns: Lookup = (name, signal) => lookupAt(undefined, name, signal)

/** `servers`: instead of the system's name servers. */
export async function lookupAt(
  servers: readonly string[] | undefined,
  name: string,
  signal: AbortSignal,
): Promise<readonly LookupAddress[]> {
  const resolver = new Resolver({ timeout: 3_000, tries: 2 })
  if (servers !== undefined) resolver.setServers(servers)
  const cancel = () => resolver.cancel()
  signal.addEventListener('abort', cancel, { once: true })
  try {
    const [four, six] = await Promise.allSettled([resolver.resolve4(name), resolver.resolve6(name)])
    if (four.status === 'rejected' && six.status === 'rejected') throw four.reason
    return [
      ...(four.status === 'fulfilled' ? four.value.map((address) => ({ address, family: 4 })) : []),
      ...(six.status === 'fulfilled' ? six.value.map((address) => ({ address, family: 6 })) : []),
    ]
  } finally {
    signal.removeEventListener('abort', cancel)
  }
}
