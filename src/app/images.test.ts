import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { Fault } from '../image/fault.ts'
import { type AppPlace, AWAY, HOME, newAppPlace } from './fixture.ts'

const fault = (kind: Fault['kind'], subject: Fault['subject']) => (error: unknown) =>
  error instanceof Fault && error.kind === kind && error.subject === subject

const UEFI = { firmware: 'uefi', machineType: 'q35', cpuCount: 2, memoryBytes: 2 * 1024 ** 3 } as const

describe('images of files and of other images', () => {
  let place: AppPlace
  beforeEach(async () => {
    place = await newAppPlace()
  })
  afterEach(() => place.close())

  test('a file is imported for the machine that it says, else for a plain one', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'imports-'))
    const own = await newAppPlace({ importDirectory: folder })
    try {
      await writeFile(join(folder, 'disk.raw'), Buffer.alloc(512))
      const from = { is: 'file', fileName: 'disk.raw' } as const
      const file = { regionId: HOME, from, name: 'n', kind: 'custom', osName: '' } as const
      const bring = async (input: object) => {
        const { imageId } = await own.app.images.import(own.root, { ...file, osType: 'Linux', ...input })
        const { config, disks } = await own.app.images.get(own.root, { regionId: HOME, imageId })
        return [config, disks]
      }
      const plain = { firmware: 'bios', machineType: 'pc', cpuCount: null, memoryBytes: null }
      const disk = { index: 0, sizeBytes: 512, bus: 'virtio-blk' }
      assert.deepEqual(await bring({}), [plain, [disk]])
      assert.deepEqual(await bring({ firmware: 'uefi', bus: 'virtio-scsi' }), [
        { ...plain, firmware: 'uefi' },
        [{ ...disk, bus: 'virtio-scsi' }],
      ])
    } finally {
      await own.close()
      await rm(folder, { recursive: true })
    }
  })

  test('a copy keeps what its source remembers', async () => {
    const imageId = await place.availableImage('i')
    const config = JSON.stringify(UEFI)
    const labels = [{ key: 'team', value: 'web' }]
    const disks = JSON.stringify([{ index: 0, sizeBytes: 512, bus: 'virtio-scsi' }])
    const facts = {
      ...{ config, disks, consistency: 'filesystem', parent: 'b'.repeat(64) },
      labels: JSON.stringify(labels),
    }
    await place.catalog.rows.updateTable('image').set(facts).where('id', '=', imageId).execute()
    const { copies } = await place.app.images.copy(place.root, {
      ...{ regionId: HOME, imageId, targetRegionIds: [AWAY] },
    })
    const [made] = copies
    assert.ok(made !== undefined)
    await place.catalog.rows
      .updateTable('image')
      .set({ state: 'available', digest: 'd'.repeat(64) })
      .where('id', '=', made.imageId)
      .execute()
    const copy = await place.app.images.get(place.root, made)
    assert.deepEqual(
      [copy.config, copy.disks, copy.consistency, copy.parent, copy.labels],
      [UEFI, JSON.parse(disks), 'filesystem', 'b'.repeat(64), labels],
    )
  })

  test('the lineage goes back from image to image, with the names that are left', async () => {
    const digest = (letter: string) => letter.repeat(64)
    const image = async (name: string, row: object) => {
      const id = await place.availableImage(name)
      await place.catalog.rows
        .updateTable('image')
        .set({ digest: digest(name), ...row })
        .where('id', '=', id)
        .execute()
      return id
    }
    const first = await image('a', {})
    const second = await image('b', { parent: digest('a'), sourceImageId: first })
    const awayCopy = await image('b', { regionId: AWAY, sourceImageId: second })
    const third = await image('c', { parent: digest('b'), sourceImageId: second })
    const lineage = (imageId: typeof first, regionId = HOME) =>
      place.app.images.lineage(place.root, { regionId, imageId })
    const a = { id: first, digest: digest('a'), name: 'a' }
    const b = { id: second, digest: digest('b'), name: 'b' }
    assert.deepEqual(await lineage(third), [b, a])
    // A copy has its source's ancestors; ids are of the region that is asked.
    assert.deepEqual(await lineage(awayCopy, AWAY), [{ ...a, id: undefined }])
    // A machine that was reset stands on a snapshot, and came of an image before.
    const machineId = await place.runningMachine(first)
    const { snapshotId } = await place.availableSnapshot(machineId, 0, { name: 'before' })
    const held = { digest: digest('e') }
    await place.catalog.rows.updateTable('snapshot').set(held).where('id', '=', snapshotId).execute()
    const reset = await image('f', { parent: digest('e'), sourceImageId: second })
    const unnamed = { id: undefined, digest: digest('e'), name: 'before' }
    assert.deepEqual(await lineage(reset), [unnamed, b, a])
    await place.catalog.rows.deleteFrom('snapshot').execute()
    assert.deepEqual(await lineage(reset), [{ ...unnamed, name: '' }, b, a])
    // Of those of another project nothing is told but the content.
    await place.catalog.rows
      .updateTable('image')
      .set({ projectId: 'org-other' })
      .where('id', '!=', third)
      .execute()
    assert.deepEqual(await lineage(third), [{ id: undefined, digest: digest('b'), name: '' }])
    await assert.rejects(lineage(first), fault('absent', 'image'))
    // What names itself, or a circle, comes to an end.
    const circle = await image('8', { parent: digest('9') })
    const other = await image('9', { parent: digest('8'), sourceImageId: circle })
    assert.deepEqual(await lineage(circle), [{ id: other, digest: digest('9'), name: '9' }])
  })
})
