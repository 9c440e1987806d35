import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { isFault } from '../../image/fault.ts'
import { newId } from '../../image/ids.ts'
import type { DiskBus } from '../contract.ts'
import { diskOf, isFaultOf, MEBIBYTE, never, specOf, until } from '../suite.ts'
import { crashGuest, runsOf, TrialMachine, talk } from './capture-fixture.ts'

const TWO: readonly DiskBus[] = ['virtio-blk', 'virtio-scsi']
const PIECE_BYTES = 256 * 1024

test('a chain of captures by changes equals the disks, across captures given up, a shutdown and a restart of ours', async (t) => {
  const machine = await TrialMachine.make(t, TWO)
  await machine.start()
  const first = await machine.host.openExports(machine.id, 'K0', machine.request(), never())
  assert.ok(first.disks.every((disk) => disk.changes === undefined && disk.changesWhy === ''))
  await machine.host.closeExports(machine.id, 'K0', 'taken')
  await machine.isClean(['K0'])
  let held: Buffer[] = machine.content.map((bytes) => Buffer.from(bytes))
  let since = 'K0'

  /** Captures, while the guest writes on, and takes over what is told to have changed. */
  const capture = async (key: string, mostBytes: number) => {
    const wanted = machine.content.map((bytes) => Buffer.from(bytes))
    const exports = await machine.host.openExports(machine.id, key, machine.request(since), never())
    if ((await machine.host.power(machine.id)) === 'running') {
      await machine.write(0, 2 * MEBIBYTE, 4096, 77)
      await machine.write(1, 3 * MEBIBYTE, 4096, 78)
    }
    const [taken, readBytes] = await machine.readChanges(exports, held)
    assert.ok(taken.every((bytes, at) => bytes.equals(wanted[at] ?? Buffer.alloc(0))))
    assert.ok(readBytes <= mostBytes, `${readBytes}`)
    await machine.host.closeExports(machine.id, key, 'taken')
    await machine.isClean([key])
    held = taken
    since = key
  }

  await machine.write(0, 3 * PIECE_BYTES, PIECE_BYTES, 1)
  await machine.write(1, 100, 1000, 2)
  await capture('K1', 2 * PIECE_BYTES)
  await capture('K2', 2 * PIECE_BYTES)

  // What was written before and during one that is given up is told to the next.
  await machine.write(0, 5 * PIECE_BYTES, 512, 3)
  await machine.host.openExports(machine.id, 'L1', machine.request('K2'), never())
  await machine.write(0, 7 * PIECE_BYTES, 512, 4)
  await machine.host.closeExports(machine.id, 'L1', 'given-up')
  await machine.isClean(['K2'])
  await machine.reopen()
  await capture('K3', 4 * PIECE_BYTES)

  // One that did not ask for changes, given up, loses nothing either.
  await machine.write(1, 5 * PIECE_BYTES, 512, 5)
  await machine.host.openExports(machine.id, 'L2', machine.request(), never())
  await machine.host.closeExports(machine.id, 'L2', 'given-up')
  await machine.isClean(['K3'])

  // Across a shutdown, captured at rest and after the next start.
  await machine.shutDown()
  const still = await machine.host.openExports(machine.id, 'L3', machine.request('K3'), never())
  assert.equal(still.consistency, 'application')
  await machine.host.closeExports(machine.id, 'L3', 'given-up')
  await capture('K4', 4 * PIECE_BYTES)
  await machine.start()
  await machine.write(0, 9 * PIECE_BYTES, 512, 6)
  await capture('K5', 2 * PIECE_BYTES)

  // The guest ends in order while it is captured: either end of the capture is right afterwards.
  await machine.write(0, 10 * PIECE_BYTES, 512, 7)
  await machine.host.openExports(machine.id, 'L4', machine.request('K5'), never())
  await machine.write(0, 11 * PIECE_BYTES, 512, 8)
  await machine.shutDown()
  await machine.host.closeExports(machine.id, 'L4', 'given-up')
  await machine.isClean(['K5'])
  await machine.start()
  await machine.isClean(['K5'])
  await capture('K6', 4 * PIECE_BYTES)
  await machine.host.openExports(machine.id, 'K7', machine.request('K6'), never())
  const atMoment = machine.content.map((bytes) => Buffer.from(bytes))
  await machine.write(1, 13 * PIECE_BYTES, 512, 9)
  await machine.shutDown()
  await machine.host.closeExports(machine.id, 'K7', 'taken')
  await machine.start()
  await machine.isClean(['K7'])
  held = atMoment
  since = 'K7'
  await capture('K8', PIECE_BYTES)
})

