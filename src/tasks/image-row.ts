import type { Rows } from '../catalog/contract.ts'
import type { CleaningSummary } from '../image/cleaning.ts'
import type { Consistency } from '../image/consistency.ts'
import { Fault } from '../image/fault.ts'
import type { Digest, DomainId, ImageId, ProjectId, SnapshotId } from '../image/ids.ts'
import type { ImageKind, OsType } from '../image/image.ts'
import { type Charged, refuseAboveQuota } from './quota.ts'
import type { WrittenImage } from './store-jobs.ts'

/** The dedup domain that keys an image's chunks: one shared by all for base images, else the project's own. */
export function domainOf(kind: ImageKind, projectId: ProjectId): DomainId {
  return (kind === 'base' ? 'public' : projectId) as string as DomainId
}

/** The image object's word for what the catalog says of the guest. */
export function osOf(osType: OsType, osName: string): { type: 'linux' | 'windows'; name: string } {
  return { type: osType === 'Windows' ? 'windows' : 'linux', name: osName }
}

/** What came of the making, as far as the row has to say it. */
export type Made = Pick<WrittenImage, 'digest' | 'dataBytes' | 'storedBytes' | 'movedBytes'>

/** What is known of an image only once it is made; what is absent stays as the row has it. */
export interface FoundFacts {
  readonly consistency?: Consistency | undefined
  readonly parent?: Digest | undefined
  readonly cleaning?: CleaningSummary | undefined
  /** As the guest itself told them. */
  readonly osName?: string | undefined
  readonly osType?: OsType | undefined
}

/**
 * I1: the one place where an image becomes available. From here on it is charged by what it holds instead of what was
 * reserved. Fault 'conflict' if it was deleted while it was made; 'full' if it came out larger than reserved, and that
 * is too much (I7).
 */
export function setAvailable(
  rows: Rows,
  id: ImageId,
  made: Made,
  facts: FoundFacts,
  nowMs: number,
): Promise<void> {
  return setMade(rows, { is: 'image', id }, made, facts, nowMs)
}

/** As `setAvailable`, of a snapshot. */
export function setSnapshotAvailable(
  rows: Rows,
  id: SnapshotId,
  made: Made,
  facts: Omit<FoundFacts, 'parent' | 'cleaning'>,
  nowMs: number,
): Promise<void> {
  return setMade(rows, { is: 'snapshot', id }, made, facts, nowMs)
}

async function setMade(
  rows: Rows,
  { is, id }: Charged,
  made: Made,
  facts: FoundFacts,
  nowMs: number,
): Promise<void> {
  const row = await rows
    .selectFrom(is)
    .select(['projectId', 'reservedBytes'])
    .where('id', '=', id)
    .executeTakeFirst()
  if (row !== undefined && made.dataBytes > row.reservedBytes) {
    await refuseAboveQuota(rows, row.projectId, made.dataBytes, id)
  }
  const { consistency, parent, osName, osType, cleaning } = facts
  const result = await rows
    .updateTable(is)
    .set({
      state: 'available',
      reservedBytes: 0,
      digest: made.digest,
      progressPermille: 1000,
      dataBytes: made.dataBytes,
      storedBytes: made.storedBytes,
      movedBytes: made.movedBytes,
      updatedAtMs: nowMs,
      ...(consistency === undefined ? {} : { consistency }),
      ...(parent === undefined ? {} : { parent }),
      ...(cleaning === undefined ? {} : { cleaning: JSON.stringify(cleaning) }),
      ...(osName === undefined ? {} : { osName }),
      ...(osType === undefined ? {} : { osType }),
    })
    .where('id', '=', id)
    .where('state', '=', 'creating')
    .executeTakeFirst()
  if (result.numUpdatedRows !== 1n) {
    throw new Fault('conflict', `The ${is} was deleted while it was being made.`, { subject: is })
  }
}

/** The image stays listed as failed, with the reason, until somebody deletes it. */
export function setFailed(rows: Rows, id: ImageId, reason: string, nowMs: number): Promise<void> {
  return setLost(rows, { is: 'image', id }, reason, nowMs)
}

/** As `setFailed`, of a snapshot. */
export function setSnapshotFailed(rows: Rows, id: SnapshotId, reason: string, nowMs: number): Promise<void> {
  return setLost(rows, { is: 'snapshot', id }, reason, nowMs)
}

async function setLost(rows: Rows, { is, id }: Charged, reason: string, nowMs: number): Promise<void> {
  await rows
    .updateTable(is)
    .set({ state: 'failed', reason, reservedBytes: 0, updatedAtMs: nowMs })
    .where('id', '=', id)
    .where('state', '=', 'creating')
    .execute()
}

/**
 * The end of a failed task: the reason is shown whatever becomes of the clean-up, whose failure is thrown afterwards,
 * so that it is tried again.
 */
export async function failAndCleanUp(
  setReason: Promise<unknown>,
  cleanUp: readonly Promise<unknown>[],
): Promise<void> {
  const cleaned = await Promise.allSettled(cleanUp)
  await setReason
  for (const part of cleaned) if (part.status === 'rejected') throw part.reason
}
