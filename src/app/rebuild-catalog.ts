import assert from 'node:assert/strict'
import type { Catalog, Rows } from '../catalog/contract.ts'
import type { Host } from '../host/contract.ts'
import { isFault } from '../image/fault.ts'
import type { Digest, RegionId } from '../image/ids.ts'
import type { OsType } from '../image/image.ts'
import {
  type ImageLabel,
  type Label,
  type LabelProject,
  type MachineLabel,
  parseLabel,
  type SnapshotLabel,
} from '../image/label.ts'
import type { FoundImage, FoundRef, RegionSurvey, StoreJobs } from '../tasks/store-jobs.ts'
import { ensureRoot, type RootKey } from './first-start.ts'

export interface RebuiltRow {
  readonly regionId: RegionId
  readonly what: 'image' | 'snapshot' | 'machine' | 'project' | 'ref'
  readonly id: string
  readonly name: string
  /** 'present': there is such a row, which is left as it is. 'damaged': it cannot be restored now, and why. */
  readonly result: 'restored' | 'present' | 'damaged'
  readonly why: string
}

export interface RebuildParts {
  readonly catalog: Catalog
  readonly host: Pick<Host, 'power'>
  readonly jobs: Pick<StoreJobs, 'survey'>
  readonly clock: () => number
  /** The first access key, if the environment gives one. */
  readonly rootKey: RootKey | undefined
}

type WholeImage = Exclude<FoundImage, { message: string }>

type Held = {
  readonly regionId: RegionId
  readonly ref: Extract<FoundRef, { holder: string }>
  readonly label: Label
  readonly images: RegionSurvey['images']
}

/**
 * Writes again what the regions' refs tell of a catalog that is lost: images, snapshots, machines and the projects they
 * belong to. No row that is there is changed. An image or a snapshot is restored when it has its digest and its domain's signature, and every
 * page and chunk of it is in the store; a machine when what it stands on is, with the power the host says it has. May run
 * again, also after a repair made whole what was damaged.
 */
export async function rebuildCatalog(
  parts: RebuildParts,
  regionIds: readonly RegionId[],
  onProgress: (regionId: RegionId, doneCount: number, totalCount: number) => void,
  signal: AbortSignal,
): Promise<readonly RebuiltRow[]> {
  const rows: RebuiltRow[] = []
  const held: Held[] = []
  for (const regionId of regionIds) {
    const tell = ({ doneBytes, totalBytes }: { doneBytes: number; totalBytes: number }) =>
      onProgress(regionId, doneBytes, totalBytes)
    const { refs, images } = await parts.jobs.survey(regionId, tell, signal)
    for (const ref of refs) {
      const label = 'holder' in ref ? labelOf(ref) : ref.message
      if ('holder' in ref && typeof label !== 'string') held.push({ regionId, ref, label, images })
      else {
        const id = 'holder' in ref ? ref.holder : ref.name
        const why = typeof label === 'string' ? label : ''
        rows.push({ regionId, what: 'ref', id, name: '', result: 'damaged', why })
      }
    }
  }
  const accountId = await ensureAccount(parts, held)
  for (const one of held) {
    const state = one.label.is === 'machine' ? await machineState(parts.host, one.label) : undefined
    // One at a time: a row that cannot be written keeps nobody else's from being restored.
    rows.push(
      ...(await parts.catalog.transaction(async (within): Promise<RebuiltRow[]> => {
        const noun = one.label.is
        const there = await within
          .selectFrom(noun)
          .select('id')
          .where('id', '=', one.label.id)
          .executeTakeFirst()
        const about = { regionId: one.regionId, what: noun, id: one.label.id, name: one.label.name }
        if (there !== undefined) return [{ ...about, result: 'present' as const, why: '' }]
        const why = whyNot(one)
        if (why !== undefined) return [{ ...about, result: 'damaged' as const, why }]
        const project = await ensureProject(within, accountId, one, parts.clock())
        const { label } = one
        if (label.is === 'image') await insertImageRow(within, label, one, parts.clock())
        else if (label.is === 'snapshot') await insertSnapshotRow(within, label, one, parts.clock())
        else await insertMachineRow(within, label, one.regionId, state as MachineNow)
        return [...project, { ...about, result: 'restored' as const, why: state?.reason ?? '' }]
      })),
    )
  }
  return rows
}

/** The label, or why there is none. */
function labelOf(ref: Extract<FoundRef, { holder: string }>): Label | string {
  try {
    const label = parseLabel(ref.label)
    return label.id === ref.holder ? label : `Its label is that of ${label.id}.`
  } catch (error) {
    if (isFault(error)) return error.message
    throw error
  }
}

/** A new catalog gets the account, root user and first key of a first start; its default project is the one there was. */
async function ensureAccount(parts: RebuildParts, held: readonly Held[]): Promise<string> {
  const project = held.map(({ label }) => label.project).find((one) => one.isDefault === 1)
  await ensureRoot(parts.catalog, parts.rootKey, parts.clock(), project)
  const { id } = await parts.catalog.rows.selectFrom('account').select('id').executeTakeFirstOrThrow()
  return id
}

