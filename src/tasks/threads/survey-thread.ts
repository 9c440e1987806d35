import { type CleaningSummary, summaryOf } from '../../image/cleaning.ts'
import { isFault } from '../../image/fault.ts'
import type { Digest } from '../../image/ids.ts'
import { reportDomainOf } from '../../store/bundle/foreign.ts'
import { chunkCountOf, plainBytesOf } from '../../store/chunk.ts'
import { ID_BYTES, isZeroId } from '../../store/hashes.ts'
import type { ImageContent, ImageDisk } from '../../store/image.ts'
import { inOrder } from '../../store/in-order.ts'
import { PAGE_IDS, readPage, ZERO_PAGE } from '../../store/map.ts'
import { readRefs } from '../../store/refs.ts'
import type { RegionStore } from '../../store/region.ts'
import { checkSignature, readSignature } from '../../store/signature.ts'
import type { FoundImage, FoundRef, RegionSurvey } from '../store-jobs.ts'
import { openRegion, type RegionPlace } from './region.ts'
import { readReport } from './report.ts'
import { inThread } from './thread.ts'

export interface SurveyData {
  readonly place: RegionPlace
}

/** Bytes of a disk that are not zero, from its pages, each of which is checked. */
async function dataBytesOf(region: RegionStore, disk: ImageDisk, signal: AbortSignal): Promise<number> {
  const last = chunkCountOf(disk.sizeBytes, disk.chunkBytes) - 1
  const lastBytes = plainBytesOf(disk.sizeBytes, disk.chunkBytes, last)
  let bytes = 0
  let first = 0
  const read = (id: ImageDisk['pages'][number]) => readPage(region.objects, id, signal)
  for await (const [id, page] of inOrder(disk.pages, region.objects.traits.callsMax, read)) {
    for (let i = 0; id !== ZERO_PAGE && i < PAGE_IDS; i++) {
      if (isZeroId(page, i * ID_BYTES)) continue
      const chunk = page.subarray(i * ID_BYTES, (i + 1) * ID_BYTES)
      // Only looked up: whether it is whole, `verify` says.
      if (region.places.find(chunk).length === 0) {
        throw new MissingChunk(`disk ${disk.index} lacks the bytes at ${(first + i) * disk.chunkBytes}`)
      }
      bytes += first + i === last ? lastBytes : disk.chunkBytes
    }
    first += PAGE_IDS
  }
  return bytes
}

class MissingChunk extends Error {}

/** The image is whole without it: a report that cannot be read keeps nothing from being restored. */
async function findSummary(region: RegionStore, image: ImageContent): Promise<CleaningSummary | undefined> {
  try {
    const signed = readReport(image, await reportDomainOf(region, image))
    return signed && summaryOf(signed.report)
  } catch {
    return undefined
  }
}

async function lookAt(region: RegionStore, digest: Digest, signal: AbortSignal): Promise<FoundImage> {
  try {
    const image = await region.getImage(digest, signal)
    const signature = await readSignature(region.objects, digest, signal)
    const domain = await region.getDomain(image.domain)
    checkSignature(domain, image, signature)
    const diskDataBytes: number[] = []
    for (const disk of image.disks) diskDataBytes.push(await dataBytesOf(region, disk, signal))
    return {
      diskBytes: image.disks.map((disk) => disk.sizeBytes),
      diskDataBytes,
      dataBytes: diskDataBytes.reduce((sum, bytes) => sum + bytes, 0),
      buses: image.disks.map((disk) => disk.bus),
      config: image.config,
      os: image.os,
      consistency: image.consistency,
      parent: image.parent ?? undefined,
      cleaning: await findSummary(region, image),
    }
  } catch (error) {
    if (error instanceof MissingChunk || isFault(error, 'corrupt') || isFault(error, 'absent')) {
      return { message: error.message }
    }
    throw error
  }
}

inThread(async ({ place }: SurveyData, { signal, tell }): Promise<RegionSurvey> => {
  const region = await openRegion(place)
  try {
    const refs: FoundRef[] = []
    for await (const found of readRefs(region.objects, signal)) {
      refs.push('ref' in found ? found.ref : { name: found.name, message: found.message })
    }
    const digests = new Set(refs.flatMap((ref) => ('digests' in ref ? ref.digests : [])))
    const images = new Map<Digest, FoundImage>()
    for (const digest of digests) {
      images.set(digest, await lookAt(region, digest, signal))
      tell({ doneBytes: images.size, totalBytes: digests.size, movedBytes: 0 })
    }
    return { refs, images }
  } finally {
    region.close()
  }
})
