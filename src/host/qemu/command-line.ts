import { createHash } from 'node:crypto'
import type { MachineDisk, MachineSpec } from '../contract.ts'
import { type BlockNode, baseNode, overlayNode } from '../tools/graph.ts'
import type { UefiFirmware } from './firmware.ts'
import type { GuestPaths } from './paths.ts'

export type Acceleration = 'kvm' | 'tcg'

export interface GuestOptions {
  readonly spec: MachineSpec
  readonly paths: GuestPaths
  readonly acceleration: Acceleration
  readonly uefi: UefiFirmware | undefined
  overlayPath(disk: MachineDisk): string
}

/** The node that a disk's device stands on, and the device; both by the disk's place in the machine. */
export const overlayName = (index: number) => `d${index}`
export const deviceName = (index: number) => `disk${index}`

/** Where the device keeps its `drive`: virtio-blk splits itself into a PCI device and a backend, scsi-hd does not. */
export function drivePath(disk: MachineDisk, index: number): string {
  const device = `/machine/peripheral/${deviceName(index)}`
  return disk.bus === 'virtio-blk' ? `${device}/virtio-backend` : device
}

/**
 * Nothing but what is listed here: no defaults, no configuration files, no network. The seccomp filter leaves QEMU no
 * way to start programs or gain rights. The guest's power-off ends QEMU, so a process that is gone is a machine that is
 * off, whoever was watching.
 */
export function guestArguments({ spec, paths, acceleration, uefi, overlayPath }: GuestOptions): string[] {
  const args = [
    ['-name', `guest=${spec.id}`],
    ['-uuid', uuidOf(spec.id)],
    ['-machine', `pc,accel=${acceleration},hpet=off`],
    // Without five-level page tables: they slow TCG down and no guest of ours has that much memory.
    ['-cpu', acceleration === 'kvm' ? 'host' : 'max,la57=off'],
    ['-smp', String(spec.cpuCount)],
    ['-m', `${spec.memoryBytes}b`],
    ['-nodefaults', '-no-user-config'],
    ['-display', 'none', '-vga', 'none'],
    ['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'],
    ['-pidfile', paths.pid],
    ['-rtc', 'base=utc'],
    ['-boot', 'strict=on'],
    // A guest that sleeps or hibernates would end QEMU as one that has shut down does, with its disks half written.
    ['-global', 'PIIX4_PM.disable_s3=1', '-global', 'PIIX4_PM.disable_s4=1'],
    ['-qmp', `unix:${escapeComma(paths.monitor)},server=on,wait=off`],
    [
      '-chardev',
      `${listening('console', paths.console)},logfile=${escapeComma(paths.consoleLog)},logappend=on`,
    ],
    ['-serial', 'chardev:console'],
    ['-object', 'rng-random,id=rng,filename=/dev/urandom'],
    ['-device', 'virtio-rng-pci,rng=rng'],
    ['-chardev', listening('agent', paths.agent)],
    ['-device', 'virtio-serial-pci'],
    ['-device', 'virtserialport,chardev=agent,name=org.qemu.guest_agent.0'],
    ...(uefi === undefined ? [] : firmwareArguments(uefi, paths)),
    ...(spec.disks.some((disk) => disk.bus === 'virtio-scsi')
      ? [['-device', 'virtio-scsi-pci,id=scsi']]
      : []),
    ...spec.disks.map((disk, index) => diskArguments(disk, index, overlayPath(disk))),
  ]
  return args.flat()
}

/**
 * The base is a node of its own behind the overlay. A disk that fails stops the guest instead of telling it: a guest
 * that is told makes its file system read-only, a stopped one goes on unharmed when the disk is back.
 */
function diskArguments(disk: MachineDisk, index: number, path: string): string[] {
  const name = overlayName(index)
  const base = disk.base === undefined ? [] : [node(`${name}-base`, baseNode(disk.base))]
  const overlay = node(name, overlayNode(path, disk.base === undefined ? null : `${name}-base`))
  const common = `id=${deviceName(index)},drive=${name},bootindex=${index},serial=${disk.id}`
  const policy = 'rerror=stop,werror=stop'
  const device =
    disk.bus === 'virtio-blk'
      ? `virtio-blk-pci,${common},${policy}`
      : `scsi-hd,bus=scsi.0,scsi-id=${index},lun=0,${common},${policy}`
  return [...base.flat(), ...overlay, '-device', device]
}

function firmwareArguments(uefi: UefiFirmware, paths: GuestPaths): string[][] {
  const code = { driver: 'file', filename: uefi.codePath }
  const variables = { driver: 'file', filename: paths.firmwareVariables }
  return [
    node('firmware-code', { driver: 'raw', 'read-only': true, file: { ...code, 'read-only': true } }),
    node('firmware-variables', { driver: 'raw', file: variables }),
    ['-machine', 'pflash0=firmware-code,pflash1=firmware-variables'],
  ]
}

function node(name: string, options: BlockNode): string[] {
  return ['-blockdev', JSON.stringify({ 'node-name': name, ...options })]
}

function listening(id: string, path: string): string {
  return `socket,id=${id},path=${escapeComma(path)},server=on,wait=off`
}

/** In QEMU's option lists a comma inside a value is written twice. */
function escapeComma(text: string): string {
  return text.replaceAll(',', ',,')
}

/** The same machine always shows its guest the same hardware id. */
function uuidOf(id: string): string {
  const hex = createHash('sha256').update(id).digest('hex')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`
}
