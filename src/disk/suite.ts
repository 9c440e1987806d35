import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { Disk, Extent } from './contract.ts'
import { sparseContent } from './fixture.ts'

/** Holds every kind of Disk to `contract.ts`. `make` gives a disk with the content; the suite closes it. */
export function diskSuite(name: string, make: (t: TestContext, content: Buffer) => Promise<Disk>): void {
  const sizeBytes = 1024 * 1024 + 512
  const content = sparseContent(sizeBytes)

  test(`${name}: reads what is there, at any offset`, async (t) => {
    const disk = await make(t, content)
    assert.equal(disk.sizeBytes, sizeBytes)
    const runs = [
      [0, sizeBytes],
      [1, 1],
      [511, 4099],
      [65535, 65538],
      [sizeBytes - 1, 1],
      [sizeBytes, 0],
      [7, 0],
    ]
    for (const [offset = 0, lengthBytes = 0] of runs) {
      const bytes = await disk.read(offset, lengthBytes)
      assert.ok(bytes.equals(content.subarray(offset, offset + lengthBytes)), `${offset}+${lengthBytes}`)
    }
    await disk.close()
  })

  test(`${name}: answers many reads at once`, async (t) => {
    const disk = await make(t, content)
    const reads = Array.from({ length: 300 }, async (_, index) => {
      const offset = (index * 7919 * 13) % (sizeBytes - 5000)
      const bytes = await disk.read(offset, 5000)
      assert.ok(bytes.equals(content.subarray(offset, offset + 5000)))
    })
    await Promise.all(reads)
    await disk.close()
  })

  test(`${name}: extents cover what was asked, and zeroes are zero`, async (t) => {
    const disk = await make(t, content)
    const runs = [
      [0, sizeBytes],
      [100, 200_000],
      [sizeBytes - 1, 1],
    ]
    for (const [offset = 0, lengthBytes = 0] of runs) {
      checkExtents(await disk.extents(offset, lengthBytes), offset, lengthBytes, content)
    }
    assert.deepEqual(await disk.extents(5, 0), [])
    await disk.close()
  })

  test(`${name}: outside of the disk is a bug`, async (t) => {
    const disk = await make(t, content)
    await assert.rejects(disk.read(sizeBytes, 1), assert.AssertionError)
    await assert.rejects(disk.read(-1, 1), assert.AssertionError)
    await assert.rejects(disk.read(0.5, 1), assert.AssertionError)
    await assert.rejects(disk.extents(sizeBytes - 1, 2), assert.AssertionError)
    await disk.close()
  })

  test(`${name}: a signal that is aborted reads nothing`, async (t) => {
    const disk = await make(t, content)
    const reason = new Error('enough')
    await assert.rejects(disk.read(0, 10, AbortSignal.abort(reason)), reason)
    await disk.close()
  })
}

/** Rising, without gaps, merged, and 'zero' nowhere that a byte is not. */
export function checkExtents(
  extents: readonly Extent[],
  offset: number,
  lengthBytes: number,
  content: Buffer,
): void {
  let at = offset
  let before: string | undefined
  for (const extent of extents) {
    assert.equal(extent.offset, at)
    assert.ok(extent.lengthBytes > 0)
    assert.notEqual(extent.holds, before)
    before = extent.holds
    at += extent.lengthBytes
    if (extent.holds === 'zero') assert.ok(content.subarray(extent.offset, at).every((byte) => byte === 0))
  }
  assert.equal(at, offset + lengthBytes)
}
