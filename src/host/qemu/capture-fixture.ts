import assert from 'node:assert/strict'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import type { DiskId, MachineId } from '../../image/ids.ts'
import { bootDisk } from '../boot-guest.ts'
import type {
  ChangeContext,
  DiskBus,
  DiskExports,
  ExportedDisk,
  ExportRequest,
  Host,
  MachineSpec,
  WantedConsistency,
} from '../contract.ts'
import { RealPlace } from '../fixture.ts'
import { diskOf, MEBIBYTE, never, specOf, until, untilSaid } from '../suite.ts'
import { readBitmaps } from '../tools/bitmaps.ts'
import { findProcess } from '../tools/processes.ts'
import { drivePath } from './command-line.ts'
import { createQemuHost, type QemuHostOptions } from './host.ts'
import { Qmp } from './qmp.ts'

export const BANNER = 'up\n'

export async function openQemu(place: RealPlace, options: Partial<QemuHostOptions> = {}): Promise<Host> {
  const host = await createQemuHost({
    directory: place.machines,
    runDirectory: place.run,
    acceleration: 'tcg',
    graceMs: 20_000,
    log: () => {},
    ...options,
  })
  place.hosts.push(host)
  return host
}

export async function talk<T>(place: RealPlace, id: MachineId, work: (qmp: Qmp) => Promise<T>): Promise<T> {
  const qmp = await Qmp.open(join(place.run, `${id}.q`))
  try {
    return await work(qmp)
  } finally {
    qmp.close()
  }
}

export async function crashGuest(place: RealPlace, host: Host, id: MachineId): Promise<void> {
  const pid = await findProcess(join(place.machines, id, 'qemu.pid'))
  assert.ok(pid)
  process.kill(pid, 'SIGKILL')
  await until('QEMU to be gone', async () => (await host.power(id)) === 'stopped')
}

/** Runs of a disk, in order, whose status of a context is 1 to `most`. */
export async function runsOf(place: RealPlace, disk: ExportedDisk, { name, most }: ChangeContext) {
  return (await place.readStatus(disk, name)).filter(({ status }) => status >= 1 && status <= most)
}

/** A machine whose disks are 4 MiB each, the first with a base, and what they must hold, kept beside it. */
export class TrialMachine {
  readonly place: RealPlace
  readonly spec: MachineSpec
  host: Host
  /** By disk, what the guest sees now. */
  readonly content: Buffer[]

  private constructor(place: RealPlace, host: Host, spec: MachineSpec, content: Buffer[]) {
    this.place = place
    this.host = host
    this.spec = spec
    this.content = content
  }

  static async make(
    t: TestContext,
    buses: readonly DiskBus[],
    options: Partial<QemuHostOptions> = {},
  ): Promise<TrialMachine> {
    const place = await RealPlace.make()
    t.after(() => place.close())
    const host = await openQemu(place, options)
    const boot = bootDisk(3 * MEBIBYTE)
    boot.fill('base', MEBIBYTE)
    const { base } = await place.serveBase(boot)
    const disks = buses.map((bus, at) => diskOf(bus, 4 * MEBIBYTE, at === 0 ? base : undefined))
    const spec = specOf(disks)
    const content = disks.map(() => Buffer.alloc(4 * MEBIBYTE))
    boot.copy(content[0] as Buffer)
    await host.ensureMachine(spec, never())
    return new TrialMachine(place, host, spec, content)
  }

  get id(): MachineId {
    return this.spec.id
  }

  diskId(at: number): DiskId {
    const disk = this.spec.disks[at]
    assert.ok(disk)
    return disk.id
  }

  /** All disks, with the same earlier capture for each. */
  request(since?: string, consistency: WantedConsistency = 'best'): ExportRequest {
    const diskIds = this.spec.disks.map((disk) => disk.id)
    const known = since === undefined ? [] : diskIds.map((id) => [id, since])
    return { diskIds, since: Object.fromEntries(known), consistency }
  }

  async start(): Promise<void> {
    const { length } = await this.#said()
    await this.host.ensureStarted(this.id, never())
    await untilSaid(this.host, this.id, BANNER, length)
  }

  /** The guest shuts itself down. */
  async shutDown(): Promise<void> {
    await this.host.writeConsole(this.id, Buffer.from('q'))
    await until('the guest to be off', async () => (await this.host.power(this.id)) === 'stopped')
  }

  /** Another driver over the same machine, as after a restart of the service. */
  async reopen(): Promise<void> {
    this.host = await openQemu(this.place)
  }

