import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { newId } from '../../image/ids.ts'
import { bootDisk } from '../boot-guest.ts'
import { CONSOLE_KEPT_BYTES, type DiskBus, type Host } from '../contract.ts'
import { RealPlace } from '../fixture.ts'
import {
  diskOf,
  type HostFixture,
  hostSuite,
  isFaultOf,
  MEBIBYTE,
  never,
  requestOf,
  said,
  specOf,
  until,
  untilSaid,
} from '../suite.ts'
import { findProcess } from '../tools/processes.ts'
import { cutConsoleLog } from './console.ts'
import { createQemuHost } from './host.ts'
import { Qmp } from './qmp.ts'

const BANNER = 'up\n'
/** 64 workers, the most that the settings allow, and the reader of the map. */
const READER_COUNT_MAX = 65

async function open(place: RealPlace): Promise<Host> {
  const host = await createQemuHost({
    directory: place.machines,
    runDirectory: place.run,
    acceleration: 'tcg',
    graceMs: 20_000,
    log: () => {},
  })
  place.hosts.push(host)
  return host
}

/** Types a command of the boot guest and waits for its answer. */
async function ask(host: Host, id: Parameters<Host['power']>[0], text: string, answer: string) {
  const { length } = await said(host, id)
  await host.writeConsole(id, Buffer.from(text))
  await untilSaid(host, id, answer, length)
}

function fill(host: Host, id: Parameters<Host['power']>[0], disk: number, sector: number, character: string) {
  return ask(host, id, `w${disk}${String.fromCharCode(sector)}${character}`, ' ok\n')
}

async function crash(place: RealPlace, id: string): Promise<void> {
  const pid = await findProcess(join(place.machines, id, 'qemu.pid'))
  assert.ok(pid)
  process.kill(pid, 'SIGKILL')
}

async function make(): Promise<HostFixture> {
  const place = await RealPlace.make()
  return {
    ...place.around(),
    host: await open(place),
    reopen: () => open(place),
    bootDisk,
    guest: { banner: BANNER, fill, crash: (id) => crash(place, id) },
    close: () => place.close(),
  }
}

hostSuite('qemu', true, make)

const BUSES: readonly (readonly [DiskBus, DiskBus])[] = [
  ['virtio-blk', 'virtio-blk'],
  ['virtio-scsi', 'virtio-scsi'],
]
for (const buses of BUSES) {
  test(`a live capture of two ${buses[0]} disks holds still while the guest writes`, async (t) => {
    const place = await RealPlace.make()
    t.after(() => place.close())
    const host = await open(place)
    const { base } = await place.serveBase(bootDisk(MEBIBYTE))
    const spec = specOf([diskOf(buses[0], 4 * MEBIBYTE, base), diskOf(buses[1], 4 * MEBIBYTE)])
    await host.ensureMachine(spec, never())
    await host.ensureStarted(spec.id, never())
    await untilSaid(host, spec.id, BANNER)
    for (const disk of [0, 1]) await fill(host, spec.id, disk, 90, 'a')
    const exports = await host.openExports(spec.id, 'live', requestOf(spec), never())
    t.diagnostic(`paused ${exports.pausedMs} ms`)
    for (const disk of [0, 1]) await fill(host, spec.id, disk, 90, 'b')
    for (const disk of exports.disks) {
      const bytes = await place.readExport(disk, 90 * 512, 512)
      assert.ok(bytes.equals(Buffer.alloc(512, 'a')))
    }
    await host.closeExports(spec.id, 'live', 'given-up')
    for (const disk of [0, 1]) await ask(host, spec.id, `r${disk}Z`, 'b ok\n')
    const qmp = await Qmp.open(join(place.run, `${spec.id}.q`))
    const nodes = (await qmp.execute('query-named-block-nodes', { flat: true })) as { 'node-name': string }[]
    qmp.close()
    const named = nodes.map((node) => node['node-name']).filter((name) => !name.startsWith('#'))
    assert.deepEqual(named.sort(), ['d0', 'd0-base', 'd1'])
  })
}

test('the map of a live export tells zeroes of the base from data', async (t) => {
  const place = await RealPlace.make()
  t.after(() => place.close())
  const host = await open(place)
  const { base } = await place.serveBase(bootDisk(MEBIBYTE))
  const spec = specOf([diskOf('virtio-blk', 4 * MEBIBYTE, base)])
  await host.ensureMachine(spec, never())
  await host.ensureStarted(spec.id, never())
  await untilSaid(host, spec.id, BANNER)
  const [disk] = (await host.openExports(spec.id, 'live', requestOf(spec), never())).disks
  assert.ok(disk)
  const map = { ...disk, exportName: disk.mapName }
  const bytes = await place.readExport(map, 0, 4 * MEBIBYTE)
  assert.ok(bytes.subarray(0, MEBIBYTE).equals(bootDisk(MEBIBYTE)))
  assert.ok(bytes.subarray(MEBIBYTE).equals(Buffer.alloc(3 * MEBIBYTE)))
})

