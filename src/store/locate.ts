import { isFault } from '../image/fault.ts'
import type { ChunkId, Digest, PageId } from '../image/ids.ts'
import { ID_BYTES } from './hashes.ts'
import type { ImageContent } from './image.ts'
import { PAGE_IDS, readPage, ZERO_PAGE } from './map.ts'
import type { RegionStore } from './region.ts'

/** A place of a disk that a chunk fills. `offset` is a byte of the disk. */
export interface ChunkUse {
  readonly image: Digest
  readonly diskIndex: number
  readonly offset: number
  readonly chunk: ChunkId
}

/**
 * Where the images of the region use these chunks, image by image. Each page is read once; what cannot be read is passed
 * over. Others on the thread get their turn.
 */
export async function* locateChunks(
  region: RegionStore,
  chunks: ReadonlySet<string>,
  signal?: AbortSignal,
): AsyncGenerator<ChunkUse> {
  if (chunks.size === 0) return
  const wanted = new Map([...chunks].map((id) => [Buffer.from(id, 'hex').toString('latin1'), id as ChunkId]))
  const known = new Map<PageId, readonly (readonly [position: number, chunk: ChunkId])[]>()
  const positionsOf = async (page: PageId) => {
    const found: [number, ChunkId][] = []
    const ids = (await readIfSound(() => readPage(region.objects, page, signal)))?.toString('latin1')
    for (let position = 0; ids !== undefined && position < PAGE_IDS; position++) {
      const chunk = wanted.get(ids.slice(position * ID_BYTES, (position + 1) * ID_BYTES))
      if (chunk !== undefined) found.push([position, chunk])
    }
    await new Promise(setImmediate)
    signal?.throwIfAborted()
    known.set(page, found)
    return found
  }
  for (const image of region.listImages()) {
    const content = await readIfSound(() => region.getImage(image, signal))
    for (const disk of content?.disks ?? []) {
      for (const [pageIndex, page] of disk.pages.entries()) {
        if (page === ZERO_PAGE) continue
        for (const [position, chunk] of known.get(page) ?? (await positionsOf(page))) {
          const offset = (pageIndex * PAGE_IDS + position) * disk.chunkBytes
          yield { image, diskIndex: disk.index, offset, chunk }
        }
      }
    }
  }
}

async function readIfSound<Result extends ImageContent | Buffer>(
  read: () => Promise<Result>,
): Promise<Result | undefined> {
  try {
    return await read()
  } catch (error) {
    if (isFault(error, 'corrupt') || isFault(error, 'absent')) return undefined
    throw error
  }
}
