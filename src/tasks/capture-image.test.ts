import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, test } from 'node:test'
import type { ChangeContext, DiskExports, ExportedDisk, ExportRequest, Host } from '../host/contract.ts'
import { Fault } from '../image/fault.ts'
import type { Digest, DiskId, MachineId, TaskId } from '../image/ids.ts'
import { DISK_BYTES, digestOf, newTaskPlace, type TaskPlace } from './fixture.ts'
import { removeRows, seeTo } from './release-image.ts'

const CHANGES: ChangeContext = { name: 'qemu:dirty-bitmap:x', most: 1 }
const OWN: ChangeContext = { name: 'qemu:allocation-depth', most: 2 }

describe('captures', () => {
  let place: TaskPlace
  let machineId: MachineId
  let diskId: DiskId
  /** What the host says of each disk, and what it was asked. */
  let offer: Partial<ExportedDisk>
  let asked: ExportRequest[]
  let closed: string[]
  beforeEach(async () => {
    place = await newTaskPlace()
    offer = {}
    asked = []
    closed = []
    const host = place.parts.host as { -readonly [Call in keyof Host]: Host[Call] }
    host.openExports = async (_id, _key, request): Promise<DiskExports> => {
      asked.push(request)
      const disk = { sizeBytes: DISK_BYTES, socketPath: '', exportName: '', mapName: '', changesWhy: '' }
      const disks = request.diskIds.map((id) => ({ ...disk, id, ...offer }))
      const told = { consistency: 'filesystem', consistencyWhy: 'x', pausedMs: 2, frozenMs: 9 } as const
      return { disks, ...told, os: { type: 'Linux', name: 'Debian 12' }, moment: 'new' }
    }
    host.closeExports = async (_id, _key, outcome) => void closed.push(outcome)
    machineId = await place.machine('m', { digest: await baseDigest() })
    diskId = `d${machineId.slice(1)}` as DiskId
  })
  afterEach(() => place.close())

  async function baseDigest(): Promise<Digest> {
    await place.image('base')
    return digestOf('base')
  }

  async function capture(name: string) {
    const imageId = await place.image(name, { state: 'creating' })
    const outputs = [{ is: 'image', id: imageId, diskIds: [diskId] }]
    const input = { machineId, wanted: 'best', outputs }
    const taskId = await place.begin({ kind: 'capture-image', imageId, machineId, input })
    await place.catalog.rows.updateTable('image').set({ taskId }).where('id', '=', imageId).execute()
    return { imageId, taskId, ...(await place.ended(taskId)) }
  }
  const baseline = () => place.catalog.rows.selectFrom('baseline').selectAll().executeTakeFirst()
  const wayOf = (made: { output: Record<string, unknown> }) => {
    const [disk] = made.output.disks as { way: string; why: string }[]
    return [disk?.way, disk?.why]
  }
  const lastWritten = () => place.stores.written.at(-1)?.disks[0]?.baseline

  test('reads what the machine wrote over its image, then what changed since the last one', async () => {
    offer = { own: OWN }
    const first = await capture('one')
    assert.deepEqual(wayOf(first), ['own', 'It has not been captured since it was made or reset.'])
    assert.deepEqual(lastWritten(), { digest: digestOf('base'), diskIndex: 0, changes: OWN })
    assert.deepEqual(asked.at(-1)?.since, {})
    const kept = await baseline()
    assert.deepEqual([kept?.captureKey, kept?.digest], [first.taskId, digestOf(first.taskId)])
    offer = { own: OWN, changes: CHANGES }
    const second = await capture('two')
    assert.deepEqual(wayOf(second), ['changes', ''])
    assert.deepEqual(asked.at(-1)?.since, { [diskId]: first.taskId })
    assert.deepEqual(lastWritten(), { digest: digestOf(first.taskId), diskIndex: 0, changes: CHANGES })
    assert.equal((await baseline())?.captureKey, second.taskId)
    assert.deepEqual(closed, ['taken', 'taken'])
    const { consistency, consistencyWhy, pausedMs, frozenMs } = second.output
    assert.deepEqual([consistency, consistencyWhy, pausedMs, frozenMs], ['filesystem', 'x', 2, 9])
  })

  test('reads everything where anything is in doubt, and says why', async () => {
    const all = async (why: RegExp, name: string) => {
      const made = await capture(name)
      assert.equal(made.state, 'done')
      assert.equal(wayOf(made)[0], 'all')
      assert.match(String(wayOf(made)[1]), why)
      assert.equal(lastWritten(), undefined)
    }
    await all(/not been captured since.*cannot tell/, 'no own')
    offer = { changesWhy: 'The hypervisor was killed.' }
    await all(/The hypervisor was killed/, 'no changes')
    offer = { own: OWN, changes: CHANGES }
    const kept = (await baseline())?.digest as Digest
    place.stores.images.get('cn-hangzhou')?.delete(kept)
    place.stores.domains.set(digestOf('base'), 'org-other')
    await all(/made is deleted\. Its image came from another project/, 'deleted')
    assert.deepEqual(asked.at(-1)?.since, {})
    await place.catalog.rows.updateTable('baseline').set({ sizeBytes: 512 }).execute()
    await all(/size has changed/, 'grown')
    place.stores.images.get('cn-hangzhou')?.delete(digestOf('base'))
    await place.catalog.rows.deleteFrom('baseline').execute()
    await all(/Its image cannot be read/, 'no base')
  })

  test('begins again with everything when what it compares with goes away', async () => {
    offer = { own: OWN }
    let tries = 0
    place.stores.gates.set('write', async () => {
      if (++tries === 1) throw new Fault('absent', 'It is gone.', { subject: 'image' })
    })
    const made = await capture('one')
    assert.deepEqual(
      [made.state, tries, ...wayOf(made)],
      ['done', 2, 'all', 'What it was compared with was deleted.'],
    )
    // With nothing to compare with it is what it says.
    place.stores.gates.set('write', async () => {
      throw new Fault('absent', 'It is gone.', { subject: 'image' })
    })
    assert.equal((await capture('two')).state, 'failed')
  })

  test('trusts nothing over another image than the catalog knows of', async () => {
    offer = { own: OWN }
    await place.catalog.rows.deleteFrom('baseline').execute()
    const host = place.parts.host as { -readonly [Call in keyof Host]: Host[Call] }
    host.layers = async () => ({ [diskId]: { baseName: 'hk/other/0', replacedCount: 1 } })
    const made = await capture('one')
    assert.deepEqual(wayOf(made), [
      'all',
      'It has not been captured since it was made or reset. It stands on another image than the catalog says.',
    ])
  })

  test('what came out larger is charged before the host hears of its end', async () => {
    const { rows } = place.catalog
    await rows.updateTable('project').set({ quotaBytes: 10_000, chargedAtQuotaBytes: 0 }).execute()
    place.stores.dataBytes = 20_000
    const made = await capture('one')
    assert.deepEqual([made.state, closed], ['failed', ['given-up']])
    assert.match(made.reason ?? '', /quota/)
  })

  test('what a host that was away had not let go of, the next capture lets go of first', async () => {
    const first = await capture('one')
    const output = JSON.stringify({ ...first.output, isReleased: false })
    await place.catalog.rows.updateTable('task').set({ output }).where('id', '=', first.taskId).execute()
    const order: string[] = []
    const host = place.parts.host as { -readonly [Call in keyof Host]: Host[Call] }
    const { openExports } = host
    host.closeExports = async (_id, key, outcome) => void order.push(`${key} ${outcome}`)
    host.openExports = (id, key, ...rest) => {
      order.push(`${key} open`)
      return openExports(id, key, ...rest)
    }
    const second = await capture('two')
    // Opened once to be measured and once to be read.
    const { taskId } = second
    const wanted = [`${first.taskId} taken`, `${taskId} open`, `${taskId} open`, `${taskId} taken`]
    assert.deepEqual(order, wanted)
  })

  test('one that fails leaves the baseline as it was', async () => {
    const first = await capture('one')
    place.stores.gates.set('write', async () => {
      throw new Fault('full', 'No space.', { subject: 'store' })
    })
    const failed = await capture('two')
    assert.equal(failed.state, 'failed')
    assert.equal((await baseline())?.captureKey, first.taskId)
    assert.deepEqual(closed, ['taken', 'given-up'])
  })

  test('tasks of before there were snapshots go on', async () => {
    const imageId = await place.image('old', { state: 'creating' })
    const input = { imageId, machineId, diskIds: [diskId] }
    const taskId = await place.begin({ kind: 'capture-image', imageId, machineId, input })
    assert.equal((await place.ended(taskId)).state, 'done')
    const image = await place.catalog.rows
      .selectFrom('image')
      .selectAll()
      .where('id', '=', imageId)
      .executeTakeFirst()
    assert.deepEqual(
      [image?.state, image?.osName, image?.consistency, image?.parent],
      ['available', 'Debian 12', 'filesystem', digestOf('base')],
    )
  })

  test('what is deleted while disks are opened is left out as well', async () => {
    for (const gate of ['measure', 'write']) {
      const ids = [
        await place.snapshot(machineId, 'stays', { state: 'creating' }),
        await place.snapshot(machineId, 'goes', { state: 'creating' }),
      ] as const
      place.stores.gates.set(gate, async () => {
        await place.catalog.rows.deleteFrom('snapshot').where('id', '=', ids[1]).execute()
      })
      const outputs = ids.map((id) => ({ is: 'snapshot', id, diskIds: [diskId] }))
      const input = { machineId, wanted: 'best', outputs }
      const taskId = await place.begin({ kind: 'create-snapshot', machineId, input })
      assert.deepEqual(await place.ended(taskId).then(({ state, reason }) => [state, reason]), ['done', null])
      place.stores.gates.delete(gate)
    }
  })

  test('what is deleted meanwhile is left out, and let go of; the rest is made', async () => {
    const ids = [
      await place.snapshot(machineId, 'stays', { state: 'creating' }),
      await place.snapshot(machineId, 'goes', { state: 'creating' }),
    ] as const
    const { rows } = place.catalog
    const outputs = ids.map((id) => ({ is: 'snapshot', id, diskIds: [diskId] }))
    const reached = Promise.withResolvers<void>()
    const opened = Promise.withResolvers<void>()
    place.stores.gates.set('write', () => {
      reached.resolve()
      return opened.promise
    })
    const taskId = await place.begin({
      kind: 'create-snapshot',
      machineId,
      input: { machineId, wanted: 'best', outputs },
    })
    await rows
      .updateTable('snapshot')
      .set({ taskId })
      .where('id', 'in', [...ids])
      .execute()
    await reached.promise
    const held = await rows.selectFrom('snapshot').selectAll().where('id', '=', ids[1]).execute()
    const removal = await place.catalog.transaction((inside) =>
      removeRows(inside, place.runner, { snapshot: held }),
    )
    assert.deepEqual([removal.idle, removal.releases.length], [[], 1])
    await seeTo(place.runner, removal)
    opened.resolve()
    assert.equal((await place.ended(taskId)).state, 'done')
    assert.equal((await place.ended(removal.releases[0] as TaskId)).state, 'done')
    assert.deepEqual(place.stores.holders('cn-hangzhou' as never), [ids[0]])
    const [left, ...none] = await rows.selectFrom('snapshot').selectAll().execute()
    assert.deepEqual([left?.id, left?.state, none.length], [ids[0], 'available', 0])
  })
})
