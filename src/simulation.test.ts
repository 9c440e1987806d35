import assert from 'node:assert/strict'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { memoryDisk } from './disk/memory-disk.ts'
import { openNbd } from './disk/nbd-client.ts'
import { serveNbd } from './disk/nbd-server.ts'
import { newId } from './image/ids.ts'
import { createSimulation } from './simulation.ts'

const PAGE_BYTES = 4096
const SIZE_BYTES = 16 * PAGE_BYTES
const signal = new AbortController().signal

test("what changed, and what is a machine's own, is told over NBD", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'simulation-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  const socketPath = join(folder, 'base.sock')
  const baseBytes = 8 * PAGE_BYTES
  const server = await serveNbd({
    listen: { socketPath },
    resolve: async () => memoryDisk(Buffer.alloc(baseBytes, 1)),
  })
  t.after(() => server.close())
  const host = createSimulation(folder)
  const base = { socketPath, exportName: 'x', sizeBytes: baseBytes }
  const disk = { id: newId('disk'), sizeBytes: SIZE_BYTES, bus: 'virtio-blk', base } as const
  const id = newId('machine')
  const memoryBytes = 1 << 20
  await host.ensureMachine(
    { id, name: 'm', cpuCount: 1, memoryBytes, firmware: 'bios', disks: [disk] },
    signal,
  )
  await host.ensureStarted(id, signal)
  const write = (page: number) => host.writeConsole(id, Buffer.from(`write 0 ${page * PAGE_BYTES} abc\n`))
  await write(2)
  const ask = { diskIds: [disk.id], consistency: 'best' } as const
  await host.openExports(id, 'k1', { ...ask, since: {} }, signal)
  await host.closeExports(id, 'k1', 'taken')
  await write(5)
  await write(9)

  const { disks } = await host.openExports(id, 'k2', { ...ask, since: { [disk.id]: 'k1' } }, signal)
  const [exported] = disks
  assert.ok(exported?.changes && exported.own)
  const { changes, own, mapName } = exported
  const contexts = [changes.name, own.name]
  const client = await openNbd({ socketPath: exported.socketPath, exportName: mapName }, { contexts })
  const pagesOf = async (context: string) =>
    (await client.statuses(context, 0, SIZE_BYTES)).map((run) => [
      run.offset / PAGE_BYTES,
      run.lengthBytes / PAGE_BYTES,
      run.status,
    ])
  assert.deepEqual(await pagesOf(changes.name), [
    [0, 5, 0],
    [5, 1, 1],
    [6, 3, 0],
    [9, 1, 1],
    [10, 6, 0],
  ])
  assert.deepEqual(await pagesOf(own.name), [
    [0, 2, 2],
    [2, 1, 1],
    [3, 2, 2],
    [5, 1, 1],
    [6, 2, 2],
    [8, 1, 0],
    [9, 1, 1],
    [10, 6, 0],
  ])
  assert.equal((await client.read(5 * PAGE_BYTES, 4)).toString('latin1'), 'abc\x01')
  await client.close()
  await host.closeExports(id, 'k2', 'given-up')
  await host.ensureGone(id, signal)
  assert.deepEqual(await readdir(folder), ['base.sock'])
})
