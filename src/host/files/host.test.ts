import assert from 'node:assert/strict'
import { mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { isFault } from '../../image/fault.ts'
import type { MachineId } from '../../image/ids.ts'
import { bootDisk } from '../boot-guest.ts'
import type { Host } from '../contract.ts'
import { RealPlace } from '../fixture.ts'
import {
  diskOf,
  type HostFixture,
  hostSuite,
  isFaultOf,
  MEBIBYTE,
  never,
  requestOf,
  specOf,
} from '../suite.ts'
import { runTool } from '../tools/run.ts'
import { createFilesHost } from './host.ts'
import { idOfName } from './operator-disks.ts'

async function open(place: RealPlace) {
  const host = await createFilesHost({ directory: place.machines, runDirectory: place.run })
  place.hosts.push(host)
  return host
}

async function make(): Promise<HostFixture> {
  const place = await RealPlace.make()
  return {
    ...place.around(),
    host: await open(place),
    reopen: () => open(place),
    bootDisk,
    close: () => place.close(),
  }
}

hostSuite('files', false, make)

/** Opens every disk of an operator's machine. */
async function openAll(host: Host, id: MachineId, since: Readonly<Record<string, string>> = {}) {
  const machine = (await host.found()).find((one) => one.id === id)
  const diskIds = machine?.disks.map((disk) => disk.id) ?? []
  return await host.openExports(id, 'k', { diskIds, since, consistency: 'best' }, never())
}

const qemuImg = (...args: string[]) =>
  runTool('qemu-img', args, { doing: 'Making a disk', package: 'qemu-utils', timeoutMs: 30_000 })

test('disk files of the operator are machines, read as they are and removed only when told', async (t) => {
  const place = await RealPlace.make()
  t.after(() => place.close())
  const host = await open(place)
  const content = Buffer.alloc(MEBIBYTE, 'abc')
  const folder = join(place.machines, 'web')
  await mkdir(folder)
  await writeFile(join(folder, '1-system.raw'), content)
  await writeFile(join(folder, 'note.txt'), 'no disk')
  await qemuImg('convert', '-f', 'raw', '-O', 'qcow2', join(folder, '1-system.raw'), join(folder, '2.qcow2'))
  await writeFile(join(place.machines, 'lone.img'), content)
  const web = idOfName<'machine'>('web')
  const lone = idOfName<'machine'>('lone.img')
  assert.deepEqual(await host.list(), [lone, web])
  assert.equal(await host.power(web), 'stopped')
  await writeFile(join(place.machines, 'broken.qcow2'), 'no qcow2')
  assert.deepEqual(
    (await host.found()).map(({ id, name, disks }) => [id, name, disks.map((disk) => disk.sizeBytes)]),
    [
      [lone, 'lone', [MEBIBYTE]],
      [web, 'web', [MEBIBYTE, MEBIBYTE]],
    ],
  )
  await rm(join(place.machines, 'broken.qcow2'))
  const exports = await openAll(host, web)
  assert.equal(exports.disks.length, 2)
  for (const disk of exports.disks) {
    assert.equal(disk.sizeBytes, MEBIBYTE)
    assert.ok((await place.readExport(disk, 0, MEBIBYTE)).equals(content))
  }
  assert.equal((await openAll(host, web)).moment, 'same')
  await host.closeExports(web, 'k', 'taken')
  await host.ensureGone(web, never())
  assert.deepEqual(await readdir(folder), ['note.txt'])
  await host.ensureGone(lone, never())
  assert.deepEqual(await host.list(), [])
})

test('of disk files of the operator no changes are told, and no other content is put into them', async (t) => {
  const place = await RealPlace.make()
  t.after(() => place.close())
  const host = await open(place)
  const content = Buffer.alloc(MEBIBYTE, 'abc')
  await writeFile(join(place.machines, 'lone.img'), content)
  await qemuImg('create', '-q', '-f', 'qcow2', join(place.machines, 'other.qcow2'), '1M')
  for (const name of ['lone.img', 'other.qcow2']) {
    const id = idOfName<'machine'>(name)
    await openAll(host, id)
    await host.closeExports(id, 'k', 'taken')
    const [machine] = (await host.found()).filter((one) => one.id === id)
    const [disk] = machine?.disks ?? []
    assert.ok(disk)
    const exports = await openAll(host, id, { [disk.id]: 'k' })
    const [exported] = exports.disks
    assert.deepEqual([exported?.changes, exported?.own], [undefined, undefined])
    assert.match(exported?.changesWhy ?? '', /operator/)
    assert.equal(exports.consistency, 'crash')
    const { power, consistency, consistencyWhy } = await host.outlook(id, never())
    assert.deepEqual([power, consistency, consistencyWhy], ['stopped', 'crash', exports.consistencyWhy])
    assert.notEqual(consistencyWhy, '')
    const next = { ...diskOf('virtio-blk', MEBIBYTE), id: disk.id }
    const isCapturing = (error: unknown) => isFault(error, 'conflict') && error.reason === 'capturing'
    await assert.rejects(host.replaceDisk(id, next, never()), isCapturing)
    await host.closeExports(id, 'k', 'given-up')
    const isTheirs = (error: unknown) => isFault(error, 'conflict') && error.reason === 'operator-disk'
    await assert.rejects(host.replaceDisk(id, next, never()), isTheirs)
    await assert.rejects(host.replaceDisk(id, diskOf('virtio-blk', MEBIBYTE), never()), isFaultOf('absent'))
  }
  assert.ok((await readFile(join(place.machines, 'lone.img'))).equals(content))
  for (const name of ['lone.img', 'other.qcow2']) await host.ensureGone(idOfName<'machine'>(name), never())
})

test('a disk file that refers to another file is refused', async (t) => {
  const place = await RealPlace.make()
  t.after(() => place.close())
  const host = await open(place)
  const raw = join(place.directory, 'secret')
  await writeFile(raw, Buffer.alloc(MEBIBYTE))
  const at = (name: string) => join(place.machines, name)
  await qemuImg('create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', raw, at('backed.qcow2'))
  await qemuImg('create', '-q', '-f', 'qcow2', '-o', `data_file=${raw}`, at('split.qcow2'), '1M')
  await writeFile(at('lie.qcow2'), Buffer.alloc(4096))
  for (const name of ['backed.qcow2', 'split.qcow2', 'lie.qcow2']) {
    const id = idOfName<'machine'>(name)
    await assert.rejects(openAll(host, id), isFaultOf('invalid'))
    await host.ensureGone(id, never())
  }
  assert.deepEqual(await place.leftovers(idOfName<'machine'>('backed.qcow2')), [])
})

test('a run directory too long for sockets is refused at once', async (t) => {
  const place = await RealPlace.make()
  t.after(() => place.close())
  const runDirectory = join(place.directory, 'x'.repeat(80))
  await assert.rejects(createFilesHost({ directory: place.machines, runDirectory }), isFaultOf('invalid'))
})

test('where qemu-nbd is not installed, raw disks are served by ourselves, and qcow2 ones say what is missing', async (t) => {
  const place = await RealPlace.make()
  t.after(() => place.close())
  const path = process.env.PATH
  t.after(() => {
    process.env.PATH = path
  })
  const served: string[] = []
  const host = await createFilesHost({
    directory: place.machines,
    runDirectory: place.run,
    serveRaw: async (file) => {
      served.push(file)
      return { close: async () => void served.pop() }
    },
  })
  place.hosts.push(host)
  await writeFile(join(place.machines, 'a.raw'), Buffer.alloc(MEBIBYTE, 1))
  await qemuImg('create', '-f', 'qcow2', join(place.machines, 'b.qcow2'), '1M')
  process.env.PATH = place.run
  const raw = idOfName<'machine'>('a.raw')
  await openAll(host, raw)
  assert.deepEqual(served, [join(place.machines, 'a.raw')])
  assert.equal((await openAll(host, raw)).moment, 'same')
  await host.closeExports(raw, 'k', 'taken')
  assert.deepEqual(served, [])
  await assert.rejects(openAll(host, idOfName<'machine'>('b.qcow2')), /qemu-utils/)
})

test('a disk that cannot be opened leaves its machine out, and a damaged record hides no other machine', async (t) => {
  const place = await RealPlace.make()
  t.after(() => place.close())
  const host = await open(place)
  const at = (...names: string[]) => join(place.machines, ...names)
  await writeFile(at('good.raw'), Buffer.alloc(MEBIBYTE))
  for (const name of ['dangling', 'folder', 'pipe', 'loop']) await mkdir(at(name))
  await symlink(at('nowhere'), at('dangling', 'x.qcow2'))
  await symlink(at('loop', 'x.raw'), at('loop', 'x.raw'))
  await mkdir(at('folder', 'x.qcow2'))
  await runTool('mkfifo', [at('pipe', 'x.raw')], { doing: 'Trying', package: 'coreutils', timeoutMs: 30_000 })
  assert.deepEqual(
    (await host.found()).map(({ name }) => name),
    ['good'],
  )
  for (const name of ['dangling', 'folder', 'pipe', 'loop'])
    await assert.rejects(openAll(host, idOfName<'machine'>(name)), isFaultOf('invalid'))

  const spec = specOf([diskOf('virtio-blk', MEBIBYTE)])
  await host.ensureMachine(spec, never())
  await host.openExports(spec.id, 'k', requestOf(spec), never())
  await writeFile(at(spec.id, 'spec.json'), '{}')
  await writeFile(at(spec.id, 'exports', 'k.json'), '{')
  assert.ok((await host.list()).includes(spec.id))
  assert.equal(await host.power(spec.id), 'stopped')
  assert.deepEqual(
    (await host.found()).map(({ name }) => name),
    ['good'],
  )
  await host.ensureGone(spec.id, never())
  assert.deepEqual(await place.leftovers(spec.id), [])
  await host.ensureGone(idOfName<'machine'>('good.raw'), never())
  for (const name of ['dangling', 'folder', 'pipe', 'loop']) await rm(at(name), { recursive: true })
})