test('after the hypervisor was killed nothing is told to be unchanged, and the next chain starts', async (t) => {
  const machine = await TrialMachine.make(t, TWO)
  await machine.start()
  const capture = async (key: string, since?: string) => {
    const exports = await machine.host.openExports(machine.id, key, machine.request(since), never())
    await machine.host.closeExports(machine.id, key, 'taken')
    return exports.disks.map((disk) => [disk.changes !== undefined, disk.changesWhy !== ''])
  }
  const told = [true, false]
  const untold = [false, true]
  await capture('K1')
  assert.deepEqual(await capture('K2', 'K1'), [told, told])
  // Known to the file, and so in use there when it is lost.
  await machine.shutDown()
  await machine.start()
  await machine.write(0, MEBIBYTE, 512, 1)
  await crashGuest(machine.place, machine.host, machine.id)
  assert.deepEqual(await capture('K3', 'K2'), [untold, untold])
  assert.deepEqual(await capture('K4', 'K3'), [told, told])
  await machine.start()
  await machine.isClean(['K4'])
  await crashGuest(machine.place, machine.host, machine.id)
  await machine.start()
  assert.deepEqual(await capture('K5', 'K4'), [untold, untold])
  // Never in the file.
  await crashGuest(machine.place, machine.host, machine.id)
  await machine.start()
  assert.deepEqual(await capture('K6', 'K5'), [untold, untold])
  // While it is captured; the service learns of it whenever it looks.
  await machine.host.openExports(machine.id, 'K7', machine.request('K6'), never())
  await crashGuest(machine.place, machine.host, machine.id)
  await machine.start()
  assert.deepEqual(await capture('K8', 'K6'), [untold, untold])
  assert.deepEqual(await capture('K9', 'another'), [untold, untold])
  await machine.isClean(['K9'])
})

test('eight disks on both buses are of one moment, and only those asked for are touched', async (t) => {
  const buses = Array.from({ length: 8 }, (_, at): DiskBus => (at % 2 === 0 ? 'virtio-blk' : 'virtio-scsi'))
  const machine = await TrialMachine.make(t, buses)
  await machine.start()
  for (const at of buses.keys()) await machine.write(at, MEBIBYTE, 4096, at + 1)
  const wanted = machine.content.map((bytes) => Buffer.from(bytes))
  const exports = await machine.host.openExports(machine.id, 'all', machine.request(), never())
  t.diagnostic(`paused ${exports.pausedMs} ms`)
  for (const at of buses.keys()) await machine.write(at, MEBIBYTE, 8192, 99)
  assert.ok((await machine.read(exports)).every((bytes, at) => bytes.equals(wanted[at] ?? Buffer.alloc(0))))
  await machine.host.closeExports(machine.id, 'all', 'taken')
  await machine.isClean(['all'])

  const [fourth, second] = [machine.diskId(3), machine.diskId(1)]
  const request = { ...machine.request(), diskIds: [fourth, second], since: { [fourth]: 'all' } }
  await machine.write(3, 0, 512, 5)
  const some = await machine.host.openExports(machine.id, 'some', request, never())
  assert.deepEqual(
    some.disks.map(({ id, changes }) => [id, changes !== undefined]),
    [
      [fourth, true],
      [second, false],
    ],
  )
  const names = await talk(machine.place, machine.id, async (qmp) =>
    ((await qmp.execute('query-named-block-nodes', { flat: true })) as { 'node-name': string }[])
      .map((node) => node['node-name'])
      .filter((name) => name.startsWith('filter-')),
  )
  assert.deepEqual(names.map((name) => name.at(-1)).sort(), ['1', '3'])
  await machine.host.closeExports(machine.id, 'some', 'given-up')
  await machine.isClean(['all'])
  const unknown = { ...request, diskIds: [newId('disk')] }
  await assert.rejects(
    machine.host.openExports(machine.id, 'none', unknown, never()),
    (error) => isFault(error, 'absent') && error.subject === 'disk',
  )
  await machine.isClean(['all'])
})

