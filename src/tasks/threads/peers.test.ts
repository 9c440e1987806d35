import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Fault } from '../../image/fault.ts'
import { flipAt, harmObject, namesOf, withCopies } from '../../store/damage.fixture.ts'
import { assertHolds, noise } from '../../store/disks.fixture.ts'
import { memoryRegion, TEST_CHUNK_BYTES } from '../../store/region.fixture.ts'
import type { RegionStore } from '../../store/region.ts'
import { Peers } from './peers.ts'
import type { RegionPlace } from './region.ts'

const disks = [{ bytes: noise(6 * TEST_CHUNK_BYTES, 5), chunkBytes: TEST_CHUNK_BYTES }]
const placeOf = (regionId: string) => ({ regionId }) as unknown as RegionPlace
const places = ['near', 'away', 'far'].map(placeOf)
const near = placeOf('near').regionId

test('a region is rescued by the others, which are opened when they are needed, and once', () =>
  withCopies(
    disks,
    async (own, other, { digest }) => {
      const opened: string[] = []
      let nowMs = 0
      const open = async ({ regionId }: RegionPlace): Promise<RegionStore> => {
        opened.push(regionId)
        if (regionId !== 'far') throw new Fault('unavailable', 'It is away.', { subject: 'store' })
        return other.store
      }
      const peers = new Peers(places, open, () => nowMs)
      const options = { rescue: peers.rescueFor(near) }
      await own.reopen(own.objects, options)
      await assertHolds(own.store, digest, disks)
      assert.deepEqual(opened, [], 'nobody is asked while all is well')
      for (const name of await namesOf(own.objects, 'packs/'))
        await harmObject(own.objects, name, flipAt(1000))
      await own.reopen(own.objects, options)
      await assertHolds(own.store, digest, disks)
      assert.deepEqual(opened, ['away', 'far'])
      nowMs = 60_000
      await own.reopen(own.objects, options)
      await assertHolds(own.store, digest, disks)
      assert.deepEqual(opened, ['away', 'far', 'away'], 'who was away is asked again later')
      await peers.close()
    },
    memoryRegion,
  ))
