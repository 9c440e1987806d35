import assert from 'node:assert/strict'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Fault, isFault } from '../../image/fault.ts'
import type { Consistency, DiskExports, MachineSpec } from '../contract.ts'
import { syncFile } from '../tools/durable.ts'
import { type ExportedDisk, type ExportRecords, exportsOf } from '../tools/exports.ts'
import { createOverlay, type MachineFolders } from '../tools/folders.ts'
import { shortName, socketPath } from '../tools/sockets.ts'
import { drivePath, overlayName } from './command-line.ts'
import type { Guests } from './guests.ts'
import { QMP_REFUSED, type Qmp, type QmpCommand } from './qmp.ts'

/** After this long without the old bytes saved, the snapshot breaks rather than the guest waits. */
const COPY_TIMEOUT_SECONDS = 30
const REMOVAL_TRIES = 250
const REMOVAL_POLL_MS = 20

interface Names {
  readonly overlay: string
  readonly scratch: string
  readonly filter: string
  readonly access: string
  readonly dataExport: string
  readonly mapExport: string
  readonly drivePath: string
}

/**
 * Exports of a running guest's disks, all at one moment. Per disk a filter saves each block to a scratch file before
 * the guest's first write to it; `snapshot-access` reads scratch or disk, whichever holds the old bytes. All names
 * follow from the key, so any process of ours finds and removes them, half-made ones too.
 *
 * If the scratch file cannot take a block (no space, too slow), the snapshot breaks and its reads fail; the guest
 * never notices. The block status of `snapshot-access` knows only the overlay, not the base behind it. Therefore the
 * scratch file stands on the overlay and is exported too: its status goes down the whole chain.
 */
export class LiveExports {
  readonly #guests: Guests
  readonly #folders: MachineFolders
  readonly #runDirectory: string

  constructor(guests: Guests, folders: MachineFolders, runDirectory: string) {
    this.#guests = guests
    this.#folders = folders
    this.#runDirectory = runDirectory
  }

  async open(
    spec: MachineSpec,
    key: string,
    records: ExportRecords,
    signal: AbortSignal,
  ): Promise<DiskExports> {
    const found = await records.find(key)
    if (found?.state === 'open' && (await this.#isWhole(spec, key))) return exportsOf(found, 'same')
    if (found !== undefined) await this.close(spec, key, records)
    const path = this.#socketPath(spec, key)
    const disks = spec.disks.map((disk): ExportedDisk => {
      const { id, sizeBytes } = disk
      return { id, sizeBytes, socketPath: path, exportName: id, mapName: `${id}-map` }
    })
    const guest = (await this.#guests.isStanding(spec.id)) ? 'standing' : 'running'
    const record = { key, how: 'live', guest, disks, consistency: 'crash', pausedMs: 0 } as const
    await records.write({ ...record, state: 'opening' })
    try {
      const moment = await this.#guests.talk(spec.id, async (qmp) => {
        await this.#addScratch(qmp, spec, key, signal)
        const taken = await this.#takeMoment(qmp, spec, key, guest)
        await this.#serve(qmp, spec, key, path)
        return taken
      })
      signal.throwIfAborted()
      const whole = { ...record, ...moment, state: 'open' } as const
      await records.write(whole)
      return exportsOf(whole, 'new')
    } catch (error) {
      // Should this fail too, the record stays, and the next call by this key takes the rest away.
      await this.close(spec, key, records).catch(() => {})
      throw error
    }
  }

  /** Also right when the guest has ended meanwhile: then only files are left to remove. */
  async close(spec: MachineSpec, key: string, records: ExportRecords): Promise<void> {
    if (await this.#guests.isRunning(spec.id)) {
      // Only a crash of ours between `stop` and `cont` leaves a guest standing; one that stood before us is to stay so.
      const record = await records.find(key)
      if (record?.state === 'opening' && record.guest !== 'standing') await this.#guests.resume(spec.id)
      await this.#guests.talk(spec.id, (qmp) => this.#dismantle(qmp, spec, key))
    }
    for (const index of spec.disks.keys()) await rm(this.#scratchPath(spec, key, index), { force: true })
    await rm(this.#socketPath(spec, key), { force: true })
    await records.remove(key)
  }

  async #addScratch(qmp: Qmp, spec: MachineSpec, key: string, signal: AbortSignal): Promise<void> {
    for (const [index, disk] of spec.disks.entries()) {
      const { scratch, overlay } = names(spec, key, index)
      const path = this.#scratchPath(spec, key, index)
      await rm(path, { force: true })
      await createOverlay(path, disk.sizeBytes, signal)
      await qmp.execute('blockdev-add', {
        'node-name': scratch,
        driver: 'qcow2',
        file: { driver: 'file', filename: path },
        backing: overlay,
      })
      // QEMU holds it open. Without a name it cannot outlive the capture, whatever crashes.
      await rm(path)
      // What QEMU would have to flush while the guest stands still is flushed now, while it runs.
      await syncFile(this.#folders.overlayPath(spec.id, disk))
    }
  }

  /**
   * The one moment. All commands are on their way before the first is answered, to keep the pause short. A guest that
   * stands still changes nothing meanwhile, and it is not ours to let it go on.
   */
  async #takeMoment(
    qmp: Qmp,
    spec: MachineSpec,
    key: string,
    guest: 'running' | 'standing',
  ): Promise<{ pausedMs: number; consistency: Consistency }> {
    const filters = [...spec.disks.keys()].flatMap((index) => filterCommands(names(spec, key, index)))
    qmp.events.length = 0
    const commands = guest === 'standing' ? filters : [{ execute: 'stop' }, ...filters, { execute: 'cont' }]
    const outcomes = await qmp.executeAll(commands)
    const failure = outcomes.find((outcome) => outcome.status === 'rejected')
    if (failure !== undefined) throw failure.reason
    return { pausedMs: pausedMs(qmp), consistency: 'crash' }
  }

  async #serve(qmp: Qmp, spec: MachineSpec, key: string, path: string): Promise<void> {
    await rm(path, { force: true })
    // 0: no limit. How many connections read one disk is the setting of whoever captures.
    const server = { addr: { type: 'unix', data: { path } }, 'max-connections': 0 }
    await qmp.execute('nbd-server-start', server)
    for (const [index, disk] of spec.disks.entries()) {
      const own = names(spec, key, index)
      await qmp.execute('blockdev-add', {
        'node-name': own.access,
        driver: 'snapshot-access',
        file: own.filter,
      })
      const exported = [
        { id: own.dataExport, 'node-name': own.access, name: disk.id },
        { id: own.mapExport, 'node-name': own.scratch, name: `${disk.id}-map` },
      ]
      for (const one of exported)
        await qmp.execute('block-export-add', { type: 'nbd', writable: false, ...one })
    }
  }

  async #dismantle(qmp: Qmp, spec: MachineSpec, key: string): Promise<void> {
    const all = [...spec.disks.keys()].map((index) => names(spec, key, index))
    const open = await exportIds(qmp)
    for (const id of all.flatMap((own) => [own.dataExport, own.mapExport])) {
      if (open.has(id)) await qmp.execute('block-export-del', { id, mode: 'hard' })
    }
    await unlessRefused(qmp.execute('nbd-server-stop'))
    const nodes = await nodeNames(qmp)
    for (const own of all) {
      if (nodes.has(own.access)) await removeNode(qmp, own.access)
      if (nodes.has(own.filter)) {
        const place = { path: own.drivePath, property: 'drive' }
        if ((await qmp.execute('qom-get', place)) === own.filter)
          await qmp.execute('qom-set', { ...place, value: own.overlay })
        await removeNode(qmp, own.filter)
      }
      if (nodes.has(own.scratch)) await removeNode(qmp, own.scratch)
    }
  }

