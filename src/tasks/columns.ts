import { type Firmware, type MachineConfig, PLAIN_CONFIG } from '../image/config.ts'
import type { ImageDisk } from '../image/image.ts'
import type { MachineDiskRecord } from '../image/machine.ts'

// What the catalog's JSON columns hold. Rows of before buses, firmware and boards were kept mean those that all had then.

const PLAIN_BUS = { bus: 'virtio-blk' } as const

export function imageDisksOf(disks: string): ImageDisk[] {
  return (JSON.parse(disks) as ImageDisk[]).map((disk) => ({ ...PLAIN_BUS, ...disk }))
}

export function machineDisksOf(disks: string): MachineDiskRecord[] {
  return (JSON.parse(disks) as MachineDiskRecord[]).map((disk) => ({ ...PLAIN_BUS, ...disk }))
}

export function configOf(config: string | null): MachineConfig {
  return config === null ? PLAIN_CONFIG : (JSON.parse(config) as MachineConfig)
}

/** How the machine of a row is built. */
export function machineConfigOf(row: {
  readonly firmware: string | null
  readonly machineType: string | null
  readonly cpuCount: number
  readonly memoryBytes: number
}): MachineConfig {
  return {
    firmware: (row.firmware as Firmware | null) ?? PLAIN_CONFIG.firmware,
    machineType: row.machineType ?? PLAIN_CONFIG.machineType,
    cpuCount: row.cpuCount,
    memoryBytes: row.memoryBytes,
  }
}
