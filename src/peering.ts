import { stat } from 'node:fs/promises'
import type { Parts } from './app/parts.ts'
import { readConfig } from './data-directory.ts'
import { Fault } from './image/fault.ts'
import type { PeerClient, PeerPlace, PeerReader } from './peers/contract.ts'
import { ensurePeerIdentity } from './secrets.ts'
import { parseSettings, type Settings } from './settings.ts'

type PeeringSettings = Pick<Settings, 'data' | 'peers' | 'peering'>

/** The installations that images may be copied from. No certificate is made for an installation that knows none. */
export async function peerPlaces({ data, peers }: PeeringSettings): Promise<readonly PeerPlace[]> {
  if (peers.every(({ url }) => url === undefined)) return []
  const identity = await ensurePeerIdentity(data)
  return peers.flatMap(({ name, url, fingerprint }) =>
    url === undefined ? [] : [{ name, url, fingerprint, ...identity }],
  )
}

/** What each peer may read of us, by its fingerprint. */
export function peerReaders({ peers }: PeeringSettings): ReadonlyMap<string, PeerReader> {
  return new Map(
    peers.map(({ fingerprint, name, projects, regions }) => [fingerprint, { name, projects, regions }]),
  )
}

/** The ways to ask peers, each opened when it is first needed. */
export function createPeerClients(places: readonly PeerPlace[]): Parts['peers'] & { close(): Promise<void> } {
  const opened = new Map<string, Promise<PeerClient>>()
  const open = (name: string): Promise<PeerClient> => {
    const place = places.find((one) => one.name === name)
    if (place === undefined) {
      const known =
        places.length === 0 ? 'They name none' : `They name ${places.map((one) => one.name).join(', ')}`
      const message = `There is no peer '${name.slice(0, 64)}' with a url in the settings. ${known}.`
      return Promise.reject(new Fault('absent', message, { subject: 'peer' }))
    }
    const client = opened.get(name) ?? import('./peers/client.ts').then((it) => it.openPeerClient(place))
    opened.set(name, client)
    return client
  }
  return {
    known: places.map(({ name, url }) => ({
      ...{ name, url },
      client: { regions: async (signal?: AbortSignal) => (await open(name)).regions(signal) },
    })),
    image: async (name, regionId, imageId, signal) => (await open(name)).image(regionId, imageId, signal),
    async close() {
      for (const client of opened.values()) (await client).close()
    },
  }
}

/**
 * What the others are to be told of us, with or without a server on the data directory; made where there is none yet. Fault
 * 'absent' for a directory that there is not.
 */
export async function readPeerIdentity({
  config,
  ...flags
}: {
  readonly data?: string
  readonly config?: string
}): Promise<{ readonly fingerprint: string; readonly certificate: string }> {
  const { data } = parseSettings({
    ...(config === undefined ? {} : { file: { path: config, text: readConfig(config) } }),
    environment: process.env,
    flags,
  })
  if (!(await stat(data).catch(() => undefined))?.isDirectory()) {
    throw new Fault(
      'absent',
      `There is no data directory ${data}. Give the server's own with --data, or make it first.`,
    )
  }
  const { certificate } = await ensurePeerIdentity(data)
  const { fingerprintOf } = await import('./peers/identity.ts')
  return { certificate, fingerprint: fingerprintOf(certificate) }
}
