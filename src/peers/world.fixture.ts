import { once } from 'node:events'
import { type RequestOptions, request } from 'node:https'
import type { Digest, DomainId } from '../image/ids.ts'
import type { ObjectName } from '../objects/names.ts'
import { installation, seededDisk } from '../store/bundle/bundle.fixture.ts'
import { captureDisks } from '../store/disks.fixture.ts'
import { packName, pageName } from '../store/names.ts'
import { TEST_DOMAIN, type TestRegion, withRegions } from '../store/region.fixture.ts'
import { servePeer, type TestPeer } from './peer.fixture.ts'
import { FAULT_HEADER } from './words.ts'

export interface World {
  readonly peer: TestPeer
  readonly region: TestRegion
  /** Of 'org-a', which the reader may read. */
  readonly digest: Digest
  readonly page: ObjectName
  readonly pack: ObjectName
  readonly id: Buffer
  /** The same of an image of somebody else, in a domain of his own. */
  readonly other: Pick<World, 'digest' | 'page' | 'pack' | 'id'>
}

export async function withWorld(
  body: (world: World) => Promise<void>,
  options: Parameters<typeof servePeer>[1] = {},
): Promise<void> {
  await withRegions([installation(1).make], async (region) => {
    const peer = await servePeer(() => region.store, options)
    const captured = async (domain: DomainId, seeds: readonly number[]) => {
      const disks = [seededDisk(seeds)]
      const { digest, content } = await captureDisks({
        ...{ region: region.store, sessionId: domain, domain, disks },
      })
      const page = pageName(content.disks[0]?.pages[0] as Parameters<typeof pageName>[0])
      const id = (await region.objects.get(page, 0, 32)) as Buffer
      const pack = packName(region.store.places.find(id)[0]?.pack as Parameters<typeof packName>[0])
      return { digest, page, pack, id }
    }
    try {
      const own = await captured(TEST_DOMAIN, [1, 3, 5, 7, 9, 11])
      const other = await captured('org-b' as DomainId, [2, 4])
      peer.projects.set(other.digest, 'org-b')
      await body({ peer, region, ...own, other })
    } finally {
      await peer.close()
    }
  })
}

/** A request as anybody might make it. */
export async function ask(
  { place, url }: TestPeer,
  path: string,
  options: RequestOptions & { readonly body?: Buffer } = {},
) {
  const { body, ...others } = options
  const { hostname, port } = new URL(url)
  const { certificate: cert, key } = place
  const asked = request({
    hostname,
    port,
    path,
    cert,
    key,
    rejectUnauthorized: false,
    agent: false,
    ...others,
  })
  asked.end(body)
  const [response] = await once(asked, 'response')
  const bytes = Buffer.concat(await response.toArray())
  return { status: response.statusCode as number, fault: response.headers[FAULT_HEADER], bytes }
}
