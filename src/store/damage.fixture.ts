import assert from 'node:assert/strict'
import type { ObjectStore } from '../objects/contract.ts'
import type { ObjectName } from '../objects/names.ts'
import { type CapturedImage, captureDisks, type TestDisk } from './disks.fixture.ts'
import { pullImage } from './pull.ts'
import { directoryRegion, memoryRegion, TEST_DOMAIN, type TestRegion, withRegions } from './region.fixture.ts'
import type { RegionStore } from './region.ts'
import { scrub } from './scrub.ts'
import { verifyRegion } from './verify.ts'

/** What happens to an object's bytes; undefined: it goes. */
export type Harm = (bytes: Buffer) => Buffer | undefined

/** Negative offsets count from the end. */
export const flipAt =
  (offset: number): Harm =>
  (bytes) => {
    const at = (offset < 0 ? bytes.length + offset : offset) % bytes.length
    bytes[at] = (bytes[at] as number) ^ 1
    return bytes
  }
export const cutTo =
  (share: number): Harm =>
  (bytes) =>
    bytes.subarray(0, Math.floor(bytes.length * share))
export const takeAway: Harm = () => undefined

export async function bytesOf(objects: ObjectStore, name: ObjectName): Promise<Buffer | undefined> {
  const sizeBytes = await objects.size(name)
  return sizeBytes === undefined ? undefined : objects.get(name, 0, sizeBytes)
}

export async function namesOf(objects: ObjectStore, prefix: string): Promise<ObjectName[]> {
  return (await Array.fromAsync(objects.list(prefix))).sort()
}

/** Changes an object behind the store's back; answers the bytes it had. */
export async function harmObject(objects: ObjectStore, name: ObjectName, harm: Harm): Promise<Buffer> {
  const before = await bytesOf(objects, name)
  assert(before !== undefined)
  await objects.remove(name)
  const after = harm(Buffer.from(before))
  if (after !== undefined) await objects.put(name, after)
  return before
}

/** Puts other bytes in an object's place. */
export async function replaceObject(objects: ObjectStore, name: ObjectName, bytes: Buffer): Promise<void> {
  await objects.remove(name)
  await objects.put(name, bytes)
}

/** `near` and `far` hold one image of the disks, near by capture and far by a copy, each needed by a holder. */
export async function withCopies(
  disks: readonly TestDisk[],
  body: (near: TestRegion, far: TestRegion, image: CapturedImage) => Promise<void>,
  make = directoryRegion,
): Promise<void> {
  await withRegions([make, memoryRegion], async (near, far) => {
    const region = near.store
    const image = await captureDisks({
      region,
      sessionId: 'capture',
      domain: TEST_DOMAIN,
      disks,
      holder: 'near',
    })
    const { digest } = image
    const ref = { holder: 'far', label: { name: 'far' } }
    await pullImage({ source: region, target: far.store, digest, sessionId: 'copy', ref })
    // Nothing that was opened before the damage is to be remembered.
    await near.reopen()
    await far.reopen()
    await body(near, far, image)
  })
}

/** No check finds anything wrong. */
export async function assertClean(region: RegionStore): Promise<void> {
  assert.deepEqual((await verifyRegion({ region, deep: true })).problems, [])
  assert.equal((await scrub({ region })).damagedCount, 0)
}
