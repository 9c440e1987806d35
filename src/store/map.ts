import assert from 'node:assert/strict'
import { Fault } from '../image/fault.ts'
import type { PageId } from '../image/ids.ts'
import type { ObjectStore } from '../objects/contract.ts'
import { chunkCountOf } from './chunk.ts'
import { ID_BYTES, isAllZero, sha256, ZERO_ID } from './hashes.ts'
import { pageName } from './names.ts'

/** Source: docs/format.md, "Map page". */
export const PAGE_IDS = 2048
export const PAGE_BYTES = PAGE_IDS * ID_BYTES
export const ZERO_PAGE = ZERO_ID as PageId

/** The content of one disk at one moment. Pages are in disk order, the last one is filled up with zero ids. */
export interface DiskMap {
  readonly sizeBytes: number
  readonly chunkBytes: number
  readonly pages: readonly PageId[]
}

export function pageCountOf(sizeBytes: number, chunkBytes: number): number {
  return Math.ceil(chunkCountOf(sizeBytes, chunkBytes) / PAGE_IDS)
}

/**
 * Room for all chunk ids of a disk, in whole pages of zero ids, shared between threads. Pages of it that nobody
 * writes cost no memory, so a sparse disk of terabytes is cheap.
 */
export function newDiskIds(sizeBytes: number, chunkBytes: number): Uint8Array<SharedArrayBuffer> {
  return new Uint8Array(new SharedArrayBuffer(pageCountOf(sizeBytes, chunkBytes) * PAGE_BYTES))
}

/** The pages of a disk's ids, one at a time: `bytes` is undefined for the zero page and else a copy of it. */
export function* cutPages(ids: Uint8Array): Iterable<{ id: PageId; bytes: Buffer | undefined }> {
  assert(ids.length % PAGE_BYTES === 0)
  for (let start = 0; start < ids.length; start += PAGE_BYTES) {
    const view = ids.subarray(start, start + PAGE_BYTES)
    if (isAllZero(view)) yield { id: ZERO_PAGE, bytes: undefined }
    else {
      const bytes = Buffer.from(view)
      yield { id: sha256(bytes) as PageId, bytes }
    }
  }
}

/** The page's bytes, checked. Throws Fault 'corrupt' naming the page if it is missing or damaged. */
export async function readPage(
  objects: Pick<ObjectStore, 'get'>,
  id: PageId,
  signal?: AbortSignal,
): Promise<Buffer> {
  if (id === ZERO_PAGE) return Buffer.alloc(PAGE_BYTES)
  let bytes: Buffer
  try {
    bytes = await objects.get(pageName(id), 0, PAGE_BYTES, signal)
  } catch (error) {
    if (error instanceof Fault && (error.kind === 'absent' || error.kind === 'corrupt')) {
      throw new Fault('corrupt', `Map page ${id} is missing or cut short.`, {
        subject: 'store',
        cause: error,
      })
    }
    throw error
  }
  if (sha256(bytes) !== id) {
    throw new Fault('corrupt', `Map page ${id} is damaged.`, { subject: 'store' })
  }
  return bytes
}