test("what is the machine's own over its base is told, running and at rest", async (t) => {
  const machine = await TrialMachine.make(t, TWO)
  await machine.start()
  await machine.write(0, MEBIBYTE, 4096, 1)
  await machine.write(0, 3 * MEBIBYTE + PIECE_BYTES, 4096, 0)
  for (const key of ['live', 'still']) {
    if (key === 'still') await machine.shutDown()
    const exports = await machine.host.openExports(machine.id, key, machine.request(), never())
    const [system, data] = exports.disks
    assert.ok(system?.own && data && data.own === undefined)
    if (key === 'live') await machine.write(0, 2 * MEBIBYTE, 4096, 2)
    const runs = await runsOf(machine.place, system, system.own)
    const isOwn = (offset: number) =>
      runs.some((run) => run.offset <= offset && offset < run.offset + run.lengthBytes)
    assert.ok(isOwn(MEBIBYTE))
    // Neither the base, nor what lies behind its end.
    assert.ok(!isOwn(MEBIBYTE + PIECE_BYTES) && !isOwn(4 * MEBIBYTE - 1))
    await machine.host.closeExports(machine.id, key, 'given-up')
  }
})

test('a disk gets other content in one step, and nothing of the old one is trusted', async (t) => {
  const machine = await TrialMachine.make(t, TWO)
  const { host, id, spec } = machine
  await machine.start()
  await machine.write(0, MEBIBYTE, 512, 1)
  await host.openExports(id, 'K1', machine.request(), never())
  await host.closeExports(id, 'K1', 'taken')
  const [system] = spec.disks
  assert.ok(system)
  await assert.rejects(host.replaceDisk(id, system, never()), isFaultOf('conflict'))
  await machine.shutDown()
  assert.equal((await host.outlook(id, never())).consistency, 'application')
  await host.openExports(id, 'K2', machine.request('K1'), never())
  await assert.rejects(host.replaceDisk(id, system, never()), isFaultOf('conflict'))
  await host.closeExports(id, 'K2', 'given-up')
  await assert.rejects(host.replaceDisk(id, diskOf('virtio-blk', MEBIBYTE), never()), isFaultOf('absent'))
  await assert.rejects(host.replaceDisk(newId('machine'), system, never()), isFaultOf('absent'))
  await assert.rejects(host.replaceDisk(id, system, AbortSignal.abort()))

  const fresh = Buffer.alloc(3 * MEBIBYTE, 'fresh')
  machine.content[0]?.subarray(0, 512).copy(fresh)
  const { base } = await machine.place.serveBase(fresh)
  for (const driver of [host, await machine.reopen().then(() => machine.host)])
    await driver.replaceDisk(id, { ...system, base }, never())
  // What a crash between the steps leaves: a new file that no record names, or an old one still there.
  for (const name of [`${system.id}.qcow2`, `${system.id}-7.qcow2`])
    await writeFile(join(machine.place.machines, id, name), '')
  await machine.host.ensureMachine(spec, never())
  await machine.isClean(['K1'], [0])
  assert.equal((await host.outlook(id, never())).consistency, 'crash')
  const exports = await host.openExports(id, 'K3', machine.request('K1'), never())
  assert.deepEqual(
    exports.disks.map((disk) => disk.changes !== undefined),
    [false, true],
  )
  const [bytes] = await machine.read(exports)
  assert.ok(bytes?.equals(Buffer.concat([fresh, Buffer.alloc(MEBIBYTE)])))
  await host.closeExports(id, 'K3', 'given-up')
  await machine.start()
  // To nothing at all.
  await host.ensureStopped(id, 'power', never())
  const { base: _, ...empty } = system
  await host.replaceDisk(id, empty, never())
  const emptied = await host.openExports(id, 'K4', machine.request(), never())
  assert.ok((await machine.read(emptied))[0]?.equals(Buffer.alloc(4 * MEBIBYTE)))
  await host.closeExports(id, 'K4', 'given-up')
  // The other disk's list of changes outlives a pulled plug.
  await machine.isClean(['K1'], [0])
})

