import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { isFault } from '../../image/fault.ts'
import type { Digest, DomainId } from '../../image/ids.ts'
import { noise, type TestDisk } from '../disks.fixture.ts'
import { type MakeRegion, memoryRegion, TEST_CHUNK_BYTES, type TestRegion } from '../region.fixture.ts'
import { verifyRegion } from '../verify.ts'
import { type BundleKeys, bundleKeys } from './keys.ts'
import type { BundleSource } from './objects.ts'
import { openBundle } from './open.ts'
import { pullBundle } from './pull.ts'
import { type BundleOptions, writeBundle } from './write.ts'

/** Somebody with keys of his own for every domain, whatever it is called. */
export interface Installation {
  readonly keys: BundleKeys
  readonly make: MakeRegion
}

export function installation(n: number, make = memoryRegion): Installation {
  const secretsOf = (domain: DomainId) => {
    const derive = (use: string) =>
      createHmac('sha256', `installation ${n}`).update(`${use} ${domain}`).digest()
    return { idKey: derive('id'), dataKey: derive('data') }
  }
  return {
    keys: bundleKeys(new Uint8Array(32).fill(n)),
    make: ({ store, ...options } = {}) => make({ ...options, store: { secretsOf, ...store } }),
  }
}

/** A disk of a chunk for each seed; 0 is one of zeroes. */
export function seededDisk(seeds: readonly number[]): TestDisk {
  const bytes = Buffer.alloc(seeds.length * TEST_CHUNK_BYTES)
  for (const [i, seed] of seeds.entries()) {
    if (seed > 0) noise(TEST_CHUNK_BYTES, seed, seed % 2 === 0 ? 64 : 1).copy(bytes, i * TEST_CHUNK_BYTES)
  }
  return { bytes, chunkBytes: TEST_CHUNK_BYTES }
}

export type TestBundle = Pick<BundleOptions, 'digest'> & Partial<BundleOptions>

/** A bundle from one to the other, in packs of about 300 KB. */
export async function bundleOf(
  region: TestRegion,
  from: Installation,
  to: Installation,
  options: TestBundle,
): Promise<Buffer> {
  const stream = writeBundle({
    ...{ region: region.store, heldPages: [], recipient: to.keys.recipientPublic, label: '{"name":"web"}' },
    ...{ keys: from.keys, packBytes: 300_000, ...options },
  })
  const pieces = await Array.fromAsync(stream)
  assert.ok(pieces.every((piece) => piece.length > 0 && piece.length <= 1024 * 1024))
  return Buffer.concat(pieces)
}

export function bytesSource(bytes: Buffer): BundleSource {
  return {
    sizeBytes: bytes.length,
    async read(offset, lengthBytes) {
      assert.ok(offset >= 0 && lengthBytes >= 0 && offset + lengthBytes <= bytes.length, 'a read is inside')
      return Buffer.from(bytes.subarray(offset, offset + lengthBytes))
    },
  }
}

export const openFrom = (bytes: Buffer, to: Installation, from: Installation) =>
  openBundle(bytesSource(bytes), to.keys, [from.keys.signerPublic])

export async function pullFrom(
  bytes: Buffer,
  target: TestRegion,
  to: Installation,
  from: Installation,
  sessionId = 'b',
) {
  const bundle = await openFrom(bytes, to, from)
  return pullBundle({ bundle, target: target.store, sessionId, ref: { holder: `h-${sessionId}`, label: {} } })
}

/** A failure that somebody can act on, never a bug's. */
export function isNamed(error: unknown): boolean {
  assert.ok(isFault(error), `${error}`)
  assert.ok(
    error.kind === 'invalid' || error.kind === 'conflict' || error.kind === 'corrupt',
    `${error.kind}`,
  )
  return true
}

export async function assertSound({ store }: TestRegion): Promise<void> {
  assert.deepEqual((await verifyRegion({ region: store, deep: true })).problems, [])
}

export const pagesHeld = async ({ store }: TestRegion, digest: Digest) =>
  (await store.getImage(digest)).disks.flatMap((disk) => disk.pages)