  async #isWhole(spec: MachineSpec, key: string): Promise<boolean> {
    const open = await this.#guests.talk(spec.id, exportIds)
    return [...spec.disks.keys()].every((index) => {
      const own = names(spec, key, index)
      return open.has(own.dataExport) && open.has(own.mapExport)
    })
  }

  #scratchPath(spec: MachineSpec, key: string, index: number): string {
    return join(this.#folders.path(spec.id), `scratch-${shortName(key)}-${index}.qcow2`)
  }

  #socketPath(spec: MachineSpec, key: string): string {
    return socketPath(this.#runDirectory, `${spec.id}-${shortName(key)}.n`)
  }
}

function names(spec: MachineSpec, key: string, index: number): Names {
  const disk = spec.disks[index]
  assert(disk !== undefined)
  const tail = `${shortName(key)}-${index}`
  return {
    overlay: overlayName(index),
    scratch: `scratch-${tail}`,
    filter: `filter-${tail}`,
    access: `access-${tail}`,
    dataExport: `data-${tail}`,
    mapExport: `map-${tail}`,
    drivePath: drivePath(disk, index),
  }
}

function filterCommands(own: Names): QmpCommand[] {
  const filter = {
    'node-name': own.filter,
    driver: 'copy-before-write',
    file: own.overlay,
    target: own.scratch,
    'on-cbw-error': 'break-snapshot',
    'cbw-timeout': COPY_TIMEOUT_SECONDS,
  }
  return [
    { execute: 'blockdev-add', arguments: filter },
    { execute: 'qom-set', arguments: { path: own.drivePath, property: 'drive', value: own.filter } },
  ]
}

/** By QEMU's own clock, from its events; a guest that stood still already has none, and was not paused by us. */
function pausedMs(qmp: Qmp): number {
  const at = (name: string) => {
    const event = qmp.events.find((one) => one.event === name)
    return event && event.timestamp.seconds * 1000 + event.timestamp.microseconds / 1000
  }
  const [stop, resume] = [at('STOP'), at('RESUME')]
  return stop === undefined || resume === undefined ? 0 : Math.round((resume - stop) * 1000) / 1000
}

async function exportIds(qmp: Qmp): Promise<Set<string>> {
  const open = (await qmp.execute('query-block-exports')) as { id: string; 'shutting-down': boolean }[]
  return new Set(open.filter((one) => !one['shutting-down']).map((one) => one.id))
}

async function nodeNames(qmp: Qmp): Promise<Set<string>> {
  const nodes = (await qmp.execute('query-named-block-nodes', { flat: true })) as { 'node-name': string }[]
  return new Set(nodes.map((node) => node['node-name']))
}

/** A node stays in use for a moment after the export above it was told to go, until its last request has ended. */
async function removeNode(qmp: Qmp, name: string): Promise<void> {
  for (let tries = 0; ; tries++) {
    try {
      await qmp.execute('blockdev-del', { 'node-name': name })
      return
    } catch (error) {
      if (!isRefusal(error) || tries >= REMOVAL_TRIES) throw error
      await sleep(REMOVAL_POLL_MS)
    }
  }
}

async function unlessRefused(answer: Promise<unknown>): Promise<void> {
  await answer.catch((error: unknown) => {
    if (!isRefusal(error)) throw error
  })
}

function isRefusal(error: unknown): error is Fault {
  return isFault(error) && error.reason === QMP_REFUSED
}
