import assert from 'node:assert/strict'
import { after, before, type TestContext, test } from 'node:test'
import { verifyAll } from '../../demo/steps.ts'
import type { CopyPlan } from '../../src/image/copy.ts'
import { openObjects } from '../../src/objects/open.ts'
import { listUploads, makeBucket, newPlace as newPrefix } from '../../src/objects/s3.fixture.ts'
import { type Ceph, startCeph } from '../ceph/ceph.ts'
import { calotypeJson } from '../clean/command.ts'
import {
  api,
  beginCopy,
  bringIn,
  CHUNK_BYTES,
  collect,
  contentOf,
  copy,
  exportedSha256,
  HOME,
  imageOf,
  MIB,
  newDisk,
  newFlowPlace,
  removeImage,
  sha256,
  taskOf,
  until,
  untilPulling,
} from './flow-place.ts'

const SIZE_BYTES = 40 * MIB
let ceph: Ceph

before(async () => {
  ceph = await startCeph()
  await makeBucket(ceph, 'images')
})
after(() => ceph?.stop())

test('from a folder into a bucket and back: equal bytes, a second version moves what changed, a cancelled copy leaves nothing', async (t: TestContext) => {
  const bucket = newPrefix(ceph, 'images')
  const { endpoint, region, prefix } = bucket
  const s3 = { bucket: 'images', prefix, endpoint, region }
  const place = await newFlowPlace(t, {
    regions: { bucket: { objects: { s3, connections: 6 } } },
    environment: {
      CALOTYPE_S3_ACCESS_KEY_ID: ceph.accessKeyId,
      CALOTYPE_S3_SECRET_ACCESS_KEY: ceph.secretAccessKey,
    },
  })
  const objects = await openObjects(bucket, { clean: false })
  const stored = async () =>
    (await Array.fromAsync(objects.list(''))).filter((name) => !name.startsWith('keys/')).sort()
  const disk = newDisk(SIZE_BYTES)
  const first = await bringIn(place, 'first', disk)
  disk.fill(5, 9 * CHUNK_BYTES, 10 * CHUNK_BYTES)
  newDisk(2 * CHUNK_BYTES).copy(disk, 100 * CHUNK_BYTES)
  const second = await bringIn(place, 'second', disk)

  const cancelled = await beginCopy(place, first.id, { targetRegions: ['bucket'], bytesPerSecond: MIB })
  await untilPulling(place, cancelled.taskId)
  await removeImage(place, 'bucket', cancelled.copies[0]?.imageId ?? '')
  await until(
    'the end of what was cancelled',
    async () => (await taskOf(place, cancelled.taskId)).state === 'cancelled' || undefined,
  )
  await collect(place, ['bucket'])
  assert.deepEqual([await stored(), await listUploads(bucket)], [[], []])

  for (const [from, to, images] of [
    [HOME, 'bucket', [first, second]],
    ['bucket', 'hk', [first, second]],
  ] as const) {
    for (const [i, source] of images.entries()) {
      const { images: there } = await api<{ images: { id: string; name: string }[] }>(
        place,
        'GET',
        '/v1/images',
        {
          query: { region: from, name: source.name },
        },
      )
      const id = there[0]?.id ?? ''
      const words = ['image', 'copy', id, '--region', from, '--to', to, '--dry-run']
      const plan = await calotypeJson<CopyPlan>(place, ...words)
      const { image, task } = await copy(place, id, { region: from, targetRegions: [to] })
      assert.deepEqual([image.digest, task.output.by], [source.digest, 'pull'])
      const said = `${source.name} to ${to}: moved ${task.movedBytes}, planned ${plan.moveBytes}, saved ${task.savedBytes}`
      t.diagnostic(said)
      assert.ok(Math.abs(task.movedBytes - plan.moveBytes) <= plan.moveBytes * 0.02, said)
      if (i === 0) continue
      assert.ok(task.movedBytes < 4 * CHUNK_BYTES && task.savedBytes > SIZE_BYTES - 8 * CHUNK_BYTES, said)
      assert.equal(await exportedSha256(place, to, image.id), sha256(disk))
    }
  }
  await verifyAll(place.server)

  // To two at once out of the bucket.
  const batch = await beginCopy(place, await idIn('bucket', 'first'), {
    ...{ region: 'bucket', targetRegions: ['cn-bj2', 'cn-shanghai'] },
  })
  for (const { region: to, imageId, taskId } of batch.copies) {
    await until(`${taskId}`, async () => (await taskOf(place, taskId)).state === 'done' || undefined)
    assert.equal((await imageOf(place, to, imageId)).digest, first.digest)
  }

  for (const name of ['first', 'second']) await removeImage(place, 'bucket', await idIn('bucket', name))
  await collect(place, ['bucket'])
  assert.deepEqual([await stored(), await listUploads(bucket)], [[], []])
  assert.notDeepEqual(await contentOf(place, 'hk'), [])

  async function idIn(where: string, name: string): Promise<string> {
    const query = { region: where, name }
    const { images } = await api<{ images: { id: string }[] }>(place, 'GET', '/v1/images', { query })
    return images[0]?.id ?? ''
  }
})
