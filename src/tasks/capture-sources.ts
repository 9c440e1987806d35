import type { ExportedDisk, ExportRequest } from '../host/contract.ts'
import type { DiskBus, MachineConfig } from '../image/config.ts'
import type { WantedConsistency } from '../image/consistency.ts'
import { Fault, isFault } from '../image/fault.ts'
import {
  type Digest,
  type DiskId,
  type DomainId,
  type MachineId,
  type ProjectId,
  type RegionId,
  spellId,
} from '../image/ids.ts'
import type { OsType } from '../image/image.ts'
import type { MachineDiskRecord } from '../image/machine.ts'
import { PUBLIC_DOMAIN } from '../store/names.ts'
import { machineConfigOf, machineDisksOf } from './columns.ts'
import { closeForgotten } from './forgotten-exports.ts'
import { domainOf } from './image-row.ts'
import { explainLostDisk } from './lost-disk.ts'
import { exportNameOf, type TaskParts } from './parts.ts'
import type { SourceDisk } from './store-jobs.ts'

/** How a disk is read: what changed since its last capture, what its machine wrote over its image, or all of it. */
export type Way = 'changes' | 'own' | 'all'

/** A disk as it was captured last. */
interface Baseline {
  readonly captureKey: string
  readonly digest: Digest
  readonly diskIndex: number
}

/** Chosen once for a capture, and kept: a second run of a step asks for the same moment with the same words. */
export interface CaptureRequest {
  readonly request: ExportRequest
  readonly baselines: Readonly<Record<string, Baseline>>
  /** By disk: why there is no baseline. */
  readonly whyNot: Readonly<Record<string, string>>
}

export interface CapturedMachine {
  /** In the machine's order. */
  readonly disks: readonly MachineDiskRecord[]
  readonly config: MachineConfig
  readonly osType: OsType
  readonly osName: string
}

export interface CaptureSource {
  readonly record: MachineDiskRecord
  readonly disk: SourceDisk
  readonly way: Way
  readonly why: string
}

/** Fault 'absent' (subject 'machine'). */
export async function capturedMachine(
  { catalog }: Pick<TaskParts, 'catalog'>,
  id: MachineId,
): Promise<CapturedMachine> {
  const row = await catalog.rows
    .selectFrom('machine')
    .select(['disks', 'osType', 'osName', 'cpuCount', 'memoryBytes', 'firmware', 'machineType'])
    .where('id', '=', id)
    .executeTakeFirst()
  if (row === undefined) {
    throw new Fault('absent', 'The machine was deleted before its disks were read.', { subject: 'machine' })
  }
  const { osType, osName } = row
  return { disks: machineDisksOf(row.disks), config: machineConfigOf(row), osType: osType as OsType, osName }
}

/** What is to be asked of the host for these disks, with every baseline whose content the region still holds. */
export async function chooseRequest(
  { catalog, jobs }: Pick<TaskParts, 'catalog' | 'jobs'>,
  regionId: RegionId,
  machine: CapturedMachine,
  diskIds: readonly DiskId[],
  consistency: WantedConsistency,
): Promise<CaptureRequest> {
  const rows = await catalog.rows.selectFrom('baseline').selectAll().where('diskId', 'in', diskIds).execute()
  const since: Record<string, string> = {}
  const baselines: Record<string, Baseline> = {}
  const whyNot: Record<string, string> = {}
  for (const diskId of diskIds) {
    const row = rows.find((one) => one.diskId === diskId)
    const record = machine.disks.find(({ id }) => id === diskId)
    if (row === undefined) whyNot[diskId] = 'It has not been captured since it was made or reset.'
    else if (row.sizeBytes !== record?.sizeBytes)
      whyNot[diskId] = 'Its size has changed since its last capture.'
    else if (row.regionId !== regionId || (await isGone(jobs, regionId, row.digest as Digest))) {
      whyNot[diskId] = 'What its last capture made is deleted.'
    } else {
      const { captureKey, diskIndex } = row
      baselines[diskId] = { captureKey, digest: row.digest as Digest, diskIndex }
      since[diskId] = captureKey
    }
  }
  return { request: { diskIds, since, consistency }, baselines, whyNot }
}

