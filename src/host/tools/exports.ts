import assert from 'node:assert/strict'
import { mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { Fault } from '../../image/fault.ts'
import type { DiskId, MachineId } from '../../image/ids.ts'
import type { Consistency, DiskExports } from '../contract.ts'
import { findText, isErrno, writeDurably } from './durable.ts'

/**
 * What is known of one `openExports`, written before anything is made, so that after a crash everything can be found
 * and taken away. 'still': the disks of a stopped machine, which must not start. 'live': nodes inside a running QEMU,
 * which end with it.
 */
export interface ExportRecord {
  readonly key: string
  readonly how: 'still' | 'live'
  readonly state: 'opening' | 'open'
  /** Of a live one: whether the guest stood still before the capture, and so is to be left. */
  readonly guest?: 'running' | 'standing'
  readonly disks: readonly ExportedDisk[]
  readonly consistency: Consistency
  readonly pausedMs: number
}

export interface ExportedDisk {
  readonly id: DiskId
  readonly sizeBytes: number
  readonly socketPath: string
  readonly exportName: string
  readonly mapName: string
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

  async find(key: string): Promise<ExportRecord | undefined> {
    const text = await findText(this.#path(key))
    return text === undefined ? undefined : (JSON.parse(text) as ExportRecord)
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
    if (other === undefined) return
    throw new Fault('conflict', `Machine '${id}' is being captured already. Wait until that has ended.`, {
      subject: 'machine',
      reason: 'capturing',
    })
  }

  #path(key: string): string {
    assert(isExportKey(key), 'an export key is letters and digits')
    return join(this.#folder, `${key}.json`)
  }
}

export function isExportKey(key: string): boolean {
  return /^[0-9A-Za-z]{1,100}$/.test(key)
}

export function exportsOf(record: ExportRecord, moment: DiskExports['moment']): DiskExports {
  return { disks: record.disks, consistency: record.consistency, pausedMs: record.pausedMs, moment }
}
