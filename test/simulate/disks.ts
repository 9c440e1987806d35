import assert from 'node:assert/strict'
import { PLAIN_CONFIG } from '../../src/image/config.ts'
import type { Digest, DomainId } from '../../src/image/ids.ts'
import { loadUnchanged } from '../../src/store/baseline.ts'
import type { NewImage } from '../../src/store/capture.ts'
import { plainBytesOf } from '../../src/store/chunk.ts'
import { ChunkWriter } from '../../src/store/chunk-writer.ts'
import { newClaims } from '../../src/store/claims.ts'
import type { ImageContent } from '../../src/store/image.ts'
import { newDiskIds } from '../../src/store/map.ts'
import { MapDisk } from '../../src/store/reader.ts'
import type { RegionStore } from '../../src/store/region.ts'
import { CHUNK_BYTES, chunkContent, diskBytes, type Layout } from './model.ts'
import type { SimulatedRegion } from './world.ts'

/** Writes the chunks of all disks, by one thread for each store. */
export async function writeDisks(
  stores: readonly RegionStore[],
  sessionId: string,
  domain: DomainId,
  disks: readonly Layout[],
  osName: string,
  signal: AbortSignal,
): Promise<NewImage> {
  const [leader] = stores
  assert(leader !== undefined)
  await leader.openSession(sessionId, domain, signal)
  const claims = newClaims(64)
  const written: NewImage['disks'][number][] = disks.map((layout, index) => ({
    index,
    bus: 'virtio-blk',
    sizeBytes: diskBytes(layout),
    chunkBytes: CHUNK_BYTES,
    ids: newDiskIds(diskBytes(layout), CHUNK_BYTES),
  }))
  const work = disks.flatMap(({ chunks }, disk) => chunks.map((content, index) => ({ disk, content, index })))
  const results = await Promise.allSettled(
    stores.map(async (region) => {
      const writer = await ChunkWriter.open({
        region,
        sessionId,
        domain,
        chunkBytes: CHUNK_BYTES,
        claims,
        signal,
      })
      try {
        for (let one = work.shift(); one !== undefined; one = work.shift()) {
          const { ids, sizeBytes } = written[one.disk] as (typeof written)[number]
          const plain = chunkContent(one.content).subarray(0, plainBytesOf(sizeBytes, CHUNK_BYTES, one.index))
          await writer.feed(ids, one.index, plain)
          if (stores.length > 1) await new Promise(setImmediate)
        }
        await writer.finish()
      } catch (error) {
        await writer.abandon()
        throw error
      }
    }),
  )
  for (const result of results) if (result.status === 'rejected') throw result.reason
  const os = { type: 'linux', name: osName } as const
  return { domain, disks: written, config: PLAIN_CONFIG, os, parent: null, consistency: 'crash' }
}

/** As `writeDisks` of one thread, of what differs from the image `since`: of each disk the chunks from the first one on. */
export async function writeChanged(
  store: RegionStore,
  sessionId: string,
  since: Digest,
  domain: DomainId,
  disks: readonly Layout[],
  contents: readonly number[],
  signal: AbortSignal,
): Promise<NewImage> {
  await store.openSession(sessionId, domain, signal)
  const before = await store.getImage(since, signal)
  const holds = store.holdsOf(sessionId)
  const written: NewImage['disks'][number][] = []
  const claims = newClaims(64)
  const writer = await ChunkWriter.open({
    ...{ region: store, sessionId, domain, chunkBytes: CHUNK_BYTES, claims, signal },
  })
  try {
    for (const [index, layout] of disks.entries()) {
      const sizeBytes = diskBytes(layout)
      const ids = newDiskIds(sizeBytes, CHUNK_BYTES)
      const disk = { sizeBytes, chunkBytes: CHUNK_BYTES, ids }
      const flags = Uint8Array.from(layout.chunks, (_content, i) => (i < contents.length ? 1 : 0))
      await loadUnchanged(
        store,
        holds,
        before.disks[index] as (typeof before.disks)[number],
        disk,
        flags,
        signal,
      )
      for (const [i, content] of layout.chunks.entries()) {
        if (flags[i] === 0) continue
        await writer.feed(ids, i, chunkContent(content).subarray(0, plainBytesOf(sizeBytes, CHUNK_BYTES, i)))
      }
      written.push({ index, bus: 'virtio-blk', ...disk })
    }
    await writer.finish()
  } catch (error) {
    await writer.abandon()
    throw error
  }
  const os = { type: 'linux', name: 'changed' } as const
  return { domain, disks: written, config: PLAIN_CONFIG, os, parent: null, consistency: 'crash' }
}

/** Every byte of the image is as it was captured. */
export async function assertHolds(
  store: RegionStore,
  image: ImageContent,
  disks: readonly Layout[],
): Promise<void> {
  for (const [index, content] of image.disks.entries()) {
    const disk = new MapDisk(store, content)
    const layout = disks[index]
    assert(layout !== undefined && content.sizeBytes === diskBytes(layout))
    for (const [i, chunk] of layout.chunks.entries()) {
      const lengthBytes = plainBytesOf(content.sizeBytes, CHUNK_BYTES, i)
      const got = await disk.read(i * CHUNK_BYTES, lengthBytes)
      assert(
        got.equals(chunkContent(chunk).subarray(0, lengthBytes)),
        `disk ${index} chunk ${i} is as captured`,
      )
    }
    await disk.close()
  }
}

/** Looks a holder's image up as somebody does who knows its digest alone. */
export async function assertReads(region: SimulatedRegion, digest: Digest, disks: readonly Layout[]) {
  await region.withStore(async (store) => assertHolds(store, await store.getImage(digest), disks))
}
