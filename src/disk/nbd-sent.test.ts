import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { makeFolder, sparseContent } from './fixture.ts'
import { memoryDisk } from './memory-disk.ts'
import { openNbd } from './nbd-client.ts'
import { serveNbd } from './nbd-server.ts'
import type { ServedDisk } from './nbd-server-handshake.ts'

const MIB = 1024 * 1024
const CONTENT = sparseContent(4 * MIB)

/** Overwrites whatever is given back: who still looked at it would see that. */
function reusing(isLate: boolean) {
  const out = new Set<unknown>()
  let givenCount = 0
  const disk: ServedDisk = {
    ...memoryDisk(CONTENT),
    pieces(offset, lengthBytes) {
      const pieces = [{ lengthBytes, bytes: Buffer.from(CONTENT.subarray(offset, offset + lengthBytes)) }]
      out.add(pieces)
      givenCount++
      return isLate ? new Promise((resolve) => setImmediate(resolve, pieces)) : pieces
    },
    sent(pieces) {
      assert.ok(out.delete(pieces), 'pieces are given back once')
      for (const { bytes } of pieces) bytes?.fill(0xee)
    },
  }
  return { disk, out, givenCount: () => givenCount }
}

for (const isLate of [false, true]) {
  const how = isLate ? 'that come later' : 'that are at hand'
  test(`pieces ${how} are given back once, and not before they were sent`, async (t) => {
    const { disk, out, givenCount } = reusing(isLate)
    const socketPath = join(await makeFolder(t), 's')
    const server = await serveNbd({ listen: { socketPath }, resolve: async () => disk })
    const client = await openNbd({ socketPath, exportName: '' })
    const offsets = Array.from({ length: 64 }, (_, index) => index * 50_000)
    const lengths = [1, 4096, 20_000, 300_000]
    const reads = offsets.map(async (offset, index) => {
      const lengthBytes = lengths[index % lengths.length] ?? 0
      const bytes = await client.read(offset, lengthBytes)
      assert.ok(bytes.equals(CONTENT.subarray(offset, offset + lengthBytes)), `${offset}`)
    })
    await Promise.all(reads)
    await client.close()
    await server.close()
    assert.equal(givenCount(), offsets.length)
    assert.equal(out.size, 0)
  })

  test(`pieces ${how} are given back too when their client goes away`, async (t) => {
    const { disk, out, givenCount } = reusing(isLate)
    const socketPath = join(await makeFolder(t), 's')
    const server = await serveNbd({ listen: { socketPath }, resolve: async () => disk })
    const client = await openNbd({ socketPath, exportName: '' })
    const reads = Array.from({ length: 16 }, () => client.read(0, 2 * MIB))
    const settled = Promise.allSettled(reads)
    await reads[0]
    await server.close()
    await settled
    await client.close()
    assert.ok(givenCount() > 0)
    assert.equal(out.size, 0)
  })
}
