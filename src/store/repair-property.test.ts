import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { ObjectName } from '../objects/names.ts'
import {
  assertClean,
  bytesOf,
  cutTo,
  flipAt,
  harmObject,
  namesOf,
  replaceObject,
  takeAway,
  withCopies,
} from './damage.fixture.ts'
import { type assertHolds, noise } from './disks.fixture.ts'
import { ID_BYTES, isZeroId } from './hashes.ts'
import { PAGE_IDS, readPage, ZERO_PAGE } from './map.ts'
import { findChunkIn } from './peer-chunk.ts'
import { MapDisk } from './reader.ts'
import { memoryRegion, TEST_CHUNK_BYTES } from './region.fixture.ts'
import type { RegionStore } from './region.ts'
import { repair } from './repair.ts'
import { scrub } from './scrub.ts'
import { verifyRegion } from './verify.ts'

const CHUNK = TEST_CHUNK_BYTES
const disks = [
  { bytes: noise(12 * CHUNK, 5), chunkBytes: CHUNK },
  { bytes: noise(3 * CHUNK + 512, 6, 40), chunkBytes: CHUNK },
]

/** Every position of the image's disks, with its chunk. */
async function positionsOf(region: RegionStore, digest: Parameters<typeof assertHolds>[1]) {
  const found: { diskIndex: number; offset: number; id: Buffer }[] = []
  for (const { index, pages, chunkBytes } of (await region.getImage(digest)).disks) {
    for (const [pageIndex, page] of pages.entries()) {
      if (page === ZERO_PAGE) continue
      const ids = await readPage(region.objects, page)
      for (let n = 0; n < PAGE_IDS; n++) {
        const offset = (pageIndex * PAGE_IDS + n) * chunkBytes
        const id = ids.subarray(n * ID_BYTES, (n + 1) * ID_BYTES)
        if (!isZeroId(id, 0)) found.push({ diskIndex: index, offset, id })
      }
    }
  }
  return found
}

test('whatever is damaged in two regions, what one of them has is readable and the rest is named', async () => {
  const harm = fc.oneof(
    fc.nat().map((offset) => ({ name: `flip ${offset}`, harm: flipAt(offset) })),
    fc
      .double({ min: 0, max: 0.99, noNaN: true })
      .map((share) => ({ name: `cut ${share}`, harm: cutTo(share) })),
    fc.constant({ name: 'gone', harm: takeAway }),
  )
  const harms = fc.array(fc.record({ place: fc.nat(), harm }), { maxLength: 6 })
  const seed = Date.now() % 2 ** 31
  console.log(`seed ${seed}`)
  await fc.assert(
    fc.asyncProperty(harms, harms, (nearHarms, farHarms) =>
      withCopies(
        disks,
        async (near, far, { digest }) => {
          const positions = await positionsOf(near.store, digest)
          const nearBytes = new Map<ObjectName, Buffer>()
          for (const [region, list, prefix] of [
            [near, nearHarms, ''],
            [far, farHarms, 'packs/'],
          ] as const) {
            const names = (await namesOf(region.objects, prefix)).filter((name) => !name.startsWith('refs/'))
            for (const { place, harm } of list) {
              const name = names[place % names.length] as ObjectName
              if ((await bytesOf(region.objects, name)) === undefined) continue
              if ((await region.objects.size(name)) === 0) continue
              const before = await harmObject(region.objects, name, harm.harm)
              if (region === near && !nearBytes.has(name)) nearBytes.set(name, before)
            }
          }
          const region = await near.reopen()
          const keys = far.store
          const isSomewhere = async (id: Buffer) => {
            for (const one of [region, far.store]) {
              if (await findChunkIn(one, id, (domain) => keys.getDomain(domain))) return true
            }
            return false
          }
          const expected: string[] = []
          for (const { diskIndex, offset, id } of positions) {
            if (!(await isSomewhere(id))) expected.push(`${diskIndex} ${offset}`)
          }
          await scrub({ region })
          await verifyRegion({ region, deep: true })
          for (let run = 0; run < 2; run++) {
            const { lost } = await repair({ region, peers: [far.store] })
            // Where no chunk is whole anywhere, nothing tells whether a peer's keys are the right ones.
            const areAllLost = expected.length === positions.length
            const told = lost
              .filter(({ message }) => !areAllLost || !message.startsWith('The keys'))
              .map(({ diskIndex, offset, message }) =>
                diskIndex === undefined ? message : `${diskIndex} ${offset}`,
              )
            assert.deepEqual(told.sort(), [...expected].sort())
          }
          const { problems } = await verifyRegion({ region: await near.reopen(), deep: true })
          const named = problems.filter(({ image }) => image !== undefined)
          assert.deepEqual(
            named
              .map(({ diskIndex, offset, message }) =>
                diskIndex === undefined ? message : `${diskIndex} ${offset}`,
              )
              .sort(),
            [...expected].sort(),
          )
          const image = await near.store.getImage(digest)
          for (const { diskIndex, offset } of positions) {
            if (expected.includes(`${diskIndex} ${offset}`)) continue
            const disk = image.disks[diskIndex]
            const bytes = disks[diskIndex]?.bytes as Buffer
            assert(disk !== undefined)
            const lengthBytes = Math.min(CHUNK, disk.sizeBytes - offset)
            const got = await new MapDisk(near.store, disk).read(offset, lengthBytes)
            assert.ok(got.equals(bytes.subarray(offset, offset + lengthBytes)))
          }
          // The bytes come back from a backup: nothing was made worse.
          for (const [name, bytes] of nearBytes) await replaceObject(near.objects, name, bytes)
          await near.reopen()
          const { lostCount } = await repair({ region: near.store, peers: [] })
          assert.equal(lostCount, 0)
          await assertClean(near.store)
        },
        memoryRegion,
      ),
    ),
    { numRuns: 30, seed, endOnFailure: true },
  )
})
