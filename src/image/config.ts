export type Firmware = 'bios' | 'uefi'
export type DiskBus = 'virtio-blk' | 'virtio-scsi'

/** How a machine is built, apart from its disks: what an image remembers, and a machine made from it gets again. */
export interface MachineConfig {
  readonly firmware: Firmware
  /** QEMU's word for the board. */
  readonly machineType: string
  /** Null where no machine has told it: an imported image. */
  readonly cpuCount: number | null
  readonly memoryBytes: number | null
}

export const PLAIN_CONFIG: MachineConfig = {
  firmware: 'bios',
  machineType: 'pc',
  cpuCount: null,
  memoryBytes: null,
}
