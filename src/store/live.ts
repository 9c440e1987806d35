import { isFault } from '../image/fault.ts'
import type { Digest, DomainId, PackId, PageId } from '../image/ids.ts'
import type { ObjectName } from '../objects/names.ts'
import { guard } from './database.ts'
import { ID_BYTES } from './hashes.ts'
import { readImage } from './image.ts'
import { inOrder } from './in-order.ts'
import { readPage, ZERO_PAGE } from './map.ts'
import { hashOfName } from './names.ts'
import { type PackEntry, readPackContent } from './pack.ts'
import type { RegionStore } from './region.ts'

/** A committed pack, looked through. */
export interface PackLife {
  readonly number: number
  readonly name: ObjectName
  readonly pack: PackId
  readonly domain: DomainId
  readonly sizeBytes: number
  /** Numbers of the images that bind it. */
  readonly images: readonly number[]
  readonly entries: readonly PackEntry[]
  /** By position in `entries`: an image that binds the pack may need this chunk of it. */
  readonly isLive: readonly boolean[]
  /** False: header or footer cannot be read, and `entries` are what the index knows. */
  readonly isWhole: boolean
}

/**
 * What is alive in packs: every chunk that an image names which binds one of them. Where a map cannot be read all of
 * the packs of its image count as alive. Packs that are no longer committed are left out. Reads pages and footers, and
 * lets others on this thread have their turn.
 */
export async function findLive(
  region: RegionStore,
  numbers: readonly number[],
  signal?: AbortSignal,
): Promise<PackLife[]> {
  const packs = await loadPacks(region, numbers, signal)
  const byId = new Map<string, { life: Loading; position: number }[]>()
  for (const life of packs) {
    for (const [position, { id }] of life.entries.entries()) {
      const key = id.toString('latin1')
      const found = byId.get(key)
      if (found === undefined) byId.set(key, [{ life, position }])
      else found.push({ life, position })
    }
  }
  const images = new Set(packs.flatMap((life) => life.images))
  const { pages, doubtful } = await pagesOf(region, images, signal)
  const read = async ([id, users]: [PageId, number[]]): Promise<Buffer | undefined> => {
    try {
      return await readPage(region.objects, id, signal)
    } catch (error) {
      if (!isFault(error, 'corrupt')) throw error
      for (const image of users) doubtful.add(image)
      return undefined
    }
  }
  for await (const [, page] of inOrder(pages, region.objects.traits.callsMax, read)) {
    if (page === undefined) continue
    const text = page.toString('latin1')
    for (let at = 0; at < text.length; at += ID_BYTES) {
      const places = byId.get(text.slice(at, at + ID_BYTES))
      for (const { life, position } of places ?? []) life.isLive[position] = true
    }
    await new Promise(setImmediate)
  }
  for (const life of packs) {
    if (life.images.some((image) => doubtful.has(image))) life.isLive.fill(true)
  }
  return packs
}

type Loading = PackLife & { readonly isLive: boolean[] }

async function loadPacks(
  region: RegionStore,
  numbers: readonly number[],
  signal: AbortSignal | undefined,
): Promise<Loading[]> {
  const { database, objects } = region
  const get = database.prepare('SELECT name, domain, sizeBytes FROM object WHERE number = ? AND state = 1')
  const boundBy = database.prepare('SELECT image FROM imageObject WHERE object = ? ORDER BY image')
  const listed = database.prepare(
    'SELECT id, offset, storedBytes, plainBytes, crc32 FROM chunk WHERE object = ? ORDER BY offset',
  )
  const load = async (number: number): Promise<Loading | undefined> => {
    const row = guard(() => get.get(number))
    if (row === undefined) return undefined
    const name = row.name as ObjectName
    const pack = hashOfName(name) as PackId
    const content = await readPackContent(objects, pack, signal).catch((error: unknown) => {
      if (isFault(error, 'corrupt') || isFault(error, 'absent')) return undefined
      throw error
    })
    const entries =
      content?.entries ??
      guard(() => listed.all(number)).map((entry) => ({
        id: Buffer.from(entry.id as Uint8Array),
        offset: entry.offset as number,
        storedBytes: entry.storedBytes as number,
        plainBytes: entry.plainBytes as number,
        crc32: entry.crc32 as number,
      }))
    return {
      number,
      name,
      pack,
      // The index, where it knows: a flipped bit of the header may spell another domain.
      domain: (row.domain ?? content?.domain) as DomainId,
      sizeBytes: row.sizeBytes as number,
      images: guard(() => boundBy.all(number)).map((bind) => bind.image as number),
      entries,
      isLive: new Array<boolean>(entries.length).fill(false),
      isWhole: content !== undefined,
    }
  }
  const packs: Loading[] = []
  for await (const [, life] of inOrder(numbers, objects.traits.callsMax, load)) {
    if (life !== undefined) packs.push(life)
  }
  return packs
}

/** The pages of images, each with the images that name it, and the images whose pages cannot be known. */
async function pagesOf(region: RegionStore, images: ReadonlySet<number>, signal: AbortSignal | undefined) {
  const pages = new Map<PageId, number[]>()
  const doubtful = new Set<number>()
  const getName = region.database.prepare('SELECT name FROM object WHERE number = ?')
  const read = async (number: number) => {
    const name = guard(() => getName.get(number))?.name
    if (name === undefined) return undefined
    return readImage(region.objects, hashOfName(name as ObjectName) as Digest, signal).catch(
      (error: unknown) => {
        if (isFault(error, 'corrupt') || isFault(error, 'absent')) return undefined
        throw error
      },
    )
  }
  for await (const [number, image] of inOrder(images, region.objects.traits.callsMax, read)) {
    // An image that a session is about to put is bound already and cannot be read yet.
    if (image === undefined) doubtful.add(number)
    for (const page of new Set(image?.disks.flatMap((disk) => disk.pages))) {
      if (page === ZERO_PAGE) continue
      const users = pages.get(page)
      if (users === undefined) pages.set(page, [number])
      else users.push(number)
    }
  }
  return { pages, doubtful }
}
