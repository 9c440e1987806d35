import { spellId } from '../../image/ids.ts'
import { type Image, logicalBytes } from '../../image/image.ts'
import type { Machine } from '../../image/machine.ts'
import type { Region } from '../../image/region.ts'
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

export interface ShownImage {
  readonly id: string
  readonly project: string
  readonly region: string
  readonly kind: Image['kind']
  readonly origin: Image['origin']
  readonly name: string
  readonly description: string
  readonly tag: string
  readonly osType: Image['osType']
  readonly osName: string
  readonly state: Image['state']['at']
  readonly taskId: string | null
  readonly digest: string | null
  readonly reason: string | null
  readonly progressPermille: number
  readonly disks: readonly { readonly index: number; readonly sizeBytes: number }[]
  readonly logicalBytes: number
  readonly dataBytes: number
  readonly storedBytes: number
  readonly movedBytes: number
  readonly sourceMachineId: string | null
  readonly sourceImageId: string | null
  readonly createdAtMs: number
  readonly updatedAtMs: number
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
  readonly typeName: string
  readonly imageId: string
  readonly imageName: string
  readonly osType: Machine['osType']
  readonly osName: string
  readonly disks: readonly {
    readonly id: string
    readonly index: number
    readonly sizeBytes: number
    readonly category: string
  }[]
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
  readonly machineId: string | null
  readonly doneBytes: number
  readonly totalBytes: number
  readonly movedBytes: number
  readonly attemptCount: number
  readonly output: Readonly<Record<string, unknown>>
  readonly createdAtMs: number
  readonly startedAtMs: number | null
  readonly endedAtMs: number | null
}

export function showRegion(region: Region, isDefault: boolean): ShownRegion {
  const { id, localName, englishName, zones } = region
  return { id, localName, englishName, zones, isDefault }
}

export function showImage(image: Image): ShownImage {
  const { state } = image
  return {
    id: spellId('image', image.id, 'native'),
    project: image.projectId,
    region: image.regionId,
    kind: image.kind,
    origin: image.origin,
    name: image.name,
    description: image.description,
    tag: image.tag,
    osType: image.osType,
    osName: image.osName,
    state: state.at,
    taskId: state.at === 'creating' ? spellId('task', state.taskId, 'native') : null,
    digest: state.at === 'available' ? state.digest : null,
    reason: state.at === 'failed' ? state.reason : null,
    progressPermille: image.progressPermille,
    disks: image.disks.map(({ index, sizeBytes }) => ({ index, sizeBytes })),
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
    typeName: machine.typeName,
    imageId: spellId('image', machine.imageId, 'native'),
    imageName: machine.imageName,
    osType: machine.osType,
    osName: machine.osName,
    disks: machine.disks.map(({ id, index, sizeBytes, category }) => ({
      id: spellId('disk', id, 'native'),
      index,
      sizeBytes,
      category,
    })),
    createdAtMs: machine.createdAtMs,
  }
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
    machineId: task.machineId === undefined ? null : spellId('machine', task.machineId, 'native'),
    doneBytes: task.doneBytes,
    totalBytes: task.totalBytes,
    movedBytes: task.movedBytes,
    attemptCount: task.attemptCount,
    output: task.output,
    createdAtMs: task.createdAtMs,
    startedAtMs: task.startedAtMs ?? null,
    endedAtMs: task.endedAtMs ?? null,
  }
}
