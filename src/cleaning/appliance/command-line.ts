import type { Acceleration } from '../../host/qemu/command-line.ts'
import type { ApplianceOptions } from '../appliance-contract.ts'
import type { ApplianceFiles } from './build.ts'

export interface QemuOptions {
  readonly files: ApplianceFiles
  readonly run: Pick<ApplianceOptions, 'disks' | 'volumes'>
  readonly acceleration: Acceleration
  readonly memoryBytes: number
  readonly cpuCount: number
  readonly pidPath: string
  readonly consolePath: string
  /** As QEMU says it of itself. */
  readonly qemuVersion: string
  readonly isRoot: boolean
}

const SECTOR_BYTES = 512
/** Nobody: owns no file and no process that matters. */
const NOBODY = '65534:65534'

/**
 * A machine of nothing but its volumes, a console into a file and a port for words, which are QEMU's own standard input and
 * output. Each volume is a disk of its own: the guest cannot reach the rest of a disk, and finds its volumes without reading
 * a partition table. Each has an NBD connection too, as two nodes of QEMU may not write through one.
 */
export function applianceArguments(options: QemuOptions): string[] {
  const { files, run, acceleration, memoryBytes, cpuCount, pidPath, consolePath } = options
  const args = [
    ['-name', 'guest=appliance'],
    ['-machine', `pc,accel=${acceleration},hpet=off`],
    // Without five-level page tables, which slow TCG down.
    ['-cpu', acceleration === 'kvm' ? 'host' : 'max,la57=off'],
    ['-smp', String(cpuCount)],
    ['-m', `${memoryBytes}b`],
    ['-nodefaults', '-no-user-config', '-no-reboot'],
    ['-display', 'none', '-vga', 'none'],
    ...confinement(options),
    ['-pidfile', pidPath],
    ['-kernel', files.kernelPath],
    ['-initrd', files.initialPath],
    // A kernel that fails ends QEMU. Its messages may hold names and stay in the run's folder. On a busy host its own check
    // of the timer may fail.
    ['-append', 'console=ttyS0 loglevel=3 panic=-1 oops=panic mitigations=off no_timer_check'],
    ['-chardev', `file,id=console,path=${escapeComma(consolePath)}`],
    ['-serial', 'chardev:console'],
    ['-chardev', 'stdio,id=words,signal=off'],
    ['-device', 'virtio-serial-pci'],
    ['-device', 'virtserialport,chardev=words,name=words'],
    ...run.volumes.map((_, index) => volumeArguments(run, index)),
  ]
  return args.flat()
}

/**
 * Started by root, QEMU opens what it needs and then gives root up; the filter has to leave it the calls for that, which
 * only root can make use of. Programs it can start in neither case.
 */
function confinement({ isRoot, qemuVersion }: QemuOptions): string[][] {
  const filter = 'on,obsolete=deny,spawn=deny,resourcecontrol=deny'
  if (!isRoot) return [['-sandbox', `${filter},elevateprivileges=deny`]]
  const [, major, minor] = /version (\d+)\.(\d+)/.exec(qemuVersion) ?? []
  // QEMU 9.1 has a new word for it, and later ones have it alone.
  const isNew = Number(major) * 100 + Number(minor) >= 901
  return [['-sandbox', filter], isNew ? ['-run-with', `user=${NOBODY}`] : ['-runas', NOBODY]]
}

function volumeArguments(run: Pick<ApplianceOptions, 'disks' | 'volumes'>, index: number): string[] {
  const volume = run.volumes[index]
  const disk = volume && run.disks[volume.diskIndex]
  if (volume === undefined || disk === undefined) throw new RangeError('a volume lies on a disk')
  const node = {
    'node-name': `volume${index}`,
    driver: 'raw',
    offset: volume.offset,
    size: volume.lengthBytes - (volume.lengthBytes % SECTOR_BYTES),
    file: { driver: 'nbd', server: { type: 'unix', path: disk.socketPath }, export: disk.exportName },
  }
  const device = `virtio-blk-pci,drive=volume${index},serial=volume${index},rerror=report,werror=report`
  return ['-blockdev', JSON.stringify(node), '-device', device]
}

/** In QEMU's option lists a comma inside a value is written twice. */
function escapeComma(text: string): string {
  return text.replaceAll(',', ',,')
}