test('a guest waits for a base server that is killed, and goes on when it is back', async (t) => {
  const place = await RealPlace.make()
  t.after(() => place.close())
  const host = await open(place)
  const content = bootDisk(MEBIBYTE)
  content.fill('c', 100 * 512, 101 * 512)
  const server = await place.serveBase(content)
  const spec = specOf([diskOf('virtio-blk', 4 * MEBIBYTE, server.base)])
  await host.ensureMachine(spec, never())
  await host.ensureStarted(spec.id, never())
  await untilSaid(host, spec.id, BANNER)
  await server.stop()
  const { length } = await said(host, spec.id)
  await host.writeConsole(spec.id, Buffer.from('r0d'))
  await server.start()
  await untilSaid(host, spec.id, 'c ok\n', length)
  assert.equal(await host.power(spec.id), 'running')
})

test('half a capture that a crash left is taken away, and a guest left standing goes on', async (t) => {
  const place = await RealPlace.make()
  t.after(() => place.close())
  const host = await open(place)
  const { base } = await place.serveBase(bootDisk(MEBIBYTE))
  const spec = specOf([diskOf('virtio-blk', 4 * MEBIBYTE, base)])
  await host.ensureMachine(spec, never())
  await host.ensureStarted(spec.id, never())
  await untilSaid(host, spec.id, BANNER)
  await host.openExports(spec.id, 'live', requestOf(spec), never())
  const record = join(place.machines, spec.id, 'exports', 'live.json')
  await writeFile(record, (await readFile(record, 'utf8')).replace('"open"', '"opening"'))
  const qmp = await Qmp.open(join(place.run, `${spec.id}.q`))
  const exported = (await qmp.execute('query-block-exports')) as { id: string }[]
  await qmp.execute('block-export-del', { id: exported[0]?.id, mode: 'hard' })
  await qmp.execute('stop')
  qmp.close()
  const next = await open(place)
  await fill(next, spec.id, 0, 65, 'x')
  assert.equal((await next.openExports(spec.id, 'live', requestOf(spec), never())).moment, 'new')
  await next.closeExports(spec.id, 'live', 'given-up')
  assert.deepEqual(await readdir(join(place.machines, spec.id, 'exports')), [])
  assert.ok(!(await readdir(join(place.machines, spec.id))).some((name) => name.startsWith('scratch')))
  await ask(next, spec.id, 'r0A', 'x ok\n')
})

test('a guest outlives the process that started it, killed with its whole session', async (t) => {
  const place = await RealPlace.make()
  t.after(() => place.close())
  const { base } = await place.serveBase(bootDisk(MEBIBYTE))
  const spec = specOf([diskOf('virtio-blk', 4 * MEBIBYTE, base)])
  const options = { directory: place.machines, runDirectory: place.run, acceleration: 'tcg', graceMs: 1_000 }
  const code = `
    const { createQemuHost } = await import(${JSON.stringify(import.meta.resolve('./host.ts'))})
    const host = await createQemuHost({ ...${JSON.stringify(options)}, log() {} })
    const spec = ${JSON.stringify(spec)}
    await host.ensureMachine(spec, new AbortController().signal)
    await host.ensureStarted(spec.id, new AbortController().signal)
    console.log('started')
    setInterval(() => {}, 1000)`
  const server = spawn(process.execPath, ['--input-type=module', '-e', code], { detached: true })
  const { pid } = server
  assert.ok(pid)
  await once(server.stdout, 'data')
  process.kill(-pid, 'SIGKILL')
  await once(server, 'exit')
  const host = await open(place)
  assert.equal(await host.power(spec.id), 'running')
  await untilSaid(host, spec.id, BANNER)
  await fill(host, spec.id, 0, 65, 'x')
  await ask(host, spec.id, 'r0A', 'x ok\n')
})

