import { HOME, newAppPlace } from '../../src/app/fixture.ts'
import type { Digest, ImageId } from '../../src/image/ids.ts'
import { collectGarbage } from '../../src/store/gc.ts'
import { openImageDisk } from '../../src/store/reader.ts'
import { openRegion } from '../../src/tasks/threads/region.ts'
import { median, statusBytes } from './measure.ts'
import { placeIn, SOURCE } from './places.ts'

// What a region of many large images costs to use, as a process of its own. Argument: the folder that `placeIn` takes.
// Says what it did as JSON.

const [folder = ''] = process.argv.slice(2)
const OPENS = 50
const QUERIES = 50
const PAGE = 100
const CATALOG_IMAGES = 1000

const timed = async (work: () => Promise<unknown>): Promise<number> => {
  const beginMs = performance.now()
  await work()
  return performance.now() - beginMs
}

const region = await openRegion(placeIn(folder, SOURCE))
const digests = region.listImages()

/** An image is open when every page of its map is in memory and checked. */
const openWhole = async (digest: Digest) => {
  const disk = await openImageDisk(region, digest, 0)
  await disk.extents(0, disk.sizeBytes)
  return disk
}
const some = digests.filter((_, i) => i % Math.ceil(digests.length / OPENS) === 0)
const openMs: number[] = []
for (let round = 0; round < 2; round++) {
  openMs.length = 0
  for (const digest of some) openMs.push(await timed(async () => (await openWhole(digest)).close()))
}
// All of them at once, as when a machine stands on each.
const beginMs = performance.now()
const disks = []
for (const digest of digests) disks.push(await openWhole(digest))
const openAllSeconds = (performance.now() - beginMs) / 1000
const openRssBytes = statusBytes(process.pid, 'VmRSS')
for (const disk of disks) await disk.close()

const planMs = await timed(() => collectGarbage({ region, graceMs: 0, isDryRun: true, deadSessions: [] }))
region.close()

const place = await newAppPlace({ imagesPerRegionMax: 1_000_000 })
const ids: ImageId[] = []
for (let i = 0; i < CATALOG_IMAGES; i++) ids.push(await place.availableImage(`image-${i % 1000}`))
const queryMs: Record<string, number> = {}
const queries = {
  list: (i: number) =>
    place.app.images.list(
      place.root,
      { regionId: HOME },
      { offset: (i * PAGE) % CATALOG_IMAGES, limit: PAGE },
    ),
  listByName: (i: number) =>
    place.app.images.list(place.root, { regionId: HOME, name: `image-${i}` }, { offset: 0, limit: PAGE }),
  get: (i: number) => {
    const imageId = ids[(i * 97) % ids.length]
    if (imageId === undefined) throw new Error('there are images')
    return place.app.images.get(place.root, { regionId: HOME, imageId })
  },
}
for (const [name, query] of Object.entries(queries)) {
  const times: number[] = []
  for (let i = 0; i < QUERIES; i++) times.push(await timed(() => query(i)))
  queryMs[name] = Number(median(times).toFixed(2))
}
await place.close()

console.log(
  JSON.stringify({
    imageCount: digests.length,
    openMs: Number(median(openMs).toFixed(2)),
    openAllSeconds: Number(openAllSeconds.toFixed(2)),
    openRssBytes,
    planSeconds: Number((planMs / 1000).toFixed(3)),
    queryMs,
    peakRssBytes: statusBytes(process.pid, 'VmHWM'),
  }),
)
