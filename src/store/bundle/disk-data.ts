import type { PageId } from '../../image/ids.ts'
import { chunkCountOf, plainBytesOf } from '../chunk.ts'
import { ID_BYTES, isZeroId } from '../hashes.ts'
import { type DiskMap, PAGE_IDS, ZERO_PAGE } from '../map.ts'

/** How much of disks is not zero, by their pages, each of which is looked at once. */
export class DiskData {
  readonly #pages = new Map<PageId, { readonly dataCount: number; readonly lastPosition: number }>()

  /** Notes a page and answers the ids in it that are not zero: views of `page`. */
  add(id: PageId, page: Buffer): Buffer[] {
    const ids: Buffer[] = []
    let lastPosition = -1
    for (let position = 0; position < PAGE_IDS; position++) {
      const at = position * ID_BYTES
      if (isZeroId(page, at)) continue
      lastPosition = position
      ids.push(page.subarray(at, at + ID_BYTES))
    }
    this.#pages.set(id, { dataCount: ids.length, lastPosition })
    return ids
  }

  /** Of a disk all of whose pages were added; chunks count whole, but for the last one of the disk. */
  bytesOf({ sizeBytes, chunkBytes, pages }: DiskMap): number {
    const last = chunkCountOf(sizeBytes, chunkBytes) - 1
    let bytes = 0
    for (const [pageIndex, id] of pages.entries()) {
      const page = id === ZERO_PAGE ? undefined : this.#pages.get(id)
      if (page === undefined) continue
      bytes += page.dataCount * chunkBytes
      if (pageIndex * PAGE_IDS + page.lastPosition === last) {
        bytes -= chunkBytes - plainBytesOf(sizeBytes, chunkBytes, last)
      }
    }
    return bytes
  }
}
