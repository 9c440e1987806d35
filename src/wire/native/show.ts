import type { App } from '../../app/contract.ts'
import type { CleaningSummary } from '../../image/cleaning.ts'
import type { DiskBus, MachineConfig } from '../../image/config.ts'
import type { Consistency } from '../../image/consistency.ts'
import { type Id, type ResourceKind, spellId } from '../../image/ids.ts'
import { type Image, type ImageState, logicalBytes } from '../../image/image.ts'
import type { ImportFacts } from '../../image/imported.ts'
import type { Machine } from '../../image/machine.ts'
import type { Region } from '../../image/region.ts'
import type { Snapshot, SnapshotPolicy } from '../../image/snapshot.ts'
import type { Task } from '../../image/task.ts'

// What the native door says of each noun. Ids are spelt natively, times are milliseconds since 1970, sizes are
// bytes, and a value that is not there is null, so that every answer of one kind has the same keys.

export interface ShownRegion {
  readonly id: string
  readonly localName: string
  readonly englishName: string
  readonly zones: readonly string[]
  readonly isDefault: boolean
}

export interface ShownDisk {
  readonly index: number
  readonly sizeBytes: number
  readonly bus: DiskBus
}

export interface ShownImage {
  readonly id: string
  readonly project: string
  readonly region: string
  readonly kind: Image['kind']
  readonly origin: Image['origin']
  readonly name: string
  readonly description: string
  readonly tag: string
  readonly labels: Image['labels']
  readonly osType: Image['osType']
  readonly osName: string
  readonly state: Image['state']['at']
  readonly taskId: string | null
  readonly digest: string | null
  readonly reason: string | null
  readonly progressPermille: number
  readonly disks: readonly ShownDisk[]
  readonly config: MachineConfig
  readonly consistency: Consistency | null
  /** The digest of the image that the machine's system disk stood on. */
  readonly parent: string | null
  /** What was taken out of it; null for an image that was never cleaned. */
  readonly cleaning: CleaningSummary | null
  /** What was found of the file that it was brought in as; null for an image that was made here. */
  readonly imported: ShownImport | null
  readonly snapshotIds: readonly string[]
  readonly logicalBytes: number
  readonly dataBytes: number
  readonly storedBytes: number
  readonly movedBytes: number
  readonly sourceMachineId: string | null
  readonly sourceImageId: string | null
  readonly createdAtMs: number
  readonly updatedAtMs: number
}

/** Beside `osType`, `osName` and `config.firmware`, which are what the image is taken for. */
export interface ShownImport {
  readonly format: string
  readonly fileBytes: number
  readonly sha256: string | null
  readonly osType: Image['osType'] | null
  readonly osName: string | null
  readonly firmware: MachineConfig['firmware'] | null
}

/** An image asked for by itself. */
export interface ShownImageWhole extends ShownImage {
  /** What it was made from, the nearest first; one that is no longer listed has no id. */
  readonly lineage: readonly { readonly id: string | null; readonly digest: string; readonly name: string }[]
}

export interface ShownSnapshot {
  readonly id: string
  readonly project: string
  readonly region: string
  readonly machineId: string
  readonly machineName: string
  readonly diskId: string
  readonly disk: ShownDisk
  readonly config: MachineConfig
  readonly osType: Snapshot['osType']
  readonly osName: string
  readonly name: string
  readonly description: string
  readonly creator: string
  readonly policyId: string | null
  readonly imageId: string | null
  readonly state: Snapshot['state']['at']
  readonly taskId: string | null
  readonly digest: string | null
  readonly reason: string | null
  readonly progressPermille: number
  readonly consistency: Consistency | null
  readonly dataBytes: number
  readonly storedBytes: number
  readonly movedBytes: number
  readonly createdAtMs: number
  readonly updatedAtMs: number
}

export interface ShownSnapshotPolicy {
  readonly id: string
  readonly project: string
  readonly region: string
  readonly name: string
  readonly cron: string
  readonly timeZone: string
  readonly keepCount: number
  readonly disks: SnapshotPolicy['disks']
  readonly machineIds: readonly string[]
  readonly isEnabled: boolean
  readonly lastDueAtMs: number | null
  readonly lastDoneAtMs: number | null
  readonly lastFailedAtMs: number | null
  readonly lastReason: string | null
  readonly nextDueAtMs: number | null
  readonly createdAtMs: number
}

export interface ShownMachine {
  readonly id: string
  readonly project: string
  readonly region: string
  readonly zone: string
  readonly name: string
  readonly tag: string
  readonly labels: Machine['labels']
  readonly state: Machine['state']
  readonly reason: string | null
  readonly cpuCount: number
  readonly memoryBytes: number
  readonly firmware: Machine['firmware']
  readonly machineType: string
  readonly typeName: string
  readonly imageId: string
  readonly imageName: string
  readonly osType: Machine['osType']
  readonly osName: string
  readonly disks: readonly (ShownDisk & { readonly id: string; readonly category: string })[]
  readonly createdAtMs: number
}