test('where little is free the snapshot breaks, the guest goes on, and with nothing free none is made', async (t) => {
  let freeBytes = 2 * (4 * MEBIBYTE + 2 * MEBIBYTE)
  const machine = await TrialMachine.make(t, ['virtio-blk'], { freeBytes: async () => freeBytes })
  await machine.start()
  await machine.write(0, 0x1000, 4 * MEBIBYTE - 0x1000, 1)
  const exports = await machine.host.openExports(machine.id, 'small', machine.request(), never())
  // Room for 6 MiB with its tables holds what was there; for less it does not.
  await machine.write(0, 0x1000, 4 * MEBIBYTE - 0x1000, 2)
  const [bytes] = await machine.read(exports)
  assert.ok(bytes?.subarray(0x1000).equals(Buffer.alloc(4 * MEBIBYTE - 0x1000, 1)))
  await machine.host.closeExports(machine.id, 'small', 'given-up')
  freeBytes = 2 * 4 * MEBIBYTE
  const broken = await machine.host.openExports(machine.id, 'broken', machine.request(), never())
  await machine.write(0, 0x1000, 4 * MEBIBYTE - 0x1000, 3)
  await assert.rejects(machine.read(broken))
  assert.equal(await machine.host.power(machine.id), 'running')
  await machine.host.closeExports(machine.id, 'broken', 'given-up')
  await machine.isClean([])
  const whole = machine.content[0]
  freeBytes = 100 * MEBIBYTE
  const after = await machine.host.openExports(machine.id, 'after', machine.request(), never())
  assert.ok((await machine.read(after))[0]?.equals(whole ?? Buffer.alloc(0)))
  await machine.host.closeExports(machine.id, 'after', 'given-up')
  freeBytes = MEBIBYTE
  await assert.rejects(
    machine.host.openExports(machine.id, 'none', machine.request(), never()),
    isFaultOf('full'),
  )
  await machine.isClean([])
})

test('the scratch files of all captures together never take more than half of what is free', async (t) => {
  const freeBytes = 15 * MEBIBYTE
  const machine = await TrialMachine.make(t, ['virtio-blk'], { freeBytes: async () => freeBytes })
  const { host, id } = machine
  const other = { ...specOf([diskOf('virtio-blk', 4 * MEBIBYTE)]), id: newId('machine') }
  await host.ensureMachine(other, never())
  await machine.start()
  await host.ensureStarted(other.id, never())
  const request = { diskIds: other.disks.map((disk) => disk.id), since: {}, consistency: 'crash' } as const
  const opened = await Promise.allSettled([
    host.openExports(id, 'one', machine.request(), never()),
    host.openExports(other.id, 'two', request, never()),
  ])
  const refused = opened.filter((one) => one.status === 'rejected')
  assert.equal(refused.length, 1)
  assert.ok(isFault(refused[0]?.reason, 'full'))
  await host.closeExports(id, 'one', 'given-up')
  await host.closeExports(other.id, 'two', 'given-up')
  await host.openExports(id, 'one', machine.request(), never())
  await assert.rejects(host.openExports(other.id, 'two', request, never()), isFaultOf('full'))
  // One that has ended needs no more room.
  await host.ensureStopped(id, 'power', never())
  await host.openExports(other.id, 'two', request, never())
  await host.closeExports(other.id, 'two', 'given-up')
})

test('a consistency that cannot be had is refused with its reason, and nothing is left', async (t) => {
  const machine = await TrialMachine.make(t, TWO)
  const refused = (error: unknown) =>
    isFault(error, 'conflict') && error.subject === 'machine' && error.reason === 'consistency'
  const demand = async (key: string) => {
    const request = machine.request(undefined, 'filesystem')
    await assert.rejects(machine.host.openExports(machine.id, key, request, never()), refused)
  }
  await demand('stopped')
  await machine.isClean([])
  await machine.start()
  await demand('running')
  await machine.isClean([])
  const outlook = await machine.host.outlook(machine.id, never())
  assert.deepEqual([outlook.power, outlook.consistency], ['running', 'crash'])
  assert.match(outlook.consistencyWhy, /agent/)
  const crash = machine.request(undefined, 'crash')
  assert.equal((await machine.host.openExports(machine.id, 'K', crash, never())).moment, 'new')
  assert.equal((await machine.host.openExports(machine.id, 'K', crash, never())).moment, 'same')
  assert.equal((await machine.host.openExports(machine.id, 'K', machine.request(), never())).moment, 'new')
  await machine.host.closeExports(machine.id, 'K', 'given-up')
  await machine.isClean([])
  await machine.shutDown()
  const shut = await machine.host.openExports(
    machine.id,
    'S',
    machine.request(undefined, 'application'),
    never(),
  )
  assert.deepEqual([shut.consistency, shut.consistencyWhy, shut.frozenMs], ['application', '', 0])
  await machine.host.closeExports(machine.id, 'S', 'taken')
  await until(
    'no process to hold the disks',
    async () => (await machine.host.power(machine.id)) === 'stopped',
  )
})
