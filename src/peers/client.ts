import { Fault, isFault } from '../image/fault.ts'
import type { Digest, PageId } from '../image/ids.ts'
import { asRegion, checkMap, type Stranger } from '../store/bundle/stranger.ts'
import { PAGE_BYTES, readPage } from '../store/map.ts'
import { pageName } from '../store/names.ts'
import { OpenDomain } from '../store/open-domain.ts'
import { cachedSource, type PackCache } from '../store/pack-cache.ts'
import { checkSignature, encodeSignature, readSignature } from '../store/signature.ts'
import { PeerConnection, type PeerTimes } from './connection.ts'
import { noImage, PeerContent, parseJson } from './content.ts'
import type { OpenPeerSource, PeerClient, PeerPlace } from './contract.ts'
import { parsePeerImage } from './peer-image.ts'
import { WORDS_BYTES_MAX } from './words.ts'

const REGION = /^[a-z][a-z0-9-]{0,31}$/
const IMAGE = /^[0-9a-z]{17}$/
const REGION_COUNT_MAX = 1024
const SIGNATURE_BYTES = encodeSignature(Buffer.alloc(32)).length

/** Connects when it is asked something. */
export function openPeerClient(place: PeerPlace, times?: Partial<PeerTimes>): PeerClient {
  const connection = new PeerConnection(place, times)
  const askWords = async (path: string, signal: AbortSignal | undefined) => {
    const question = { method: 'GET', path, lengthBytesMax: WORDS_BYTES_MAX } as const
    const words = parseJson((await connection.ask(question, signal)).bytes)
    if (words === undefined) throw connection.garbled()
    return words
  }
  return {
    async regions(signal) {
      const { regions } = await askWords('/regions', signal)
      const isList =
        Array.isArray(regions) &&
        regions.length <= REGION_COUNT_MAX &&
        regions.every((one): one is string => typeof one === 'string' && REGION.test(one))
      if (!isList) throw connection.garbled()
      return regions
    },
    async image(regionId, id, signal) {
      refuseRegion(place, regionId)
      // What could be no id names nothing, and is no part of a path.
      if (!IMAGE.test(id)) throw noImage(place.name)
      const image = parsePeerImage(await askWords(`/regions/${regionId}/images/${id}`, signal), id)
      if (image === undefined) throw connection.garbled()
      return image
    },
    region(regionId, digest) {
      refuseRegion(place, regionId)
      return new PeerContent(connection, regionId, digest)
    },
    close: () => connection.close(),
  }
}

/** Source: `OpenPeerSource`. */
export const openPeerSource: OpenPeerSource = async (place, regionId, target, digest, signal, cache) => {
  refuseRegion(place, regionId)
  const connection = new PeerConnection(place)
  try {
    const content = new PeerContent(connection, regionId, digest)
    // What all of them ask first costs a round trip each, and each new connection two: all of it at once.
    connection.begin()
    const [image, secrets, signature] = await allOf([
      content.getImage(digest, signal),
      content.secrets(signal),
      askSignature(content, digest, signal),
    ])
    const maker = new OpenDomain(image.domain, await content.getSecrets(image.domain, signal))
    checkSignature(maker, image, signature)
    const { objects } = content
    const stranger: Stranger = {
      ...{ digest, image, objects, secrets },
      locate: (ids, signal) => content.locate(ids, signal),
    }
    const data = await checkMap({
      ...{ stranger, target, signal, readsMax: objects.traits.callsMax },
      readPage: (id) =>
        target.journal.isCommitted(pageName(id))
          ? readPage(target.objects, id, signal)
          : lookAt(content, id, cache, signal),
      refused: () =>
        new Fault(
          'denied',
          `The image of peer ${place.name} names chunks that are here in a project whose keys the peer does not have: it may not be copied.`,
          { subject: 'peer' },
        ),
    })
    const region = await asRegion(stranger, target, () => connection.garbled(), signal)
    const found = {
      dataBytes: image.disks.reduce((sum, disk) => sum + data.bytesOf(disk), 0),
      diskSizesBytes: image.disks.map(({ sizeBytes }) => sizeBytes),
    }
    return { ...region, found, close: () => connection.close() }
  } catch (error) {
    connection.close()
    throw error
  }
}

/** As `readSignature` reads it, in one round trip where it is there and as long as all of them are. */
async function askSignature(
  content: PeerContent,
  digest: Digest,
  signal: AbortSignal | undefined,
): Promise<Buffer> {
  const { objects } = content
  const asLong = { size: async () => SIGNATURE_BYTES, get: objects.get }
  try {
    return await readSignature(asLong, digest, signal)
  } catch (error) {
    if (!isFault(error, 'absent') && !isFault(error, 'corrupt')) throw error
    return readSignature(objects, digest, signal)
  }
}

/** All of them, or the failure of the first in this order that failed, when none of them runs on. */
async function allOf<Results extends readonly unknown[]>(
  promises: {
    readonly [Index in keyof Results]: Promise<Results[Index]>
  },
): Promise<Results> {
  await Promise.allSettled(promises)
  return Promise.all(promises) as Promise<unknown> as Promise<Results>
}

/** A region's id is part of paths: what could be none is not asked for. */
function refuseRegion({ name }: PeerPlace, regionId: string): void {
  if (REGION.test(regionId)) return
  throw new Fault('denied', `Peer ${name} can have no region of that name. List the peers to see theirs.`, {
    subject: 'peer',
  })
}

/** A page, checked: out of the cache, where a wrong one is forgotten, or of the peer itself. */
async function lookAt(
  content: PeerContent,
  id: PageId,
  cache: PackCache | undefined,
  signal: AbortSignal,
): Promise<Buffer> {
  if (cache === undefined) return content.lookAt(id, signal)
  try {
    return await readPage(cachedSource(content, cache).objects, id, signal)
  } catch (error) {
    if (!isFault(error, 'corrupt')) throw error
    await cache.forget(pageName(id), 0, PAGE_BYTES)
    return content.lookAt(id, signal)
  }
}