  /** Writes as the guest's device does, wherever on the disk. */
  async write(at: number, offset: number, lengthBytes: number, byte: number): Promise<void> {
    const disk = this.spec.disks[at]
    assert.ok(disk)
    const command = `qemu-io -d ${drivePath(disk, at)} "write -P ${byte} ${offset} ${lengthBytes}"`
    const answer = await talk(this.place, this.id, (qmp) =>
      qmp.execute('human-monitor-command', { 'command-line': command }),
    )
    assert.doesNotMatch(String(answer), /error|failed/i)
    this.content[at]?.fill(byte, offset, offset + lengthBytes)
  }

  /** Whole contents of the exports' disks. */
  read(exports: DiskExports): Promise<Buffer[]> {
    return Promise.all(exports.disks.map((disk) => this.place.readExport(disk, 0, disk.sizeBytes)))
  }

  /** `before` with nothing but the changed runs read again; and how much that was. */
  async readChanges(exports: DiskExports, before: readonly Buffer[]): Promise<[Buffer[], number]> {
    let readBytes = 0
    const after = (await this.read(exports)).map(async (now, at) => {
      const disk = exports.disks[at]
      assert.ok(disk?.changes, disk?.changesWhy ?? '')
      const copy = Buffer.from(before[at] ?? Buffer.alloc(0))
      for (const { offset, lengthBytes } of await runsOf(this.place, disk, disk.changes)) {
        now.copy(copy, offset, offset, offset + lengthBytes)
        readBytes += lengthBytes
      }
      return copy
    })
    return [await Promise.all(after), readBytes]
  }

  /** Nothing of a capture is on the machine but, on each disk `but` those, the bitmaps of these captures. */
  async isClean(baselines: readonly string[], but: readonly number[] = []): Promise<void> {
    const { disks } = this.spec
    const keysAt = (at: number) => (but.includes(at) ? [] : baselines)
    const names = disks.flatMap((disk, at) => (disk.base ? [`d${at}`, `d${at}-base`] : [`d${at}`]))
    if ((await this.host.power(this.id)) === 'running') {
      await talk(this.place, this.id, async (qmp) => {
        const nodes = (await qmp.execute('query-named-block-nodes', { flat: true })) as {
          'node-name': string
          'dirty-bitmaps'?: { name?: string; recording: boolean; busy: boolean }[]
        }[]
        const named = nodes.filter((node) => !node['node-name'].startsWith('#'))
        assert.deepEqual(named.map((node) => node['node-name']).sort(), names.sort())
        for (const node of named.filter((one) => /^d\d$/.test(one['node-name']))) {
          const found = (node['dirty-bitmaps'] ?? []).map(({ name, recording, busy }) => [
            name,
            recording,
            busy,
          ])
          assert.deepEqual(
            found.sort(),
            keysAt(Number(node['node-name'].slice(1)))
              .map((key) => [`c-${key}`, true, false])
              .sort(),
          )
        }
        assert.deepEqual(await qmp.execute('query-block-exports'), [])
        const { status } = (await qmp.execute('query-status')) as { status: string }
        assert.equal(status, 'running')
      })
    }
    const folder = join(this.place.machines, this.id)
    const ids = disks.map((disk) => disk.id)
    const files = await readdir(folder, { recursive: true })
    const isLayer = (name: string) => ids.some((id) => name.startsWith(id) && name.endsWith('.qcow2'))
    const layers = files.filter(isLayer)
    assert.equal(layers.length, ids.length)
    const others = files.filter((name) => !isLayer(name) && !/^(qemu|console|shutdown)/.test(name))
    assert.deepEqual(
      others.filter((name) => name !== 'exports'),
      ['spec.json'],
    )
    if ((await this.host.power(this.id)) === 'stopped') {
      for (const layer of layers) {
        const found = (await readBitmaps(join(folder, layer))).map((one) => [
          one.name,
          one.isRecording,
          one.isIntact,
        ])
        assert.deepEqual(
          found.sort(),
          keysAt(ids.findIndex((id) => layer.startsWith(id)))
            .map((key) => [`c-${key}`, true, true])
            .sort(),
        )
      }
    }
    const sockets = (await readdir(this.place.run)).filter((name) => name.startsWith(`${this.id}-`))
    assert.deepEqual(sockets, [])
  }

  async #said(): Promise<Buffer> {
    return (await this.host.readConsole(this.id, 0)).bytes
  }
}