function whyNot({ ref, label, images }: Held): string | undefined {
  for (const digest of ref.digests) {
    const image = images.get(digest)
    if (image === undefined) return `The region does not hold image ${digest}.`
    if ('message' in image) return image.message
    const isSame = (disk: { sizeBytes: number }, index: number) => disk.sizeBytes === image.diskBytes[index]
    if (label.is === 'machine') continue
    const disks = label.is === 'image' ? label.disks : [label.disk]
    if (disks.length !== image.diskBytes.length || !disks.every(isSame)) {
      return 'Its label tells of other disks than the image has.'
    }
  }
  return label.is !== 'machine' && ref.digests.length !== 1
    ? 'Its ref names not exactly one image.'
    : undefined
}

/** The one image that the ref names, once `whyNot` has nothing against it. */
function contentOf({ ref, images }: Held): { digest: Digest; found: WholeImage } {
  const [digest] = ref.digests
  const found = digest === undefined ? undefined : images.get(digest)
  assert(digest !== undefined && found !== undefined && !('message' in found), 'it was looked at')
  return { digest, found }
}

/** What a row of an image or snapshot says of its making once that is over. */
function madeOf(one: Held, nowMs: number) {
  const { digest, found } = contentOf(one)
  return {
    ...{ state: 'available', taskId: null, digest, reason: null, progressPermille: 1000 },
    dataBytes: found.dataBytes,
    // What it once added, and what was moved for it, nobody knows any more; `store usage` says what it takes.
    ...{ storedBytes: 0, movedBytes: 0, reservedBytes: 0, updatedAtMs: nowMs },
    consistency: found.consistency,
    ...osOf(one.label, found.os),
  }
}

/** The label is written before the disks are read; what was found inside them then, the image object tells. */
function osOf(
  label: Pick<Label, 'osName' | 'osType'>,
  { type, name }: WholeImage['os'],
): { osType: OsType; osName: string } {
  const osType = { linux: 'Linux', windows: 'Windows', other: label.osType } as const
  return { osType: osType[type], osName: name === '' ? label.osName : name }
}

async function ensureProject(
  rows: Rows,
  accountId: string,
  { regionId, label }: Held,
  nowMs: number,
): Promise<RebuiltRow[]> {
  const { id, name }: LabelProject = label.project
  const there = await rows.selectFrom('project').select('id').where('id', '=', id).executeTakeFirst()
  if (there !== undefined) return []
  const same = await rows
    .selectFrom('project')
    .select('id')
    .where('accountId', '=', accountId)
    .where('name', '=', name)
    .executeTakeFirst()
  // Names are unique in an account; the id is what everything else goes by.
  const free = same === undefined ? name : `${name.slice(0, 40)} ${id}`
  await rows
    .insertInto('project')
    .values({ id, accountId, name: free, isDefault: 0, createdAtMs: nowMs })
    .execute()
  return [{ regionId, what: 'project', id, name: free, result: 'restored', why: '' }]
}

async function insertImageRow(rows: Rows, label: ImageLabel, one: Held, nowMs: number): Promise<void> {
  const { is: _is, project, dataBytes: _told, disks, ...kept } = label
  const { found } = contentOf(one)
  await rows
    .insertInto('image')
    .values({
      ...kept,
      ...madeOf(one, nowMs),
      regionId: one.regionId,
      projectId: project.id,
      disks: JSON.stringify(disks),
      config: JSON.stringify(label.config ?? found.config),
      parent: label.parent ?? found.parent ?? null,
      cleaning: found.cleaning === undefined ? null : JSON.stringify(found.cleaning),
    })
    .execute()
}

/** It keeps the image it belongs to, which may be restored later, or never: then it belongs to none. */
async function insertSnapshotRow(rows: Rows, label: SnapshotLabel, one: Held, nowMs: number): Promise<void> {
  const { is: _is, project, dataBytes: _told, disk, config, ...kept } = label
  await rows
    .insertInto('snapshot')
    .values({
      ...kept,
      ...madeOf(one, nowMs),
      regionId: one.regionId,
      projectId: project.id,
      disk: JSON.stringify(disk),
      config: JSON.stringify(config),
    })
    .execute()
}

interface MachineNow {
  readonly state: 'running' | 'stopped' | 'failed'
  readonly reason: string
}

/** Without its disks a machine is restored as one that can only be deleted: then its images are let go. */
async function machineState(host: Pick<Host, 'power'>, { id }: MachineLabel): Promise<MachineNow> {
  const power = await host.power(id)
  if (power !== 'absent') return { state: power, reason: '' }
  return { state: 'failed', reason: 'Its disks are not on the host any more. Delete it.' }
}

async function insertMachineRow(
  rows: Rows,
  { is: _is, project, disks, ...kept }: MachineLabel,
  regionId: RegionId,
  { state, reason }: MachineNow,
): Promise<void> {
  await rows
    .insertInto('machine')
    .values({ ...kept, regionId, projectId: project.id, state, reason, disks: JSON.stringify(disks) })
    .execute()
}