export interface ShownTask {
  readonly id: string
  readonly parentId: string | null
  readonly kind: Task['kind']
  readonly project: string
  readonly region: string
  readonly state: Task['state']['at']
  readonly step: string | null
  readonly faultKind: string | null
  readonly reason: string | null
  readonly imageId: string | null
  readonly snapshotId: string | null
  readonly machineId: string | null
  readonly doneBytes: number
  readonly totalBytes: number
  readonly movedBytes: number
  /** Stored bytes that the target had, so that nobody had to move them. */
  readonly savedBytes: number
  /** Of late, and until its end at this rate; null unless it runs and moves something. */
  readonly bytesPerSecond: number | null
  readonly etaMs: number | null
  readonly priority: number
  readonly deadlineAtMs: number | null
  readonly attemptCount: number
  /** Why the last attempt failed, of a task that tries again or did. */
  readonly lastReason: string | null
  readonly output: Readonly<Record<string, unknown>>
  readonly createdAtMs: number
  readonly startedAtMs: number | null
  readonly endedAtMs: number | null
}

export function showRegion(region: Region, isDefault: boolean): ShownRegion {
  const { id, localName, englishName, zones } = region
  return { id, localName, englishName, zones, isDefault }
}

function showState(state: ImageState) {
  return {
    state: state.at,
    taskId: state.at === 'creating' ? spellId('task', state.taskId, 'native') : null,
    digest: state.at === 'available' ? state.digest : null,
    reason: state.at === 'failed' ? state.reason : null,
  }
}

const showDisk = ({ index, sizeBytes, bus }: ShownDisk): ShownDisk => ({ index, sizeBytes, bus })

function showImport({ format, fileBytes, sha256, osType, osName, firmware }: ImportFacts): ShownImport {
  return {
    ...{ format, fileBytes, sha256: sha256 ?? null },
    ...{ osType: osType ?? null, osName: osName ?? null, firmware: firmware ?? null },
  }
}

export function showImage(image: Image): ShownImage {
  return {
    id: spellId('image', image.id, 'native'),
    project: image.projectId,
    region: image.regionId,
    kind: image.kind,
    origin: image.origin,
    name: image.name,
    description: image.description,
    tag: image.tag,
    labels: image.labels,
    osType: image.osType,
    osName: image.osName,
    ...showState(image.state),
    progressPermille: image.progressPermille,
    disks: image.disks.map(showDisk),
    config: image.config,
    consistency: image.consistency ?? null,
    parent: image.parent ?? null,
    cleaning: image.cleaning ?? null,
    imported: image.imported === undefined ? null : showImport(image.imported),
    snapshotIds: image.snapshotIds.map((id) => spellId('snapshot', id, 'native')),
    logicalBytes: logicalBytes(image),
    dataBytes: image.dataBytes,
    storedBytes: image.storedBytes,
    movedBytes: image.movedBytes,
    sourceMachineId:
      image.sourceMachineId === undefined ? null : spellId('machine', image.sourceMachineId, 'native'),
    sourceImageId: image.sourceImageId === undefined ? null : spellId('image', image.sourceImageId, 'native'),
    createdAtMs: image.createdAtMs,
    updatedAtMs: image.updatedAtMs,
  }
}

type Lineage = Awaited<ReturnType<App['images']['lineage']>>

export function showWholeImage(image: Image, lineage: Lineage): ShownImageWhole {
  return {
    ...showImage(image),
    lineage: lineage.map(({ id, digest, name }) => ({
      ...{ id: id === undefined ? null : spellId('image', id, 'native'), digest, name },
    })),
  }
}

export function showSnapshot(snapshot: Snapshot): ShownSnapshot {
  const { policyId, imageId } = snapshot
  return {
    id: spellId('snapshot', snapshot.id, 'native'),
    project: snapshot.projectId,
    region: snapshot.regionId,
    machineId: spellId('machine', snapshot.machineId, 'native'),
    machineName: snapshot.machineName,
    diskId: spellId('disk', snapshot.diskId, 'native'),
    disk: showDisk(snapshot.disk),
    config: snapshot.config,
    osType: snapshot.osType,
    osName: snapshot.osName,
    name: snapshot.name,
    description: snapshot.description,
    creator: snapshot.creator,
    policyId: policyId === undefined ? null : spellId('snapshot-policy', policyId, 'native'),
    imageId: imageId === undefined ? null : spellId('image', imageId, 'native'),
    ...showState(snapshot.state),
    progressPermille: snapshot.progressPermille,
    consistency: snapshot.consistency ?? null,
    dataBytes: snapshot.dataBytes,
    storedBytes: snapshot.storedBytes,
    movedBytes: snapshot.movedBytes,
    createdAtMs: snapshot.createdAtMs,
    updatedAtMs: snapshot.updatedAtMs,
  }
}

