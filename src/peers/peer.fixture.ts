import { Fault } from '../image/fault.ts'
import type { Digest, ImageId } from '../image/ids.ts'
import { TEST_DOMAIN } from '../store/region.fixture.ts'
import type { RegionStore } from '../store/region.ts'
import { openPeerSource } from './client.ts'
import type { PeerEndpointParts, PeerImage, PeerPlace, PeerReader, PeerSource } from './contract.ts'
import { type PeerEndpointOptions, servePeers } from './endpoint.ts'
import { fingerprintOf, makeIdentity, type PeerIdentity } from './identity.ts'

export const REGION = 'theirs'
export const OURS = makeIdentity()
export const THEIRS = makeIdentity()
export const IMAGE_ID = '0123456789abcdefg' as ImageId

export const FACTS: PeerImage['facts'] = {
  ...{ name: 'golden', description: '', tag: 'Default', labels: [{ key: 'team', value: 'a' }] },
  ...{ osType: 'Linux', osName: 'Debian 12', consistency: 'filesystem', parent: undefined },
  disks: [{ index: 0, sizeBytes: 2 ** 30, bus: 'virtio-blk' }],
  config: { firmware: 'uefi', machineType: 'q35', cpuCount: 2, memoryBytes: null },
  ...{ cleaning: undefined, imported: undefined, dataBytes: 1000, storedBytes: 500 },
}

/** Another installation that reads from a region: everything of project 'org-a', unless said otherwise. */
export interface TestPeer {
  readonly place: PeerPlace
  readonly url: string
  readonly errors: unknown[]
  /** What the endpoint believes of contents: their projects. Without an entry a content is of 'org-a'. */
  readonly projects: Map<Digest, string>
  reader: PeerReader | undefined
  /** The image as a region of ours. */
  source(target: RegionStore, digest: Digest): Promise<PeerSource>
  close(): Promise<void>
}

export async function servePeer(
  region: () => RegionStore,
  options: { readonly identity?: PeerIdentity } & Pick<PeerEndpointOptions, 'limits'> = {},
): Promise<TestPeer> {
  const { identity = OURS, ...others } = options
  const known = fingerprintOf(identity.certificate)
  const errors: unknown[] = []
  const isFor = (project: string, projects: readonly string[] | 'all') =>
    projects === 'all' || projects.includes(project)
  const parts: PeerEndpointParts = {
    reader: (fingerprint) => (fingerprint === known ? peer.reader : undefined),
    regionIds: [REGION, 'secret'],
    region: async () => region(),
    async image(_regionId, id, projects) {
      const [digest] = region().listImages()
      if (id !== IMAGE_ID || digest === undefined || !isFor(peer.projects.get(digest) ?? 'org-a', projects)) {
        throw new Fault('absent', 'There is none.', { subject: 'image' })
      }
      return { id, digest, facts: FACTS }
    },
    mayRead: async (_regionId, digest, projects) => isFor(peer.projects.get(digest) ?? 'org-a', projects),
  }
  const { url, close } = await servePeers({
    ...{ listen: { host: '127.0.0.1', port: 0 }, identity: THEIRS, parts, ...others },
    onError: (error) => errors.push(error),
  })
  const fingerprint = fingerprintOf(THEIRS.certificate)
  const place: PeerPlace = { name: 'mars', url, fingerprint, ...identity }
  const peer: TestPeer = {
    ...{ place, url, errors, close, projects: new Map() },
    // The domain of what tests capture is a project of its own name.
    reader: { name: 'us', projects: ['org-a', TEST_DOMAIN], regions: [REGION] },
    source: (target, digest) => openPeerSource(place, REGION, target, digest, new AbortController().signal),
  }
  return peer
}
