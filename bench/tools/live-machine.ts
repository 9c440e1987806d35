import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { GuestConsole } from '../../demo/guest.ts'
import { type Server, startServer } from '../../demo/server.ts'
import { waitForTask } from '../../demo/steps.ts'
import { Qmp } from '../../src/host/qemu/qmp.ts'
import { findId } from '../../src/image/ids.ts'
import type { ShownTask } from '../../src/wire/native/show.ts'

// A machine that runs under a server as a user has it, for the benches that capture it.

export const REGION = 'cn-hangzhou'

type Made = { readonly imageId: string; readonly taskId: string }

export function startLiveServer(scratch: string, importDirectory: string): Promise<Server> {
  return startServer({
    data: join(scratch, 'data'),
    listen: '127.0.0.1:0',
    importDirectory,
    environment: { CALOTYPE_HOST_ACCELERATION: 'tcg', CALOTYPE_HOST_GRACE_SECONDS: '0' },
  })
}

/** Waits for a task that must succeed; its length is what the catalog says, from the start to the end of its work. */
export async function taskDone(
  server: Server,
  id: string,
): Promise<ShownTask & { readonly seconds: number }> {
  const task = await waitForTask(server, id)
  if (task.state !== 'done') throw new Error(`${task.kind}: ${task.reason}`)
  return { ...task, seconds: ((task.endedAtMs ?? 0) - (task.startedAtMs ?? 0)) / 1000 }
}

export async function importDisk(server: Server, fileName: string, kind: 'base' | 'custom'): Promise<string> {
  const body = {
    region: REGION,
    fileName,
    name: `bench-${fileName.replace(/\W/g, '-')}`,
    kind,
    osType: 'Linux',
  }
  const made = await server.native.call<Made>('POST', '/v1/images/import', { body })
  await taskDone(server, made.taskId)
  return made.imageId
}

export interface LiveMachine {
  readonly id: string
  readonly console: GuestConsole
  /** Bytes that the guest has had written to a disk since it started. */
  writtenBytes(disk: number): Promise<number>
}

/** A machine of the image with one empty data disk, up. */
export async function launchLive(server: Server, imageId: string, dataBytes: number): Promise<LiveMachine> {
  const made = await server.native.call<{ machineIds: string[]; taskIds: string[] }>('POST', '/v1/machines', {
    body: {
      ...{ region: REGION, imageId, name: 'bench', cpuCount: 1, memoryBytes: 256 * 1024 ** 2 },
      dataDisks: [{ sizeBytes: dataBytes }],
    },
  })
  const [id = ''] = made.machineIds
  await taskDone(server, made.taskIds[0] ?? '')
  const console = new GuestConsole(server, { region: REGION }, id)
  await console.waitUntilUp()
  const core = findId('machine', id) ?? ''
  return {
    id,
    console,
    async writtenBytes(disk) {
      const monitor = await monitorOf(server, core)
      const qmp = await Qmp.open(monitor, 30_000)
      try {
        const stats = (await qmp.execute('query-blockstats')) as {
          readonly qdev?: string
          readonly stats: { readonly wr_bytes: number }
        }[]
        return stats.find(({ qdev }) => qdev?.includes(`disk${disk}`))?.stats.wr_bytes ?? Number.NaN
      } finally {
        qmp.close()
      }
    },
  }
}

/** Where its QEMU listens: the word after -qmp. */
async function monitorOf(server: Server, core: string): Promise<string> {
  const pid = Number(await readFile(join(server.data, 'machines', core, 'qemu.pid'), 'utf8'))
  const words = (await readFile(`/proc/${pid}/cmdline`, 'utf8')).split('\0')
  return (words[words.indexOf('-qmp') + 1] ?? '').replace(/^unix:/, '').replace(/,.*$/, '')
}

export interface Captured {
  readonly imageId: string
  readonly seconds: number
  readonly pausedMs: number
  readonly readBytes: number
  readonly ways: readonly string[]
}

/** One capture of all disks, as the task tells it. */
export async function captureLive(server: Server, machine: LiveMachine, name: string): Promise<Captured> {
  const body = { region: REGION, machineId: machine.id, name, disks: 'all' }
  const made = await server.native.call<Made>('POST', '/v1/images/capture', { body })
  const task = await taskDone(server, made.taskId)
  const { pausedMs, disks } = task.output as unknown as {
    readonly pausedMs: number
    readonly disks: readonly { readonly way: string; readonly readBytes: number }[]
  }
  return {
    imageId: made.imageId,
    seconds: task.seconds,
    pausedMs,
    readBytes: disks.reduce((sum, disk) => sum + disk.readBytes, 0),
    ways: disks.map(({ way }) => way),
  }
}

/** Bytes a second that the guest writes to a disk while `work` goes on, or over so many milliseconds. */
export async function writeRate(
  machine: LiveMachine,
  disk: number,
  work: number | (() => Promise<unknown>),
): Promise<number> {
  const before = await machine.writtenBytes(disk)
  const beginMs = performance.now()
  await (typeof work === 'number' ? delay(work) : work())
  const seconds = (performance.now() - beginMs) / 1000
  return ((await machine.writtenBytes(disk)) - before) / seconds
}

/** Deletes every machine of the server and waits until they are gone: they would outlive it. */
export async function removeMachines(server: Server): Promise<void> {
  const query = { region: REGION }
  type List = { readonly machines: readonly { readonly id: string }[] }
  const list = () => server.native.call<List>('GET', '/v1/machines', { query })
  for (const { id } of (await list()).machines)
    await server.native.call('DELETE', `/v1/machines/${id}`, { query })
  while ((await list()).machines.length > 0) await delay(100)
}
