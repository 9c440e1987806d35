import assert from 'node:assert/strict'
import { PLAIN_CONFIG } from '../image/config.ts'
import type { Digest, DomainId } from '../image/ids.ts'
import { commitImage, cutStripes, type NewImage } from './capture.ts'
import { chunkCountOf, plainBytesOf } from './chunk.ts'
import { type CaptureCounts, ChunkWriter } from './chunk-writer.ts'
import { newClaims } from './claims.ts'
import type { ImageContent } from './image.ts'
import { newDiskIds } from './map.ts'
import { MapDisk } from './reader.ts'
import type { RegionStore } from './region.ts'

export interface TestDisk {
  readonly bytes: Buffer
  readonly chunkBytes: number
}

export interface CapturedImage {
  readonly digest: Digest
  readonly content: ImageContent
  readonly counts: CaptureCounts
}

export interface TestCapture {
  readonly region: RegionStore
  readonly sessionId: string
  readonly domain: DomainId
  readonly disks: readonly TestDisk[]
  readonly parent?: Digest
  readonly osName?: string
  /** Who needs the image; without, the next collection takes it. */
  readonly holder?: string
}

/** Bytes that are the same for the same seed: `repeat` of them compress well, the rest not at all. */
export function noise(lengthBytes: number, seed: number, repeat = 1): Buffer {
  const key = `${lengthBytes} ${seed} ${repeat}`
  const known = made.get(key) ?? makeNoise(lengthBytes, seed, repeat)
  made.set(key, known)
  return Buffer.from(known)
}

const made = new Map<string, Buffer>()

function makeNoise(lengthBytes: number, seed: number, repeat: number): Buffer {
  const bytes = Buffer.alloc(lengthBytes)
  let state = (seed * 2654435761) >>> 0 || 1
  for (let i = 0; i < lengthBytes; i += repeat) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    bytes.fill(state & 0xff, i, Math.min(i + repeat, lengthBytes))
  }
  return bytes
}

/** Feeds all chunks of a disk to a writer. */
export async function addToIds(writer: ChunkWriter, disk: TestDisk, ids: Uint8Array): Promise<void> {
  const { bytes, chunkBytes } = disk
  const extents = [{ offset: 0, lengthBytes: bytes.length }]
  for (const { runs } of cutStripes(extents, bytes.length, chunkBytes, 4 * chunkBytes)) {
    for (const run of runs) {
      for (let index = run.firstIndex; index < run.firstIndex + run.count; index++) {
        const plain = bytes.subarray(
          index * chunkBytes,
          index * chunkBytes + plainBytesOf(bytes.length, chunkBytes, index),
        )
        await writer.feed(ids, index, plain)
      }
    }
  }
}

/** Everything of a capture up to the commit, in this thread. */
export async function writeDisks(capture: TestCapture): Promise<{ image: NewImage; counts: CaptureCounts }> {
  const { region, sessionId, domain, disks, parent, osName } = capture
  await region.openSession(sessionId, domain)
  const chunkBytes = Math.max(...disks.map((disk) => disk.chunkBytes))
  const chunkCount = disks.reduce((sum, disk) => sum + chunkCountOf(disk.bytes.length, disk.chunkBytes), 0)
  const claims = newClaims(chunkCount)
  const writer = await ChunkWriter.open({ region, sessionId, domain, chunkBytes, claims })
  try {
    const written = []
    for (const [index, disk] of disks.entries()) {
      const ids = newDiskIds(disk.bytes.length, disk.chunkBytes)
      await addToIds(writer, disk, ids)
      const { chunkBytes, bytes } = disk
      written.push({ index, bus: 'virtio-blk' as const, sizeBytes: bytes.length, chunkBytes, ids })
    }
    const counts = await writer.finish()
    const os = { type: 'linux', name: osName ?? 'Test' } as const
    const image: NewImage = {
      domain,
      disks: written,
      config: PLAIN_CONFIG,
      os,
      parent: parent ?? null,
      consistency: 'crash',
    }
    return { image, counts }
  } catch (error) {
    await writer.abandon()
    throw error
  }
}

export async function captureDisks(capture: TestCapture): Promise<CapturedImage> {
  const { region, sessionId, holder } = capture
  const { image, counts } = await writeDisks(capture)
  const options = holder === undefined ? {} : { ref: { holder, label: { name: holder } } }
  return { ...(await commitImage(region, sessionId, image, options)), counts }
}

/** Reads every disk of the image whole, in odd pieces, and compares. */
export async function assertHolds(
  region: RegionStore,
  digest: Digest,
  disks: readonly TestDisk[],
): Promise<void> {
  const image = await region.getImage(digest)
  assert.equal(image.disks.length, disks.length)
  for (const [index, { bytes }] of disks.entries()) {
    const content = image.disks[index]
    assert(content !== undefined)
    const disk = new MapDisk(region, content)
    assert.equal(disk.sizeBytes, bytes.length)
    for (let at = 0; at < bytes.length; at += 100_003) {
      const lengthBytes = Math.min(100_003, bytes.length - at)
      const got = await disk.read(at, lengthBytes)
      assert.ok(got.equals(bytes.subarray(at, at + lengthBytes)), `disk ${index} at ${at}`)
    }
    await disk.close()
  }
}
