import type { MachineId } from '../../image/ids.ts'
import type { ExportedDisk, MachineDisk } from '../contract.ts'
import { type Moment, type StatusRun, statusesOf } from './tracked-disk.ts'

/** A disk at one moment, to be served by whoever knows how. */
export interface ServedDisk {
  readonly machineId: MachineId
  readonly key: string
  readonly disk: MachineDisk
  readonly sizeBytes: number
  /** What the NBD meta contexts of this name say; runs rise without gaps. */
  readonly contexts: ReadonlyMap<string, (offset: number, lengthBytes: number) => StatusRun[]>
  read(offset: number, lengthBytes: number): Promise<Uint8Array>
}

export interface Served {
  readonly socketPath: string
  readonly exportName: string
  close(): Promise<void>
}

export function servedDisk(machineId: MachineId, key: string, disk: MachineDisk, moment: Moment): ServedDisk {
  const { content, changes } = moment
  const contexts = new Map<string, (offset: number, lengthBytes: number) => StatusRun[]>()
  contexts.set(LAYERS, (offset, count) => statusesOf((index) => content.layerOf(index), offset, count))
  if (changes !== undefined)
    contexts.set(changesName(key), (offset, count) =>
      statusesOf((index) => (changes.has(index) ? 1 : 0), offset, count),
    )
  const { sizeBytes } = disk
  return { machineId, key, disk, sizeBytes, contexts, read: (offset, count) => content.read(offset, count) }
}

export function exportedDisk(key: string, disk: MachineDisk, moment: Moment, served: Served): ExportedDisk {
  const { socketPath, exportName } = served
  return {
    id: disk.id,
    sizeBytes: disk.sizeBytes,
    socketPath,
    exportName,
    mapName: exportName,
    changesWhy: moment.changesWhy,
    ...(moment.changes && { changes: { name: changesName(key), most: 1 } }),
    // Of a disk without a base all is its own, which tells nothing.
    ...(disk.base && { own: { name: LAYERS, most: 1 } }),
  }
}

/** The names that QEMU has for the same. */
const LAYERS = 'qemu:allocation-depth'
const changesName = (key: string) => `qemu:dirty-bitmap:since-${key}`
