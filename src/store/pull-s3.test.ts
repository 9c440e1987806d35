import { after, before } from 'node:test'
import { type Ceph, startCeph } from '../../test/ceph/ceph.ts'
import { openObjects } from '../objects/open.ts'
import { makeBucket, newPlace } from '../objects/s3.fixture.ts'
import { pullSuite } from './pull-suite.ts'
import { directoryRegion, type MakeRegion, regionOver } from './region.fixture.ts'

const BUCKET = 'copies'

let ceph: Ceph
before(async () => {
  ceph = await startCeph()
  await makeBucket(ceph, BUCKET)
})
after(() => ceph?.stop())

const bucketRegion: MakeRegion = regionOver(() => openObjects(newPlace(ceph, BUCKET), { clean: true }))

for (const [name, makeSource, makeTarget] of [
  ['directory to S3', directoryRegion, bucketRegion],
  ['S3 to directory', bucketRegion, directoryRegion],
] as const) {
  pullSuite(name, async () => {
    const [source, target] = [await makeSource(), await makeTarget()]
    return {
      ...{ source, target, options: { check: 'seal' } },
      open: async () => source.store,
      async dispose() {
        await source.dispose()
        await target.dispose()
      },
    }
  })
}