test('a guest that powers itself off is stopped, whoever watched', async (t) => {
  const place = await RealPlace.make()
  t.after(() => place.close())
  const host = await open(place)
  const { base } = await place.serveBase(bootDisk(MEBIBYTE))
  const spec = specOf([diskOf('virtio-blk', 4 * MEBIBYTE, base)])
  await host.ensureMachine(spec, never())
  await host.ensureStarted(spec.id, never())
  await untilSaid(host, spec.id, BANNER)
  await host.writeConsole(spec.id, Buffer.from('q'))
  const other = await open(place)
  await until('the guest to be off', async () => (await other.power(spec.id)) === 'stopped')
  assert.equal((await other.openExports(spec.id, 'k', requestOf(spec), never())).pausedMs, 0)
})

test('a base that nobody serves, or firmware that is not installed, is told and leaves nothing', async (t) => {
  const place = await RealPlace.make()
  t.after(() => place.close())
  const host = await createQemuHost({
    directory: place.machines,
    runDirectory: place.run,
    acceleration: 'tcg',
    graceMs: 1_000,
    log: () => {},
    uefiFolders: [place.directory],
  })
  place.hosts.push(host)
  const uefi = { ...specOf([diskOf('virtio-blk', MEBIBYTE)]), firmware: 'uefi' } as const
  await assert.rejects(host.ensureMachine(uefi, never()), isFaultOf('invalid'))
  assert.equal(await host.power(uefi.id), 'absent')
  const server = await place.serveBase(bootDisk(MEBIBYTE))
  await server.stop()
  const lost = specOf([diskOf('virtio-blk', MEBIBYTE, server.base)])
  await host.ensureMachine(lost, never())
  const abort = new AbortController()
  const starting = host.ensureStarted(lost.id, abort.signal)
  await until('QEMU to wait for the base', async () => (await place.leftovers(lost.id)).length > 3)
  abort.abort()
  await assert.rejects(starting)
  assert.equal(await host.power(lost.id), 'stopped')
  await host.ensureGone(lost.id, never())
  assert.deepEqual(await place.leftovers(lost.id), [])
  assert.equal(await host.power(newId('machine')), 'absent')
})

test('a machine whose record is damaged is listed, can be stopped and can go, running or captured', async (t) => {
  const place = await RealPlace.make()
  t.after(() => place.close())
  const host = await open(place)
  const specs = [0, 1, 2].map(() => specOf([diskOf('virtio-blk', MEBIBYTE)]))
  const [running, captured, stopped] = specs
  assert.ok(running && captured && stopped)
  for (const spec of specs) await host.ensureMachine(spec, never())
  for (const spec of [running, stopped]) await host.ensureStarted(spec.id, never())
  await host.openExports(running.id, 'live', requestOf(running), never())
  await host.openExports(captured.id, 'still', requestOf(captured), never())
  for (const spec of specs) await writeFile(join(place.machines, spec.id, 'spec.json'), 'damaged')
  await writeFile(join(place.machines, captured.id, 'exports', 'still.json'), 'damaged')
  // Names that only look like machines.
  await writeFile(join(place.machines, newId('machine')), '')
  await mkdir(join(place.machines, newId('machine')))
  assert.deepEqual(await host.list(), specs.map((spec) => spec.id).sort())
  assert.equal(await host.power(running.id), 'running')
  await assert.rejects(host.ensureStopped(stopped.id, 'power', never()), isFaultOf('corrupt'))
  assert.equal(await host.power(stopped.id), 'stopped')
  for (const spec of specs) {
    await host.ensureGone(spec.id, never())
    assert.deepEqual(await place.leftovers(spec.id), [])
    assert.equal(await host.power(spec.id), 'absent')
  }
})

async function statusOf(place: RealPlace, id: string, command?: 'stop' | 'cont'): Promise<string> {
  const qmp = await Qmp.open(join(place.run, `${id}.q`))
  if (command !== undefined) await qmp.execute(command)
  const { status } = (await qmp.execute('query-status')) as { status: string }
  qmp.close()
  return status
}

test('a guest that stands still is captured without a pause, and left standing', async (t) => {
  const place = await RealPlace.make()
  t.after(() => place.close())
  const host = await open(place)
  const { base } = await place.serveBase(bootDisk(MEBIBYTE))
  const spec = specOf([diskOf('virtio-blk', 4 * MEBIBYTE, base)])
  await host.ensureMachine(spec, never())
  await host.ensureStarted(spec.id, never())
  await untilSaid(host, spec.id, BANNER)
  await fill(host, spec.id, 0, 65, 'a')
  assert.equal(await statusOf(place, spec.id, 'stop'), 'paused')
  const exports = await host.openExports(spec.id, 'live', requestOf(spec), never())
  assert.equal(exports.pausedMs, 0)
  assert.equal(await statusOf(place, spec.id), 'paused')
  assert.equal(await statusOf(place, spec.id, 'cont'), 'running')
  await fill(host, spec.id, 0, 65, 'b')
  const [disk] = exports.disks
  assert.ok(disk)
  assert.equal((await place.readExport(disk, 65 * 512, 1)).toString(), 'a')
  await statusOf(place, spec.id, 'stop')
  await host.closeExports(spec.id, 'live', 'given-up')
  assert.equal(await statusOf(place, spec.id), 'paused')
  await statusOf(place, spec.id, 'cont')
  await ask(host, spec.id, 'r0A', 'b ok\n')
})

