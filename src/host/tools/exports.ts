import assert from 'node:assert/strict'
import { mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { Fault, isFault } from '../../image/fault.ts'
import type { MachineId } from '../../image/ids.ts'
import type { DiskExports, ExportRequest, WantedConsistency } from '../contract.ts'
import { findText, isErrno, writeDurably } from './durable.ts'
import { diskAbsent } from './folders.ts'

/**
 * What is known of one `openExports`, written before anything is made, so that after a crash everything can be found
 * and taken away. 'still': the disks of a stopped machine, which must not start. 'live': nodes inside a running QEMU,
 * which end with it, and dirty bitmaps, which it may have stored.
 */
export interface ExportRecord extends Omit<DiskExports, 'moment'> {
  readonly key: string
  readonly how: 'still' | 'live'
  readonly state: 'opening' | 'open'
  /** Of a live one: whether the guest stood still before the capture, and so is to be left. */
  readonly guest?: 'running' | 'standing'
  readonly request: ExportRequest
  /** By disk id, the earlier captures whose bitmaps stopped at the moment: those of `since` that can be trusted. */
  readonly previous: Readonly<Record<string, string>>
  /** Of a live one: how large the scratch file of each disk may grow, in the order of `disks`. */
  readonly scratchBytes?: readonly number[]
}

/** The export records in a machine's folder. At most one key is open for a machine at a time. */
export class ExportRecords {
  readonly #folder: string

  constructor(machineFolder: string) {
    this.#folder = join(machineFolder, 'exports')
  }

  async list(): Promise<ExportRecord[]> {
    let names: string[]
    try {
      names = await readdir(this.#folder)
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return []
      throw error
    }
    const records: ExportRecord[] = []
    for (const name of names.sort()) {
      if (!name.endsWith('.json')) continue
      const record = await this.find(name.slice(0, -'.json'.length))
      if (record !== undefined) records.push(record)
    }
    return records
  }

  /** Without those that are damaged: for whoever looks at all machines, of which one must not hinder another. */
  async readable(): Promise<ExportRecord[]> {
    try {
      return await this.list()
    } catch (error) {
      if (error instanceof SyntaxError || isFault(error)) return []
      throw error
    }
  }

  async find(key: string): Promise<ExportRecord | undefined> {
    const text = await findText(this.#path(key))
    return text === undefined ? undefined : complete(JSON.parse(text) as ExportRecord)
  }

  async write(record: ExportRecord): Promise<void> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 })
    await writeDurably(this.#path(record.key), `${JSON.stringify(record, null, 1)}\n`)
  }

  async remove(key: string): Promise<void> {
    await rm(this.#path(key), { force: true })
  }

  /** Throws Fault 'conflict' if another key than `key` is open: QEMU serves one snapshot of a guest at a time. */
  async refuseOthers(id: MachineId, key: string): Promise<void> {
    const other = (await this.list()).find((record) => record.key !== key)
    if (other !== undefined) throw capturing(id)
  }

  /** Throws Fault 'conflict' if any key is open. */
  async refuseAny(id: MachineId): Promise<void> {
    if ((await this.list()).length > 0) throw capturing(id)
  }

  #path(key: string): string {
    assert(isExportKey(key), 'an export key is letters and digits')
    return join(this.#folder, `${key}.json`)
  }
}

/** A record of before there were bitmaps: all disks, nothing to compare with. */
function complete(record: ExportRecord): ExportRecord {
  const diskIds = record.disks.map(({ id }) => id)
  const before = { request: { diskIds, since: {}, consistency: 'crash' }, previous: {} } as const
  return { ...before, ...{ consistencyWhy: '', frozenMs: 0 }, ...record }
}

function capturing(id: MachineId): Fault {
  return new Fault('conflict', `Machine '${id}' is being captured. Wait until that has ended.`, {
    subject: 'machine',
    reason: 'capturing',
  })
}

export function isExportKey(key: string): boolean {
  return /^[0-9A-Za-z]{1,100}$/.test(key)
}

/** The disks of the request, in its order. Throws Fault 'absent' for one that the machine does not have. */
export function requestedDisks<Disk extends { readonly id: string }>(
  disks: readonly Disk[],
  request: ExportRequest,
): Disk[] {
  assert(new Set(request.diskIds).size === request.diskIds.length, 'each disk is asked for once')
  return request.diskIds.map((id) => {
    const disk = disks.find((one) => one.id === id)
    if (disk === undefined) throw diskAbsent(id)
    return disk
  })
}

/** Whether the exports of a record are what a request asks for. */
export function isSameRequest(record: ExportRecord, request: ExportRequest): boolean {
  return isDeepStrictEqual(record.request, JSON.parse(JSON.stringify(request)))
}

/** The fault of a capture that would be worth less than its caller demands. `why`: sentences, the last of which says what to do. */
export function notConsistent(wanted: WantedConsistency, why: string): Fault {
  return new Fault('conflict', `The disks cannot be had as consistent as '${wanted}' now. ${why}`, {
    subject: 'machine',
    reason: 'consistency',
  })
}

export function exportsOf(record: ExportRecord, moment: DiskExports['moment']): DiskExports {
  const { disks, consistency, consistencyWhy, pausedMs, frozenMs, os } = record
  return { disks, consistency, consistencyWhy, pausedMs, frozenMs, ...(os && { os }), moment }
}