async function isGone(jobs: TaskParts['jobs'], regionId: RegionId, digest: Digest): Promise<boolean> {
  return (await findDomain(jobs, regionId, digest)) === undefined
}

async function findDomain(
  jobs: TaskParts['jobs'],
  regionId: RegionId,
  digest: Digest,
): Promise<DomainId | undefined> {
  try {
    return await jobs.domainOf(regionId, digest)
  } catch (error) {
    if (isFault(error, 'absent') || isFault(error, 'corrupt')) return undefined
    throw error
  }
}

export interface CapturePlace {
  readonly regionId: RegionId
  readonly projectId: ProjectId
}

/**
 * The disks at the moment of the capture `key`; asked again, the same ones as long as the host keeps that moment. A
 * hypervisor or guest that went away is told in the words of the machine.
 */
export async function openSources(
  parts: TaskParts,
  place: CapturePlace & { readonly isAllRead: boolean },
  capture: { readonly machineId: MachineId; readonly key: string; readonly signal: AbortSignal },
  records: readonly MachineDiskRecord[],
  chosen: CaptureRequest,
) {
  const { host, jobs } = parts
  const { machineId, key, signal } = capture
  await jobs.serve()
  await closeForgotten(parts, machineId)
  const wasRunning = (await host.power(machineId)) === 'running'
  const exports = await host
    .openExports(machineId, key, chosen.request, signal)
    .catch(async (error: unknown) => {
      throw await explainLostDisk(parts, machineId, wasRunning, error)
    })
  const layers = await host.layers(machineId)
  const sources: CaptureSource[] = []
  for (const record of records) {
    const exported = exports.disks.find((disk) => disk.id === record.id)
    if (exported === undefined) {
      throw new Fault('unavailable', `The host does not show disk ${spellId('disk', record.id, 'native')}.`, {
        subject: 'host',
      })
    }
    const baseName = layers[record.id]?.baseName
    sources.push(await chooseSource(parts, place, record, exported, baseName, chosen))
  }
  return { wasRunning, exports, sources }
}

/**
 * The quickest way to read a disk that is certain: any doubt means that all of it is read. `isAllRead`: read all of it,
 * because a content that it was to be compared with went away.
 */
async function chooseSource(
  { jobs }: Pick<TaskParts, 'jobs'>,
  place: CapturePlace & { readonly isAllRead: boolean },
  record: MachineDiskRecord,
  exported: ExportedDisk,
  baseName: string | undefined,
  { baselines, whyNot }: CaptureRequest,
): Promise<CaptureSource> {
  const { sizeBytes, socketPath, exportName, mapName, changes, own } = exported
  const bus: DiskBus = record.bus
  const disk: SourceDisk = { sizeBytes, socketPath, exportName, mapName, bus }
  const baseline = baselines[record.id]
  const whyNotChanges = whyNot[record.id] ?? exported.changesWhy
  if (place.isAllRead) return { record, disk, way: 'all', why: 'What it was compared with was deleted.' }
  if (baseline !== undefined && changes !== undefined) {
    const { digest, diskIndex } = baseline
    return { record, disk: { ...disk, baseline: { digest, diskIndex, changes } }, way: 'changes', why: '' }
  }
  const all = (why: string): CaptureSource => ({
    record,
    disk,
    way: 'all',
    why: `${whyNotChanges} ${why}`.trim(),
  })
  if (record.base === undefined) return all('It was made empty, without an image under it.')
  if (own === undefined) return all('This host cannot tell what was written over its image.')
  const digest = record.base.digest as Digest
  // A catalog or a machine that was restored may not know of the other's reset.
  if (baseName !== exportNameOf(place.regionId, digest, record.base.index)) {
    return all('It stands on another image than the catalog says.')
  }
  const domain = await findDomain(jobs, place.regionId, digest)
  if (domain === undefined) return all('Its image cannot be read.')
  // Naming another project's chunks would tell of them.
  if (domain !== PUBLIC_DOMAIN && domain !== domainOf('custom', place.projectId)) {
    return all('Its image came from another project.')
  }
  return {
    record,
    disk: { ...disk, baseline: { digest, diskIndex: record.base.index, changes: own } },
    way: 'own',
    why: whyNotChanges,
  }
}
