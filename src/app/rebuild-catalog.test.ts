import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, test } from 'node:test'
import type { Catalog } from '../catalog/contract.ts'
import { openSqliteCatalog } from '../catalog/sqlite.ts'
import type { Digest, ImageId, MachineId, SnapshotId } from '../image/ids.ts'
import { AWAY, CONFIG, digestOf, HOME, newTaskPlace, PROJECT, type TaskPlace } from '../tasks/fixture.ts'
import { imageRef, machineRef, snapshotRef } from '../tasks/refs.ts'
import type { FoundImage, FoundRef } from '../tasks/store-jobs.ts'
import { rebuildCatalog } from './rebuild-catalog.ts'

const WHOLE: FoundImage = {
  ...{ diskBytes: [1024 ** 3], diskDataBytes: [4096], dataBytes: 4096, buses: ['virtio-blk'] },
  ...{ config: CONFIG, os: { type: 'linux', name: '' }, consistency: 'crash', parent: undefined },
  cleaning: undefined,
}

describe('a catalog from the refs of its regions', () => {
  let place: TaskPlace
  let fresh: Catalog
  let refs: FoundRef[]
  let images: Map<Digest, FoundImage>
  beforeEach(async () => {
    place = await newTaskPlace()
    fresh = await openSqliteCatalog(':memory:')
    refs = []
    images = new Map()
  })
  afterEach(async () => {
    await place.close()
    await fresh.close()
  })

  async function addImage(name: string, found: FoundImage = WHOLE): Promise<ImageId> {
    const id = await place.image(name)
    const labels = JSON.stringify([{ key: 'team', value: 'web' }])
    await place.catalog.rows.updateTable('image').set({ labels }).where('id', '=', id).execute()
    refs.push({ ...(await imageRef(place.catalog.rows, id, null)), digests: [digestOf(name)] })
    images.set(digestOf(name), found)
    return id
  }
  async function addMachine(name: string, base: string): Promise<MachineId> {
    const id = await place.machine(name, { digest: digestOf(base) })
    const ref = await machineRef(place.catalog.rows, id)
    assert.ok(ref !== undefined)
    refs.push(ref)
    return id
  }
  async function addSnapshot(
    machineId: MachineId,
    name: string,
    imageId: ImageId,
    found: FoundImage = { ...WHOLE, consistency: 'filesystem' },
  ): Promise<SnapshotId> {
    const id = await place.snapshot(machineId, name, { imageId })
    refs.push({ ...(await snapshotRef(place.catalog.rows, id, null)), digests: [digestOf(name)] })
    images.set(digestOf(name), found)
    return id
  }
  const rebuild = async () => {
    const rows = await rebuildCatalog(
      {
        catalog: fresh,
        host: place.parts.host,
        jobs: {
          survey: async (regionId) =>
            regionId === HOME ? { refs, images } : { refs: [], images: new Map() },
        },
        clock: () => place.nowMs,
        rootKey: undefined,
      },
      [HOME, AWAY],
      () => {},
      new AbortController().signal,
    )
    return rows.map(({ what, id, result, why }) => [what, id, result, why])
  }
  const rowOf = (rows: Catalog['rows'], noun: 'image' | 'snapshot' | 'machine', id: string) =>
    rows.selectFrom(noun).selectAll().where('id', '=', id).executeTakeFirstOrThrow()

  test('rows come back as they were, with the default project and a first key', async () => {
    const imageId = await addImage('golden')
    const machineId = await addMachine('m', 'golden')
    const away = await addMachine('without disks', 'golden')
    place.power.delete(away)
    const snapshotId = await addSnapshot(machineId, 'snapshot', imageId)
    assert.deepEqual(await rebuild(), [
      ['image', imageId, 'restored', ''],
      ['machine', machineId, 'restored', ''],
      ['machine', away, 'restored', 'Its disks are not on the host any more. Delete it.'],
      ['snapshot', snapshotId, 'restored', ''],
    ])
    assert.deepEqual(
      { ...(await rowOf(fresh.rows, 'image', imageId)) },
      { ...(await rowOf(place.catalog.rows, 'image', imageId)) },
    )
    assert.deepEqual(
      { ...(await rowOf(fresh.rows, 'machine', machineId)) },
      { ...(await rowOf(place.catalog.rows, 'machine', machineId)) },
    )
    assert.equal((await rowOf(fresh.rows, 'machine', away)).state, 'failed')
    assert.deepEqual(
      { ...(await rowOf(fresh.rows, 'snapshot', snapshotId)) },
      { ...(await rowOf(place.catalog.rows, 'snapshot', snapshotId)) },
    )
    const projects = await fresh.rows.selectFrom('project').select(['id', 'isDefault']).execute()
    assert.deepEqual(
      projects.map((row) => ({ ...row })),
      [{ id: PROJECT, isDefault: 1 }],
    )
    const user = await fresh.rows.selectFrom('user').selectAll().executeTakeFirstOrThrow()
    assert.deepEqual([user.isRoot, user.defaultProjectId], [1, PROJECT])
    assert.equal((await fresh.rows.selectFrom('accessKey').select('id').execute()).length, 1)
  })

  test('what a label does not tell, the image object does', async () => {
    const config = { firmware: 'uefi', machineType: 'q35', cpuCount: 2, memoryBytes: 4096 } as const
    const parent = 'b'.repeat(64) as Digest
    const found: FoundImage = { ...WHOLE, config, consistency: 'application', parent }
    const imageId = await addImage('golden', found)
    const [ref] = refs
    assert.ok(ref !== undefined && 'holder' in ref)
    const {
      config: _config,
      consistency: _told,
      parent: _none,
      ...old
    } = ref.label as Record<string, unknown>
    refs[0] = { ...ref, label: old }
    await rebuild()
    const row = await rowOf(fresh.rows, 'image', imageId)
    assert.deepEqual(
      [JSON.parse(row.config ?? ''), row.consistency, row.parent],
      [config, 'application', parent],
    )
  })

  test('the system found inside is told by the image object, as far as it tells one', async () => {
    const imageId = await addImage('inside', { ...WHOLE, os: { type: 'windows', name: 'Windows 11' } })
    const machineId = await addMachine('m', 'inside')
    const found: FoundImage = { ...WHOLE, os: { type: 'linux', name: 'Debian 13' } }
    const snapshotId = await addSnapshot(machineId, 'snapshot', imageId, found)
    const labelled = await place.image('labelled')
    const told = { osType: 'Windows', osName: 'Windows 10' }
    await place.catalog.rows.updateTable('image').set(told).where('id', '=', labelled).execute()
    refs.push({
      ...(await imageRef(place.catalog.rows, labelled, null)),
      digests: [digestOf('labelled')],
    })
    images.set(digestOf('labelled'), { ...WHOLE, os: { type: 'other', name: '' } })
    await rebuild()
    const osOf = async (noun: 'image' | 'snapshot', id: string) => {
      const { osType, osName } = await rowOf(fresh.rows, noun, id)
      return [osType, osName]
    }
    assert.deepEqual(await osOf('image', imageId), ['Windows', 'Windows 11'])
    assert.deepEqual(await osOf('snapshot', snapshotId), ['Linux', 'Debian 13'])
    assert.deepEqual(await osOf('image', labelled), ['Windows', 'Windows 10'])
  })

  test('a row that is there is never changed, and a second run changes nothing', async () => {
    const imageId = await addImage('golden')
    await rebuild()
    await fresh.rows.updateTable('image').set({ name: 'renamed since' }).execute()
    const key = await fresh.rows.selectFrom('accessKey').select('id').executeTakeFirst()
    assert.deepEqual(await rebuild(), [['image', imageId, 'present', '']])
    assert.equal((await rowOf(fresh.rows, 'image', imageId)).name, 'renamed since')
    assert.deepEqual(await fresh.rows.selectFrom('accessKey').select('id').executeTakeFirst(), key)
  })

  test('what is damaged is named and left out, and restored once it is whole', async () => {
    const damaged = await addImage('damaged', { message: 'Map page x is damaged.' })
    const machineId = await addMachine('m', 'damaged')
    const snapshotId = await addSnapshot(machineId, 'snapshot', damaged, { ...WHOLE, diskBytes: [512] })
    const other = await addImage('other disks', { ...WHOLE, diskBytes: [512] })
    const [ref] = refs
    assert.ok(ref !== undefined && 'holder' in ref)
    refs.push({ name: 'refs/x/1', message: 'The ref refs/x/1 is damaged.' })
    refs.push({ ...ref, holder: 'y'.repeat(17) })
    refs.push({ ...ref, holder: 'z'.repeat(17), label: { is: 'bundle' } })
    assert.deepEqual(await rebuild(), [
      ['ref', 'refs/x/1', 'damaged', 'The ref refs/x/1 is damaged.'],
      ['ref', 'y'.repeat(17), 'damaged', `Its label is that of ${damaged}.`],
      ['ref', 'z'.repeat(17), 'damaged', 'The label is damaged or of a later version (is).'],
      ['image', damaged, 'damaged', 'Map page x is damaged.'],
      ['machine', machineId, 'damaged', 'Map page x is damaged.'],
      ['snapshot', snapshotId, 'damaged', 'Its label tells of other disks than the image has.'],
      ['image', other, 'damaged', 'Its label tells of other disks than the image has.'],
    ])
    images.set(digestOf('damaged'), WHOLE)
    refs.splice(2)
    assert.deepEqual(await rebuild(), [
      ['image', damaged, 'restored', ''],
      ['machine', machineId, 'restored', ''],
    ])
  })

  test('a project whose name is taken gets its id behind it', async () => {
    await rebuild()
    const imageId = await addImage('golden')
    assert.deepEqual(await rebuild(), [
      ['project', PROJECT, 'restored', ''],
      ['image', imageId, 'restored', ''],
    ])
    const { name } = await fresh.rows
      .selectFrom('project')
      .select('name')
      .where('id', '=', PROJECT)
      .executeTakeFirstOrThrow()
    assert.equal(name, `default ${PROJECT}`)
  })
})
