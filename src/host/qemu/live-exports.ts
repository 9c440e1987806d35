import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type Consistency, isEnough } from '../../image/consistency.ts'
import type { DiskExports, ExportedDisk, ExportRequest } from '../contract.ts'
import { type Outcome, settleFile, stepsBefore, tellChanges } from '../tools/bitmaps.ts'
import { syncFile } from '../tools/durable.ts'
import {
  type ExportRecord,
  ExportRecords,
  exportsOf,
  isSameRequest,
  notConsistent,
  requestedDisks,
} from '../tools/exports.ts'
import type { KeptSpec, MachineFolders } from '../tools/folders.ts'
import { KeyedLock } from '../tools/keyed-lock.ts'
import { shortName, socketPath } from '../tools/sockets.ts'
import type { Agents } from './agents.ts'
import { changeLiveBitmaps, queryBitmaps } from './bitmaps.ts'
import type { Guests } from './guests.ts'
import { dismantle, type LiveDisk, liveDisks, serveMoment, takeMoment } from './live-disks.ts'
import { exportIds } from './nodes.ts'
import { type FreeBytes, makeScratch, scratchBounds } from './scratch.ts'

/** The scratch file and the machine's own layer; the base comes third. */
const OWN = { name: 'qemu:allocation-depth', most: 2 } as const

/** The one key of the lock on all there is room for. */
const ROOM = 'room'

/** What may end an opening: its caller, or somebody who is about to end the guest, which nobody has to wait for then. */
export interface OpeningSignals {
  readonly signal: AbortSignal
  readonly cutOff: AbortSignal
}

type Worth = Pick<DiskExports, 'consistency' | 'consistencyWhy' | 'frozenMs' | 'os'>

/**
 * Exports of a running guest's disks, all at one moment. Per disk a filter saves each block to a scratch file before
 * the guest's first write to it; `snapshot-access` reads scratch or disk, whichever holds the old bytes. At the same
 * moment a dirty bitmap named after the capture starts in the disk's layer, and that of an earlier one stops. All names
 * follow from the key, so any process of ours finds and removes them, half-made ones too.
 *
 * If the scratch file cannot take a block (no space, too slow), the snapshot breaks and its reads fail; the guest
 * never notices. The block status of `snapshot-access` knows only the overlay, not the base behind it. Therefore the
 * scratch file stands on the overlay and is exported too: its status goes down the whole chain.
 */
export class LiveExports {
  readonly #guests: Guests
  readonly #agents: Agents
  readonly #folders: MachineFolders
  readonly #runDirectory: string
  readonly #freeBytes: FreeBytes
  readonly #roomLock = new KeyedLock()

  constructor(
    guests: Guests,
    agents: Agents,
    folders: MachineFolders,
    runDirectory: string,
    freeBytes: FreeBytes,
  ) {
    this.#guests = guests
    this.#agents = agents
    this.#folders = folders
    this.#runDirectory = runDirectory
    this.#freeBytes = freeBytes
  }