test('a machine whose start was interrupted before its monitor answered is waited for, not failed', async (t) => {
  const place = await RealPlace.make()
  t.after(() => place.close())
  const host = await open(place)
  const server = await place.serveBase(bootDisk(MEBIBYTE))
  await server.stop()
  const spec = specOf([diskOf('virtio-blk', 4 * MEBIBYTE, server.base)])
  await host.ensureMachine(spec, never())
  const first = host.ensureStarted(spec.id, never())
  await until('QEMU to wait for its base', async () => (await host.power(spec.id)) === 'running')
  // As after our end: another process finds the pid file and no monitor.
  const next = await open(place)
  const abort = new AbortController()
  const waiting = assert.rejects(next.ensureStarted(spec.id, abort.signal), { name: 'AbortError' })
  abort.abort()
  await waiting
  const second = next.ensureStarted(spec.id, never())
  await server.start()
  await Promise.all([first, second])
  await untilSaid(next, spec.id, BANNER)
  await host.ensureStopped(spec.id, 'power', never())

  // One that ends instead is started anew.
  await server.stop()
  const lost = assert.rejects(host.ensureStarted(spec.id, never()))
  await until('QEMU to wait for its base', async () => (await next.power(spec.id)) === 'running')
  const again = next.ensureStarted(spec.id, never())
  await crash(place, spec.id)
  await lost
  await server.start()
  await again
  assert.equal(await next.power(spec.id), 'running')
})

test('QEMU goes on at the right byte of a console log whose oldest part was cut off', async (t) => {
  const place = await RealPlace.make()
  t.after(() => place.close())
  const host = await open(place)
  const { base } = await place.serveBase(bootDisk(MEBIBYTE))
  const spec = specOf([diskOf('virtio-blk', 4 * MEBIBYTE, base)])
  await host.ensureMachine(spec, never())
  const log = join(place.machines, spec.id, 'console.log')
  const before = 32 * MEBIBYTE
  await writeFile(log, Buffer.alloc(before, 'x'))
  await host.ensureStarted(spec.id, never())
  await untilSaid(host, spec.id, BANNER, before)
  assert.ok((await cutConsoleLog(log, 0)) > 0)
  await host.writeConsole(spec.id, Buffer.from('q'))
  await host.writeConsole(spec.id, Buffer.from('q')).catch(() => {})
  await until('the guest to be off', async () => (await host.power(spec.id)) === 'stopped')
  await host.ensureStarted(spec.id, never())
  await untilSaid(host, spec.id, BANNER, before + BANNER.length)
  const { fromByte, bytes } = await host.readConsole(spec.id, 0)
  assert.ok(fromByte > before - CONSOLE_KEPT_BYTES && bytes.equals(Buffer.alloc(bytes.length, 'x')))
  const { size, blocks } = await stat(log)
  assert.ok(size < before + 100 && blocks * 512 < before - 8 * MEBIBYTE)
})

test('a disk, live or still, takes as many readers as any capture may have', async (t) => {
  const place = await RealPlace.make()
  t.after(() => place.close())
  const host = await open(place)
  const spec = specOf([diskOf('virtio-blk', MEBIBYTE)])
  await host.ensureMachine(spec, never())
  for (const key of ['still', 'live']) {
    if (key === 'live') await host.ensureStarted(spec.id, never())
    const [disk] = (await host.openExports(spec.id, key, requestOf(spec), never())).disks
    assert.ok(disk)
    const sockets = Array.from({ length: READER_COUNT_MAX }, () => connect(disk.socketPath))
    try {
      // The server speaks first, once it has taken the connection.
      const greetings = await Promise.all(sockets.map((socket) => once(socket, 'data')))
      for (const [bytes] of greetings) assert.equal(bytes.subarray(0, 8).toString(), 'NBDMAGIC')
    } finally {
      for (const socket of sockets) socket.destroy()
    }
    await host.closeExports(spec.id, key, 'given-up')
  }
})
