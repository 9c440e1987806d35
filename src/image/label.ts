import { type DiskBus, type Firmware, type MachineConfig, PLAIN_CONFIG } from './config.ts'
import { CONSISTENCIES, type Consistency } from './consistency.ts'
import { Fault } from './fault.ts'
import type {
  Digest,
  DiskId,
  ImageId,
  MachineId,
  ProjectId,
  RegionId,
  SnapshotId,
  SnapshotPolicyId,
} from './ids.ts'
import type { ImageDisk, ImageKind, ImageOrigin, OsType } from './image.ts'
import type { MachineDiskRecord } from './machine.ts'

/**
 * What a region's store keeps beside a ref, so that the catalog's row can be written again from the region alone. JSON of
 * texts, whole numbers, null, lists and objects; texts are well-formed Unicode. Fields may be added, never changed.
 */
export type Label = ImageLabel | SnapshotLabel | MachineLabel

/** What can be written as a label. */
export type Json = string | number | null | readonly Json[] | { readonly [key: string]: Json }

export interface LabelProject {
  readonly id: ProjectId
  readonly name: string
  /** 1 for the project that every account has from its start. */
  readonly isDefault: number
}

export interface ImageLabel {
  readonly is: 'image'
  readonly id: ImageId
  readonly project: LabelProject
  readonly regionId: RegionId
  readonly kind: ImageKind
  readonly origin: ImageOrigin
  readonly name: string
  readonly description: string
  readonly tag: string
  readonly osType: OsType
  readonly osName: string
  readonly disks: readonly ImageDisk[]
  /** Null, here and below, in labels of before it was kept, and where it is known only later: the image object says. */
  readonly config: MachineConfig | null
  readonly consistency: Consistency | null
  readonly parent: Digest | null
  /** JSON text, as the catalog keeps it. */
  readonly labels: string | null
  /** JSON text likewise; null for what was not brought in as a file, and in labels of before it was kept. */
  readonly imported: string | null
  readonly sourceMachineId: MachineId | null
  readonly sourceImageId: ImageId | null
  /** Null where the label is written before the disks are read. */
  readonly dataBytes: number | null
  readonly createdAtMs: number
}

export interface SnapshotLabel {
  readonly is: 'snapshot'
  readonly id: SnapshotId
  readonly project: LabelProject
  readonly regionId: RegionId
  readonly machineId: MachineId
  readonly machineName: string
  readonly diskId: DiskId
  readonly disk: ImageDisk
  readonly config: MachineConfig
  readonly osType: OsType
  readonly osName: string
  readonly name: string
  readonly description: string
  readonly creator: string
  readonly policyId: SnapshotPolicyId | null
  /** The image that it belongs to. */
  readonly imageId: ImageId | null
  /** As in an image's label. */
  readonly consistency: Consistency | null
  readonly dataBytes: number | null
  readonly createdAtMs: number
}

export interface MachineLabel {
  readonly is: 'machine'
  readonly id: MachineId
  readonly project: LabelProject
  readonly regionId: RegionId
  readonly zone: string
  readonly name: string
  readonly tag: string
  /** JSON texts, as the catalog keeps them. */
  readonly labels: string
  readonly details: string
  readonly cpuCount: number
  readonly memoryBytes: number
  readonly firmware: Firmware
  readonly machineType: string
  readonly typeName: string
  readonly imageId: ImageId | ''
  readonly imageName: string
  readonly osType: OsType
  readonly osName: string
  readonly disks: readonly MachineDiskRecord[]
  readonly createdAtMs: number
}

/** The label as plain JSON: a value that is not there is left out, a lone surrogate is replaced. */
export function writeLabel(label: Label): { readonly [key: string]: Json } {
  const plain = (value: unknown): Json => {
    if (typeof value === 'string') return value.toWellFormed()
    if (value === null || typeof value === 'number') return value
    if (Array.isArray(value)) return value.map(plain)
    const members = Object.entries(value as object).filter(([, member]) => member !== undefined)
    return Object.fromEntries(members.map(([key, member]) => [key, plain(member)]))
  }
  return plain(label) as { readonly [key: string]: Json }
}

type Members = { readonly [key: string]: unknown }
const ID = /^[0-9a-z]{17}$/
const DIGEST = /^[0-9a-f]{64}$/
const FIRMWARES = ['bios', 'uefi'] as const

/** The other way. Throws Fault 'corrupt' for what is no label that this version can read. */
export function parseLabel(value: unknown): Label {
  const label = members(value)
  switch (label.is) {
    case 'image':
      return imageLabel(label)
    case 'snapshot':
      return snapshotLabel(label)
    case 'machine':
      return machineLabel(label)
    default:
      return unreadable('is')
  }
}

function imageLabel(label: Members): ImageLabel {
  return {
    is: 'image',
    id: matching(label, 'id', ID) as ImageId,
    project: project(label),
    regionId: text(label, 'regionId') as RegionId,
    kind: oneOf(label, 'kind', ['base', 'custom']),
    origin: oneOf(label, 'origin', ['import', 'capture', 'copy', 'compose', 'clean']),
    name: text(label, 'name'),
    description: text(label, 'description'),
    tag: text(label, 'tag'),
    osType: oneOf(label, 'osType', ['Linux', 'Windows']),
    osName: text(label, 'osName'),
    disks: list(label, 'disks').map(imageDisk),
    config: label.config === undefined || label.config === null ? null : config(members(label.config)),
    consistency: consistency(label),
    parent: orNull(label, 'parent', DIGEST) as Digest | null,
    labels: label.labels === undefined || label.labels === null ? null : jsonText(label, 'labels'),
    imported: label.imported === undefined || label.imported === null ? null : jsonText(label, 'imported'),
    sourceMachineId: label.sourceMachineId === null ? null : (text(label, 'sourceMachineId') as MachineId),
    sourceImageId: label.sourceImageId === null ? null : (text(label, 'sourceImageId') as ImageId),
    dataBytes: label.dataBytes === null ? null : count(label, 'dataBytes'),
    createdAtMs: count(label, 'createdAtMs'),
  }
}