export function showSnapshotPolicy(
  policy: SnapshotPolicy & { readonly nextDueAtMs: number | undefined },
): ShownSnapshotPolicy {
  return {
    id: spellId('snapshot-policy', policy.id, 'native'),
    project: policy.projectId,
    region: policy.regionId,
    name: policy.name,
    cron: policy.cron,
    timeZone: policy.timeZone,
    keepCount: policy.keepCount,
    disks: policy.disks,
    machineIds: policy.machineIds.map((id) => spellId('machine', id, 'native')),
    isEnabled: policy.isEnabled,
    lastDueAtMs: policy.lastDueAtMs ?? null,
    lastDoneAtMs: policy.lastDoneAtMs ?? null,
    lastFailedAtMs: policy.lastFailedAtMs ?? null,
    lastReason: policy.lastReason ?? null,
    nextDueAtMs: policy.nextDueAtMs ?? null,
    createdAtMs: policy.createdAtMs,
  }
}

export function showMachine(machine: Machine): ShownMachine {
  return {
    id: spellId('machine', machine.id, 'native'),
    project: machine.projectId,
    region: machine.regionId,
    zone: machine.zone,
    name: machine.name,
    tag: machine.tag,
    labels: machine.labels,
    state: machine.state,
    reason: machine.reason === '' ? null : machine.reason,
    cpuCount: machine.cpuCount,
    memoryBytes: machine.memoryBytes,
    firmware: machine.firmware,
    machineType: machine.machineType,
    typeName: machine.typeName,
    imageId: spellId('image', machine.imageId, 'native'),
    imageName: machine.imageName,
    osType: machine.osType,
    osName: machine.osName,
    disks: machine.disks.map((disk) => ({
      ...{ id: spellId('disk', disk.id, 'native'), ...showDisk(disk), category: disk.category },
    })),
    createdAtMs: machine.createdAtMs,
  }
}

/** Where a task's output names things, and of which kind they are. */
const NAMED = { diskId: 'disk', snapshotId: 'snapshot', imageId: 'image', taskId: 'task' } as const

/** What a task found out names things, as everything does, by ids that can be used. */
function showOutput({ output }: Task): Task['output'] {
  return {
    ...spelled(output, NAMED),
    ...(Array.isArray(output.disks)
      ? { disks: output.disks.map((disk) => spelled(disk, { id: 'disk' })) }
      : {}),
    // Of a batch: what became of each.
    ...(Array.isArray(output.copies) ? { copies: output.copies.map((copy) => spelled(copy, NAMED)) } : {}),
  }
}

function spelled(
  found: Readonly<Record<string, unknown>>,
  kinds: Readonly<Record<string, ResourceKind>>,
): Record<string, unknown> {
  const ids = Object.entries(kinds).flatMap(([name, kind]) => {
    const id = found[name]
    return typeof id === 'string' ? [[name, spellId(kind, id as Id<ResourceKind>, 'native')]] : []
  })
  return { ...found, ...Object.fromEntries(ids) }
}

export function showTask(task: Task): ShownTask {
  const { state } = task
  return {
    id: spellId('task', task.id, 'native'),
    parentId: task.parentId === undefined ? null : spellId('task', task.parentId, 'native'),
    kind: task.kind,
    project: task.projectId,
    region: task.regionId,
    state: state.at,
    step: state.at === 'running' ? state.step : null,
    faultKind: state.at === 'failed' ? state.kind : null,
    reason: state.at === 'failed' ? state.reason : null,
    imageId: task.imageId === undefined ? null : spellId('image', task.imageId, 'native'),
    snapshotId: task.snapshotId === undefined ? null : spellId('snapshot', task.snapshotId, 'native'),
    machineId: task.machineId === undefined ? null : spellId('machine', task.machineId, 'native'),
    doneBytes: task.doneBytes,
    totalBytes: task.totalBytes,
    movedBytes: task.movedBytes,
    savedBytes: task.savedBytes,
    bytesPerSecond: task.bytesPerSecond ?? null,
    etaMs: task.etaMs ?? null,
    priority: task.priority,
    deadlineAtMs: task.deadlineAtMs ?? null,
    attemptCount: task.attemptCount,
    lastReason: task.lastReason ?? null,
    output: showOutput(task),
    createdAtMs: task.createdAtMs,
    startedAtMs: task.startedAtMs ?? null,
    endedAtMs: task.endedAtMs ?? null,
  }
}