  async open(
    spec: KeptSpec,
    key: string,
    request: ExportRequest,
    records: ExportRecords,
    signals: OpeningSignals,
  ): Promise<DiskExports> {
    const { cutOff } = signals
    const signal = AbortSignal.any([signals.signal, cutOff])
    const disks = requestedDisks(liveDisks(spec, key), request)
    const found = await records.find(key)
    const isSame = found?.state === 'open' && isSameRequest(found, request)
    if (isSame && (await this.#isWhole(spec, disks))) return exportsOf(found, 'same')
    if (found !== undefined) await this.close(spec, key, 'given-up', records, cutOff)
    signal.throwIfAborted()
    const opening = await this.#begin(spec, await this.#prepare(spec, key, request, disks), records)
    try {
      await this.#addScratch(spec, opening, disks, signal)
      const moment = await this.#holdMoment(spec, opening, disks, { signal, cutOff })
      await this.#guests.talk(spec.id, (qmp) => serveMoment(qmp, disks, this.#socketPath(spec, key), opening))
      signal.throwIfAborted()
      const open: ExportRecord = { ...opening, ...moment, state: 'open' }
      await records.write(open)
      return exportsOf(open, 'new')
    } catch (error) {
      // Should this fail too, the record stays, and the next call by this key takes the rest away.
      await this.close(spec, key, 'given-up', records, cutOff).catch(() => {})
      throw error
    }
  }

  /** Also right when the guest has ended meanwhile: then there are only files to remove, and what QEMU stored in them. */
  async close(
    spec: KeptSpec,
    key: string,
    outcome: Outcome,
    records: ExportRecords,
    cutOff: AbortSignal,
  ): Promise<void> {
    const record = await records.find(key)
    const disks = liveDisks(spec, key)
    if (await this.#guests.isRunning(spec.id)) {
      // Only a crash of ours between `stop` and `cont` leaves a guest standing; one that stood before us is to stay so.
      if (record?.state === 'opening' && record.guest !== 'standing') await this.#guests.resume(spec.id)
      await this.#agents.thawIfMarked(spec.id, cutOff)
      await this.#guests.talk(spec.id, (qmp) => dismantle(qmp, disks, key, outcome, record))
    } else {
      for (const { id } of record?.disks ?? []) {
        const disk = spec.disks.find((one) => one.id === id)
        const end = { since: record?.previous[id], outcome, wasStill: false }
        if (disk !== undefined) await settleFile(this.#folders.overlayPath(spec.id, disk), key, end)
      }
    }
    for (const { index } of disks) await rm(this.#scratchPath(spec, key, index), { force: true })
    await rm(this.#socketPath(spec, key), { force: true })
    await records.remove(key)
  }

  /** The record of the capture, before anything of it is there. Bitmaps that nobody could trust are removed. */
  async #prepare(
    spec: KeptSpec,
    key: string,
    request: ExportRequest,
    disks: readonly LiveDisk[],
  ): Promise<ExportRecord> {
    const guest = (await this.#guests.isStanding(spec.id)) ? 'standing' : 'running'
    const bitmapsOf = await this.#guests.talk(spec.id, async (qmp) => {
      const before = await queryBitmaps(qmp)
      const steps = disks.map(({ overlay }) => ({
        node: overlay,
        steps: stepsBefore(before(overlay), key),
      }))
      await changeLiveBitmaps(qmp, steps)
      return before
    })
    const path = this.#socketPath(spec, key)
    const previous: Record<string, string> = {}
    const exported = disks.map(({ disk: { id, sizeBytes, base }, overlay }): ExportedDisk => {
      const since = request.since[id]
      const told = tellChanges(bitmapsOf(overlay), key, since)
      if (told.changes !== undefined && since !== undefined) previous[id] = since
      const names = { socketPath: path, exportName: id, mapName: `${id}-map` }
      return { id, sizeBytes, ...names, ...told, ...(base && { own: OWN }) }
    })
    const worth = { consistency: 'crash', consistencyWhy: '', pausedMs: 0, frozenMs: 0 } as const
    return { key, how: 'live', state: 'opening', guest, request, previous, disks: exported, ...worth }
  }

  /**
   * Writes the record, and with it how large the scratch files may grow: what those of other captures may still take of
   * the room is left out of the account.
   */
  async #begin(spec: KeptSpec, prepared: ExportRecord, records: ExportRecords): Promise<ExportRecord> {
    return await this.#roomLock.run(ROOM, async () => {
      const sizes = prepared.disks.map((disk) => disk.sizeBytes)
      const freeBytes = await this.#freeBytes(this.#folders.path(spec.id))
      const scratchBytes = scratchBounds(sizes, freeBytes - (await this.#promisedBytes()))
      const opening = { ...prepared, scratchBytes }
      await records.write(opening)
      return opening
    })
  }

  async #promisedBytes(): Promise<number> {
    let sum = 0
    for (const id of await this.#folders.list()) {
      // Scratch files end with their guest.
      if (!(await this.#guests.isRunning(id))) continue
      for (const record of await new ExportRecords(this.#folders.path(id)).readable())
        for (const bytes of record.scratchBytes ?? []) sum += bytes
    }
    return sum
  }

  async #addScratch(
    spec: KeptSpec,
    opening: ExportRecord,
    disks: readonly LiveDisk[],
    signal: AbortSignal,
  ): Promise<void> {
    await this.#guests.talk(spec.id, async (qmp) => {
      for (const [at, { disk, index, scratch, overlay }] of disks.entries()) {
        const path = this.#scratchPath(spec, opening.key, index)
        const boundBytes = opening.scratchBytes?.[at] ?? 0
        const node = await makeScratch(path, disk.sizeBytes, boundBytes, signal)
        await qmp.execute('blockdev-add', { 'node-name': scratch, ...node, backing: overlay })
        // QEMU holds it open. Without a name it cannot outlive the capture, whatever crashes.
        await rm(path)
      }
    })
    await this.#flush(spec, disks)
  }

  /** What QEMU would have to flush while the guest stands still is flushed now, while it runs. */
  async #flush(spec: KeptSpec, disks: readonly LiveDisk[]): Promise<void> {
    await Promise.all(disks.map(({ disk }) => syncFile(this.#folders.overlayPath(spec.id, disk))))
  }

  /**
   * The moment with the guest's file systems frozen over it, as far as that is wanted and works. Throws Fault 'conflict'
   * where it must work and does not.
   */
  async #holdMoment(
    spec: KeptSpec,
    opening: ExportRecord,
    disks: readonly LiveDisk[],
    { signal, cutOff }: OpeningSignals,
  ): Promise<Worth & { readonly pausedMs: number }> {
    const { consistency: wanted } = opening.request
    // A trim is written down as changes, which costs more than it saves where only changes are read.
    const isTrimming = opening.disks.some((disk) => disk.changes === undefined)
    const demand = (reached: Consistency, why: string) => {
      if (!isEnough(reached, wanted)) throw notConsistent(wanted, why)
    }
    const freeze = await this.#agents.freeze(spec.id, { wanted, isTrimming, signal, cutOff })
    const os = freeze.os && { os: freeze.os }
    let pausedMs: number
    let held: Awaited<ReturnType<typeof freeze.thaw>>
    try {
      demand(freeze.consistency, freeze.why)
      signal.throwIfAborted()
      // Once more: since the first time much may have been written, and a freeze writes as well.
      await this.#flush(spec, disks)
      pausedMs = await this.#guests.talk(spec.id, (qmp) => takeMoment(qmp, disks, opening))
    } finally {
      held = await freeze.thaw()
    }
    if (!freeze.isFrozen || held.heldAll) {
      const { consistency, why } = freeze
      return { consistency, consistencyWhy: why, pausedMs, frozenMs: held.frozenMs, ...os }
    }
    demand('crash', held.why)
    return { consistency: 'crash', consistencyWhy: held.why, pausedMs, frozenMs: held.frozenMs, ...os }
  }

  async #isWhole(spec: KeptSpec, disks: readonly LiveDisk[]): Promise<boolean> {
    const open = await this.#guests.talk(spec.id, exportIds)
    return disks.every((own) => open.has(own.dataExport) && open.has(own.mapExport))
  }

  #scratchPath(spec: KeptSpec, key: string, index: number): string {
    return join(this.#folders.path(spec.id), `scratch-${shortName(key)}-${index}.qcow2`)
  }

  #socketPath(spec: KeptSpec, key: string): string {
    return socketPath(this.#runDirectory, `${spec.id}-${shortName(key)}.n`)
  }
}
