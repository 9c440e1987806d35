import assert from 'node:assert/strict'
import { test } from 'node:test'
import { newId } from '../image/ids.ts'
import { CaptureTools, saysWhyNot, sinceAll } from './capture-tools.ts'
import type { Host } from './contract.ts'
import {
  type HostFixture,
  isFaultOf,
  MEBIBYTE,
  makeMachine,
  never,
  requestOf,
  SECTOR_BYTES,
  until,
} from './suite-tools.ts'

/** What captures promise: which disks they show, and what need not be read again. */
export function capturePromises(starts: boolean, fixtureOf: () => HostFixture): void {
  const tools = new CaptureTools(fixtureOf)

  test('only the disks asked for are exported, in the order asked for; another request is another moment', async () => {
    const { host } = tools.fixture
    const spec = await makeMachine(tools.fixture)
    const [system, data] = spec.disks
    assert.ok(system && data)
    const both = requestOf(spec, { diskIds: [data.id, system.id] })
    const open = (request: typeof both) => host.openExports(spec.id, 'k', request, never())
    const exports = await open(both)
    assert.deepEqual(
      exports.disks.map((disk) => [disk.id, disk.sizeBytes, disk.changes, disk.changesWhy]),
      [
        [data.id, data.sizeBytes, undefined, ''],
        [system.id, system.sizeBytes, undefined, ''],
      ],
    )
    assert.equal((await open(both)).moment, 'same')
    const one = { ...both, diskIds: [data.id] }
    const alone = await open(one)
    assert.deepEqual([alone.moment, alone.disks.map((disk) => disk.id)], ['new', [data.id]])
    assert.equal((await open(one)).moment, 'same')
    assert.equal((await open({ ...one, since: { [data.id]: 'x1' } })).moment, 'new')
    assert.equal((await open({ ...one, since: { [data.id]: 'x1' } })).moment, 'same')
    await host.closeExports(spec.id, 'k', 'given-up')
    await host.ensureGone(spec.id, never())
    assert.deepEqual(await tools.fixture.leftovers(spec.id), [])
  })

  test('a capture that the host knows nothing of tells no changes, and why', async () => {
    const { host } = tools.fixture
    const spec = await makeMachine(tools.fixture)
    const request = requestOf(spec, { since: sinceAll(spec, 'never') })
    const exports = await host.openExports(spec.id, 'k', request, never())
    for (const disk of exports.disks) saysWhyNot(disk)
    await host.closeExports(spec.id, 'k', 'taken')
    await host.ensureGone(spec.id, never())
  })

  test('captures of disks at rest: what is called unchanged is unchanged, else it is said why', async () => {
    const { host, bootDisk } = tools.fixture
    const spec = await makeMachine(tools.fixture)
    const before = await tools.contentsOf(await host.openExports(spec.id, 'k1', requestOf(spec), never()))
    await host.closeExports(spec.id, 'k1', 'taken')
    const request = requestOf(spec, { since: sinceAll(spec, 'k1') })
    const exports = await host.openExports(spec.id, 'k2', request, never())
    const base = Buffer.concat([bootDisk(3 * MEBIBYTE), Buffer.alloc(MEBIBYTE)])
    for (const [index, disk] of exports.disks.entries()) {
      if (disk.changes === undefined) saysWhyNot(disk)
      else assert.equal(await tools.changedBytes(disk, before[index]), 0)
      if (disk.own !== undefined) assert.equal(await tools.differingBytes(disk, disk.own, base), 0)
    }
    await host.ensureGone(spec.id, never())
    assert.deepEqual(await tools.fixture.leftovers(spec.id), [])
  })

  if (!starts) return

  test('a chain of captures: what is called unchanged is unchanged; one given up loses nothing', async () => {
    const { host, bootDisk } = tools.fixture
    const spec = await tools.startedMachine()
    const open = (driver: Host, key: string, since?: string) =>
      driver.openExports(
        spec.id,
        key,
        requestOf(spec, since === undefined ? {} : { since: sinceAll(spec, since) }),
        never(),
      )
    await tools.fill(host, spec, 0, 70, 'a')
    const first = await open(host, 'k1')
    const [system, data] = first.disks
    assert.ok(system && data)
    assert.equal(data.own, undefined, 'all of a disk without a base is its own')
    const base = Buffer.concat([bootDisk(3 * MEBIBYTE), Buffer.alloc(MEBIBYTE)])
    assert.ok(system.own)
    const ownBytes = await tools.differingBytes(system, system.own, base)
    assert.ok(ownBytes >= SECTOR_BYTES && ownBytes <= MEBIBYTE, `${ownBytes} bytes of its own`)
    const [system1, data1] = await tools.contentsOf(first)
    await host.closeExports(spec.id, 'k1', 'taken')
    await host.closeExports(spec.id, 'k1', 'taken')
    await host.closeExports(spec.id, 'k1', 'given-up')

    await tools.fill(host, spec, 0, 71, 'b')
    const second = await open(host, 'k2', 'k1')
    await tools.fill(host, spec, 0, 72, 'c')
    await tools.fill(host, spec, 1, 73, 'd')
    const changed = await tools.changedBytes(second.disks[0], system1)
    assert.ok(changed >= SECTOR_BYTES && changed <= MEBIBYTE, `${changed} bytes changed`)
    assert.equal(await tools.changedBytes(second.disks[1], data1), 0)
    const other = await tools.fixture.reopen()
    assert.equal((await open(other, 'k2', 'k1')).moment, 'same')
    await other.closeExports(spec.id, 'k2', 'given-up')

    // Writes from before the capture that was given up, and from during it.
    const third = await open(other, 'k3', 'k1')
    const [system3, data3] = await tools.contentsOf(third)
    assert.equal(system3?.toString('latin1', 71 * SECTOR_BYTES, 71 * SECTOR_BYTES + 1), 'b')
    assert.equal(data3?.toString('latin1', 73 * SECTOR_BYTES, 73 * SECTOR_BYTES + 1), 'd')
    for (const bytes of [
      await tools.changedBytes(third.disks[0], system1),
      await tools.changedBytes(third.disks[1], data1),
    ])
      assert.ok(bytes >= SECTOR_BYTES && bytes <= MEBIBYTE, `${bytes} bytes changed`)
    await tools.fill(other, spec, 1, 74, 'e')
    await other.closeExports(spec.id, 'k3', 'taken')

    const fourth = await open(other, 'k4', 'k3')
    assert.equal(await tools.changedBytes(fourth.disks[0], system3), 0)
    assert.ok((await tools.changedBytes(fourth.disks[1], data3)) >= SECTOR_BYTES)
    const [system4, data4] = await tools.contentsOf(fourth)
    await other.closeExports(spec.id, 'k4', 'taken')

    for (const old of ['k1', 'k2', 'k3']) {
      const exports = await open(other, 'k5', old)
      for (const disk of exports.disks) saysWhyNot(disk)
      await other.closeExports(spec.id, 'k5', 'given-up')
    }
    const last = await open(host, 'k6', 'k4')
    assert.equal(await tools.changedBytes(last.disks[0], system4), 0)
    assert.equal(await tools.changedBytes(last.disks[1], data4), 0)
    await host.closeExports(spec.id, 'k6', 'given-up')

    // Another request under the same key gives up the moment of the first.
    await open(host, 'k7', 'k4')
    await tools.fill(host, spec, 1, 75, 'f')
    const weaker = requestOf(spec, { since: sinceAll(spec, 'k4'), consistency: 'crash' })
    const renewed = await host.openExports(spec.id, 'k7', weaker, never())
    assert.equal(renewed.moment, 'new')
    assert.ok((await tools.changedBytes(renewed.disks[1], data4)) >= SECTOR_BYTES)
    await host.closeExports(spec.id, 'k7', 'given-up')
    await other.close()
    await host.ensureGone(spec.id, never())
    assert.deepEqual(await tools.fixture.leftovers(spec.id), [])
  })

  test('each disk has a chain of its own', async () => {
    const { host } = tools.fixture
    const spec = await tools.startedMachine()
    const [system, data] = spec.disks
    assert.ok(system && data)
    const capture = async (key: string, since: Record<string, string>, diskIds = [system.id, data.id]) => {
      const exports = await host.openExports(spec.id, key, requestOf(spec, { diskIds, since }), never())
      return exports.disks
    }
    const [one] = await capture('k1', {}, [system.id])
    assert.ok(one)
    const system1 = await tools.contentOf(one)
    await host.closeExports(spec.id, 'k1', 'taken')
    await tools.fill(host, spec, 1, 70, 'a')

    const [system2, data2] = await capture('k2', { [system.id]: 'k1' })
    assert.ok(data2)
    assert.equal(await tools.changedBytes(system2, system1), 0)
    assert.deepEqual([data2.changes, data2.changesWhy], [undefined, ''])
    const dataContent = await tools.contentOf(data2)
    await host.closeExports(spec.id, 'k2', 'taken')

    await tools.fill(host, spec, 0, 71, 'b')
    await tools.fill(host, spec, 1, 72, 'c')
    const [data3] = await capture('k3', { [data.id]: 'k2' }, [data.id])
    assert.ok(data3)
    assert.ok((await tools.changedBytes(data3, dataContent)) >= SECTOR_BYTES)
    const data3Content = await tools.contentOf(data3)
    await host.closeExports(spec.id, 'k3', 'taken')

    const [systemWrong, dataOld] = await capture('k4', { [system.id]: 'k3', [data.id]: 'k2' })
    saysWhyNot(systemWrong)
    saysWhyNot(dataOld)
    await host.closeExports(spec.id, 'k4', 'given-up')

    const [system5, data5] = await capture('k5', { [system.id]: 'k2', [data.id]: 'k3' })
    assert.ok((await tools.changedBytes(system5, system1)) >= SECTOR_BYTES)
    assert.equal(await tools.changedBytes(data5, data3Content), 0)
    await host.ensureGone(spec.id, never())
    assert.deepEqual(await tools.fixture.leftovers(spec.id), [])
  })

  test('what was written is remembered over a shutdown and a start, and noted while stopped', async () => {
    const { host } = tools.fixture
    const spec = await tools.startedMachine()
    const open = (key: string, since: string) =>
      host.openExports(spec.id, key, requestOf(spec, { since: sinceAll(spec, since) }), never())
    const first = await host.openExports(spec.id, 'k1', requestOf(spec), never())
    const [system1, data1] = await tools.contentsOf(first)
    await host.closeExports(spec.id, 'k1', 'taken')
    await tools.fill(host, spec, 0, 70, 'a')
    await host.ensureStopped(spec.id, 'graceful', never())

    const given = await open('k2', 'k1')
    assert.equal(given.pausedMs, 0)
    assert.ok((await tools.changedBytes(given.disks[0], system1)) >= SECTOR_BYTES)
    assert.equal(await tools.changedBytes(given.disks[1], data1), 0)
    await host.closeExports(spec.id, 'k2', 'given-up')

    const still = await open('k3', 'k1')
    const changed = await tools.changedBytes(still.disks[0], system1)
    assert.ok(changed >= SECTOR_BYTES && changed <= MEBIBYTE, `${changed} bytes changed`)
    const [system3, data3] = await tools.contentsOf(still)
    await host.closeExports(spec.id, 'k3', 'taken')

    await tools.start(host, spec)
    await tools.fill(host, spec, 1, 80, 'b')
    const live = await open('k4', 'k3')
    assert.equal(await tools.changedBytes(live.disks[0], system3), 0)
    assert.ok((await tools.changedBytes(live.disks[1], data3)) >= SECTOR_BYTES)
    await host.closeExports(spec.id, 'k4', 'taken')
    await host.ensureGone(spec.id, never())
    assert.deepEqual(await tools.fixture.leftovers(spec.id), [])
  })

  test('after a killed hypervisor nothing is called unchanged, until the next capture was taken', async () => {
    const { host, guest, bootDisk } = tools.fixture
    assert.ok(guest)
    const spec = await tools.startedMachine()
    const open = (key: string, since: string) =>
      host.openExports(spec.id, key, requestOf(spec, { since: sinceAll(spec, since) }), never())
    // Before a capture, which flushes: what comes after may be lost with the hypervisor.
    await tools.fill(host, spec, 0, 69, 'a')
    await host.openExports(spec.id, 'k1', requestOf(spec), never())
    await host.closeExports(spec.id, 'k1', 'taken')
    await tools.fill(host, spec, 0, 70, 'a')
    await guest.crash(spec.id)
    await until('the machine to be stopped', async () => (await host.power(spec.id)) === 'stopped')

    const after = await open('k2', 'k1')
    for (const disk of after.disks) saysWhyNot(disk)
    const [system] = after.disks
    assert.ok(system?.own)
    const base = Buffer.concat([bootDisk(3 * MEBIBYTE), Buffer.alloc(MEBIBYTE)])
    assert.ok((await tools.differingBytes(system, system.own, base)) >= SECTOR_BYTES)
    const [system2, data2] = await tools.contentsOf(after)
    await host.closeExports(spec.id, 'k2', 'taken')

    await tools.start(host, spec)
    await tools.fill(host, spec, 1, 71, 'b')
    const again = await open('k3', 'k2')
    assert.equal(await tools.changedBytes(again.disks[0], system2), 0)
    assert.ok((await tools.changedBytes(again.disks[1], data2)) >= SECTOR_BYTES)

    // And killed while a capture is open.
    await guest.crash(spec.id)
    await until('the machine to be stopped', async () => (await host.power(spec.id)) === 'stopped')
    await host.closeExports(spec.id, 'k3', 'taken')
    const late = await open('k4', 'k3')
    for (const disk of late.disks) saysWhyNot(disk)
    await host.closeExports(spec.id, 'k4', 'given-up')
    await host.ensureGone(spec.id, never())
    assert.deepEqual(await tools.fixture.leftovers(spec.id), [])
  })

  test('a disk that a capture does not know is absent', async () => {
    const { host } = tools.fixture
    const spec = await makeMachine(tools.fixture)
    const request = requestOf(spec, { diskIds: [newId('disk')] })
    await assert.rejects(host.openExports(spec.id, 'k', request, never()), isFaultOf('absent'))
    await host.openExports(spec.id, 'k2', requestOf(spec), never())
    await host.ensureGone(spec.id, never())
  })
}