function snapshotLabel(label: Members): SnapshotLabel {
  return {
    is: 'snapshot',
    id: matching(label, 'id', ID) as SnapshotId,
    project: project(label),
    regionId: text(label, 'regionId') as RegionId,
    machineId: matching(label, 'machineId', ID) as MachineId,
    machineName: text(label, 'machineName'),
    diskId: matching(label, 'diskId', ID) as DiskId,
    disk: imageDisk(members(label.disk)),
    config: config(members(label.config)),
    osType: oneOf(label, 'osType', ['Linux', 'Windows']),
    osName: text(label, 'osName'),
    name: text(label, 'name'),
    description: text(label, 'description'),
    creator: text(label, 'creator'),
    policyId: orNull(label, 'policyId', ID) as SnapshotPolicyId | null,
    imageId: orNull(label, 'imageId', ID) as ImageId | null,
    consistency: consistency(label),
    dataBytes: label.dataBytes === null ? null : count(label, 'dataBytes'),
    createdAtMs: count(label, 'createdAtMs'),
  }
}

function machineLabel(label: Members): MachineLabel {
  return {
    is: 'machine',
    id: matching(label, 'id', ID) as MachineId,
    project: project(label),
    regionId: text(label, 'regionId') as RegionId,
    zone: text(label, 'zone'),
    name: text(label, 'name'),
    tag: text(label, 'tag'),
    labels: jsonText(label, 'labels'),
    details: jsonText(label, 'details'),
    cpuCount: count(label, 'cpuCount'),
    memoryBytes: count(label, 'memoryBytes'),
    firmware: label.firmware === undefined ? PLAIN_CONFIG.firmware : oneOf(label, 'firmware', FIRMWARES),
    machineType: label.machineType === undefined ? PLAIN_CONFIG.machineType : text(label, 'machineType'),
    typeName: text(label, 'typeName'),
    imageId: text(label, 'imageId') as ImageId,
    imageName: text(label, 'imageName'),
    osType: oneOf(label, 'osType', ['Linux', 'Windows']),
    osName: text(label, 'osName'),
    disks: list(label, 'disks').map((disk) => {
      const base = disk.base === undefined ? undefined : members(disk.base)
      return {
        id: matching(disk, 'id', ID) as MachineDiskRecord['id'],
        index: count(disk, 'index'),
        sizeBytes: count(disk, 'sizeBytes'),
        bus: bus(disk),
        base:
          base === undefined
            ? undefined
            : { digest: matching(base, 'digest', DIGEST) as Digest, index: count(base, 'index') },
        category: text(disk, 'category'),
      }
    }),
    createdAtMs: count(label, 'createdAtMs'),
  }
}

/** Labels of before buses were kept are of disks that were all on the one bus there was. */
function bus(disk: Members): DiskBus {
  return disk.bus === undefined ? 'virtio-blk' : oneOf(disk, 'bus', ['virtio-blk', 'virtio-scsi'])
}

function imageDisk(disk: Members): ImageDisk {
  return { index: count(disk, 'index'), sizeBytes: count(disk, 'sizeBytes'), bus: bus(disk) }
}

function config(from: Members): MachineConfig {
  return {
    firmware: oneOf(from, 'firmware', FIRMWARES),
    machineType: text(from, 'machineType'),
    cpuCount: from.cpuCount === null ? null : count(from, 'cpuCount'),
    memoryBytes: from.memoryBytes === null ? null : count(from, 'memoryBytes'),
  }
}

function consistency(label: Members): Consistency | null {
  const { consistency: told } = label
  return told === undefined || told === null ? null : oneOf(label, 'consistency', CONSISTENCIES)
}

function project(label: Members): LabelProject {
  const found = members(label.project)
  return {
    id: matching(found, 'id', /^org-[0-9a-z]{1,32}$/) as ProjectId,
    name: text(found, 'name'),
    isDefault: count(found, 'isDefault'),
  }
}

function unreadable(field: string): never {
  throw new Fault('corrupt', `The label is damaged or of a later version (${field}).`, { subject: 'store' })
}

function members(value: unknown): Members {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Members)
    : unreadable('no object')
}

function list(from: Members, field: string): Members[] {
  const value = from[field]
  return Array.isArray(value) ? value.map(members) : unreadable(field)
}

function text(from: Members, field: string): string {
  const value = from[field]
  return typeof value === 'string' ? value : unreadable(field)
}

function matching(from: Members, field: string, pattern: RegExp): string {
  const value = text(from, field)
  return pattern.test(value) ? value : unreadable(field)
}

/** Null also where the label is of before the field was kept. */
function orNull(from: Members, field: string, pattern: RegExp): string | null {
  return from[field] === undefined || from[field] === null ? null : matching(from, field, pattern)
}

function jsonText(from: Members, field: string): string {
  const value = text(from, field)
  try {
    JSON.parse(value)
    return value
  } catch {
    return unreadable(field)
  }
}

function count(from: Members, field: string): number {
  const value = from[field]
  return Number.isSafeInteger(value) && (value as number) >= 0 ? (value as number) : unreadable(field)
}

function oneOf<const Text extends string>(from: Members, field: string, allowed: readonly Text[]): Text {
  return allowed.find((one) => one === from[field]) ?? unreadable(field)
}
