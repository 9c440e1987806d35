import { type ArchivedMachine, refuseFile } from './contract.ts'
import {
  childrenOf,
  type OvfElement,
  onlyChild,
  parseOvfDocument,
  refuseDescription,
} from './ovf-document.ts'
import { machineOf } from './ovf-machine.ts'
import { parseUnit } from './ovf-units.ts'
import { refuseArchive } from './tar-refuse.ts'

/** A disk of the machine, in the machine's own order. */
export interface OvfDisk {
  /** Of the member with its data. */
  readonly fileName: string
  readonly capacityBytes: number
  /** How exactly the capacity is told. */
  readonly unitBytes: number
}

export interface Ovf {
  readonly disks: readonly OvfDisk[]
  readonly machine: ArchivedMachine
  /** Everything that the description names, disks and others. */
  readonly fileNames: ReadonlySet<string>
}

/** VMDK in the spellings of twenty years; nothing else has ever been in an archive that two products read. */
const FORMAT =
  /^https?:\/\/www\.vmware\.com\/(?:interfaces\/)?specifications\/vmdk\.html(?:#(?:sparse|compressed|streamOptimized))?$/i
const DISK_DRIVE = 17
const DISKS_MAX = 32

/**
 * What a description says of one machine and its disks. `bytes` are at most 1 MiB. Throws 'archive', 'unsupported' or
 * 'parent'. Source: DMTF DSP0243, Open Virtualization Format, versions 1 and 2.
 */
export function parseOvf(bytes: Buffer): Ovf {
  const envelope = parseOvfDocument(bytes)
  if (envelope.name !== 'Envelope') throw refuseDescription()
  if (childrenOf(envelope, 'VirtualSystemCollection').length > 0) throw refuseSeveralMachines()
  const systems = childrenOf(envelope, 'VirtualSystem')
  if (systems.length > 1) throw refuseSeveralMachines()
  const [system] = systems
  if (system === undefined) throw refuseDescription()
  const files = filesOf(envelope)
  const disks = disksOf(envelope, files)
  return {
    disks: inOrder(system, disks),
    machine: machineOf(system),
    fileNames: new Set(files.values()),
  }
}

/** Names by id. */
function filesOf(envelope: OvfElement): Map<string, string> {
  const files = new Map<string, string>()
  const references = onlyChild(envelope, 'References')
  for (const file of references === undefined ? [] : childrenOf(references, 'File')) {
    const id = file.attributes.get('id')
    const name = file.attributes.get('href')
    if (id === undefined || name === undefined || files.has(id)) throw refuseDescription()
    if ([...files.values()].includes(name)) throw refuseArchive('names one file twice')
    if (
      file.attributes.has('chunkSize') ||
      !['', 'identity'].includes(file.attributes.get('compression') ?? '')
    ) {
      throw refuseFile(
        'unsupported',
        'The archive holds packed or divided files. Export it again without compression and without splitting.',
      )
    }
    files.set(id, name)
  }
  return files
}

/** Disks by id. */
function disksOf(envelope: OvfElement, files: ReadonlyMap<string, string>): Map<string, OvfDisk> {
  const disks = new Map<string, OvfDisk>()
  const section = onlyChild(envelope, 'DiskSection')
  const usedNames = new Set<string>()
  for (const disk of section === undefined ? [] : childrenOf(section, 'Disk')) {
    const id = disk.attributes.get('diskId')
    if (id === undefined || disks.has(id) || disks.size === DISKS_MAX) throw refuseDescription()
    if (disk.attributes.has('parentRef')) {
      throw refuseFile(
        'parent',
        'The archive holds a disk on top of another one. Remove the snapshots of the machine, then export it again.',
      )
    }
    const fileName = files.get(disk.attributes.get('fileRef') ?? '')
    if (fileName === undefined) {
      throw refuseFile(
        'unsupported',
        'The archive names a disk without data. Remove the empty disk from the machine, then export it again.',
      )
    }
    if (usedNames.has(fileName)) throw refuseArchive('uses one file for two disks')
    usedNames.add(fileName)
    if (!FORMAT.test(disk.attributes.get('format') ?? '')) {
      throw refuseFile(
        'unsupported',
        'The archive holds disks in another format than VMDK. Bring them in one by one.',
      )
    }
    disks.set(id, { fileName, ...capacityOf(disk) })
  }
  if (disks.size === 0) throw refuseArchive('names no disk')
  return disks
}

function capacityOf(disk: OvfElement): { capacityBytes: number; unitBytes: number } {
  const capacity = disk.attributes.get('capacity') ?? ''
  const unitBytes = parseUnit(disk.attributes.get('capacityAllocationUnits') ?? 'byte')
  if (!/^[0-9]{1,16}$/.test(capacity) || unitBytes === undefined) throw refuseDescription()
  const capacityBytes = Number(capacity) * unitBytes
  if (!Number.isSafeInteger(capacityBytes)) throw refuseDescription()
  return { capacityBytes, unitBytes }
}

/** The disks as the machine has them: by controller and by place on it, each once. */
function inOrder(system: OvfElement, disks: ReadonlyMap<string, OvfDisk>): OvfDisk[] {
  const hardware = onlyChild(system, 'VirtualHardwareSection')
  const items =
    hardware === undefined ? [] : hardware.children.filter(({ name }) => /^(Storage)?Item$/.test(name))
  const drives = items
    .filter((item) => numberOf(item, 'ResourceType') === DISK_DRIVE)
    .map((item) => ({
      place: [...controllerPlace(items, textOf(item, 'Parent')), numberOf(item, 'AddressOnParent')],
      id: /^(?:ovf:)?\/disk\/(.+)$/.exec(textOf(item, 'HostResource'))?.[1] ?? '',
    }))
  // A stable sort: of two on one place, the one that is named first.
  drives.sort((one, other) => comparePlaces(one.place, other.place))
  const left = new Map(disks)
  const ordered = drives.map(({ id }) => {
    const disk = left.get(id)
    if (disk === undefined || !left.delete(id))
      throw refuseArchive('has a machine with a disk that is not in it, or twice')
    return disk
  })
  if (left.size > 0) throw refuseArchive('holds a disk that its machine does not have')
  return ordered
}

/** Controllers of one kind stand together, where the first of them is named, and in the order of their own places. */
function controllerPlace(items: readonly OvfElement[], id: string): number[] {
  const index = items.findIndex((item) => id !== '' && textOf(item, 'InstanceID') === id)
  const controller = items[index]
  if (controller === undefined) return [items.length, 0, 0]
  const type = numberOf(controller, 'ResourceType')
  const kind = items.findIndex((item) => numberOf(item, 'ResourceType') === type)
  return [kind, numberOf(controller, 'Address'), index]
}

function comparePlaces(one: readonly number[], other: readonly number[]): number {
  const index = one.findIndex((number, at) => number !== other[at])
  return index === -1 ? 0 : (one[index] ?? 0) - (other[index] ?? 0)
}

function textOf(item: OvfElement, name: string): string {
  return childrenOf(item, name)[0]?.text ?? ''
}

function numberOf(item: OvfElement, name: string): number {
  const text = textOf(item, name)
  return /^[0-9]{1,9}$/.test(text) ? Number(text) : 0
}

function refuseSeveralMachines() {
  return refuseFile(
    'unsupported',
    'The archive holds several machines. Export each of them to a file of its own.',
  )
}
