import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { openObjects } from '../../src/objects/open.ts'
import { makeBucket, newPlace as newPrefix } from '../../src/objects/s3.fixture.ts'
import type { ShownImage } from '../../src/wire/native/show.ts'
import { startCeph } from '../ceph/ceph.ts'
import { idle, REGIONS } from './harness.ts'
import { good, importSmall, launch, newSmallPlace, personOf, taskEnd } from './small-place.ts'
import { AWAY, HOME } from './valid-calls.ts'

test('a server whose home region is a bucket does the main job, also after a kill', async (t: TestContext) => {
  const folder = await mkdtemp(join(tmpdir(), 'calo-s3-'))
  const ceph = await startCeph()
  await makeBucket(ceph, 'images')
  const bucket = newPrefix(ceph, 'images')
  const { endpoint, region, prefix } = bucket
  const settings = join(folder, 'calotype.yaml')
  const s3 = `\n    objects:\n      s3: {bucket: images, prefix: ${prefix}, endpoint: "${endpoint}", region: ${region}}\n      connections: 6`
  const lines = REGIONS.map(
    (id) => `  ${id}:\n    name: ${id}\n    zones: [${id}-h]${id === HOME ? s3 : ''}\n`,
  )
  await writeFile(settings, `regions:\n${lines.join('')}`)
  const environment = {
    CALOTYPE_S3_ACCESS_KEY_ID: ceph.accessKeyId,
    CALOTYPE_S3_SECRET_ACCESS_KEY: ceph.secretAccessKey,
  }
  const wrapper = () => ['sh', '-c', `exec "$@" --config ${settings}`, 'sh']
  const place = await newSmallPlace(t, environment, { wrapper })
  t.after(async () => {
    await ceph.stop()
    await rm(folder, { recursive: true, force: true })
  })

  const root = personOf(place)
  const base = await importSmall(root, 'base', 'base')
  const [machine = ''] = await launch(root, base)
  const capture = { region: HOME, machineId: machine, name: 'captured' }
  const made = await good<{ imageId: string; taskId: string }>(
    root.native('POST', '/v1/images/capture', { body: capture }),
  )
  assert.equal((await taskEnd(root, made.taskId)).state, 'done')
  await place.killAndRestart()
  const copy = { region: HOME, targetRegions: [AWAY], name: 'copied' }
  await good(root.native('POST', `/v1/images/${made.imageId}/copy`, { body: copy }))
  await idle(place.server)
  const { images } = await good<{ images: ShownImage[] }>(
    root.native('GET', '/v1/images', { query: { region: AWAY, name: 'copied' } }),
  )
  assert.equal(images[0]?.state, 'available', JSON.stringify(images))

  const objects = await openObjects(bucket, { clean: false })
  const names = await Array.fromAsync(objects.list(''))
  assert.deepEqual([...new Set(names.map((name) => name.split('/')[0]))].sort(), [
    ...['images', 'keys', 'packs', 'pages', 'refs', 'signatures'],
  ])
  await good(root.native('DELETE', `/v1/images/${made.imageId}`, { query: { region: HOME } }))
  await idle(place.server)
  const collect = { regions: [HOME], graceHours: 0 }
  await good(root.native('POST', '/v1/store/collect', { body: collect }))
  await idle(place.server)
  const left = await Array.fromAsync(objects.list('images/'))
  assert.equal(left.length, 1, 'the base, on which the machine stands')
})
