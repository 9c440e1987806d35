import { randomFillSync } from 'node:crypto'
import { PLAIN_CONFIG } from '../../src/image/config.ts'
import type { DomainId } from '../../src/image/ids.ts'
import { commitImage } from '../../src/store/capture.ts'
import { CHUNK_BYTES_DEFAULT } from '../../src/store/chunk.ts'
import { ChunkWriter } from '../../src/store/chunk-writer.ts'
import { newClaims } from '../../src/store/claims.ts'
import { newDiskIds } from '../../src/store/map.ts'
import type { RegionStore } from '../../src/store/region.ts'

/** One disk of `count` chunks, numbered from `first`: equal numbers are equal chunks. */
export interface SyntheticImage {
  readonly name: string
  readonly first: number
  readonly count: number
}

export const BENCH_DOMAIN = 'org-bench' as DomainId
const noise = randomFillSync(Buffer.alloc(CHUNK_BYTES_DEFAULT / 4))

/** The bytes of a chunk: a quarter of it is noise, so that it compresses as data of programs does. */
export function syntheticChunk(number: number, target: Buffer): Buffer {
  for (let at = 0; at < target.length; at += noise.length) {
    noise.copy(target, at)
    target.writeUInt32LE(number, at)
    target.writeUInt32LE(at, at + 4)
  }
  return target
}

export async function captureSynthetic(region: RegionStore, image: SyntheticImage): Promise<void> {
  const chunkBytes = CHUNK_BYTES_DEFAULT
  const sessionId = `capture-${image.name}`
  await region.openSession(sessionId, BENCH_DOMAIN)
  const sizeBytes = image.count * chunkBytes
  const ids = newDiskIds(sizeBytes, chunkBytes)
  const options = { region, sessionId, domain: BENCH_DOMAIN, chunkBytes, claims: newClaims(image.count) }
  const writer = await ChunkWriter.open(options)
  const plain = Buffer.alloc(chunkBytes)
  for (let i = 0; i < image.count; i++) {
    await writer.feed(ids, i, syntheticChunk(image.first + i, plain))
    // As a capture does that waits for its disk: others on the thread have their turn.
    if (i % 16 === 15) await new Promise(setImmediate)
  }
  await writer.finish()
  const disk = { index: 0, bus: 'virtio-blk' as const, sizeBytes, chunkBytes, ids }
  await commitImage(
    region,
    sessionId,
    {
      domain: BENCH_DOMAIN,
      disks: [disk],
      config: PLAIN_CONFIG,
      os: { type: 'linux', name: image.name },
      parent: null,
      consistency: 'crash',
    },
    { ref: { holder: image.name, label: {} } },
  )
}
