import type { Rows } from '../catalog/contract.ts'
import { Fault } from '../image/fault.ts'
import type { DomainId, ImageId, ProjectId } from '../image/ids.ts'
import type { ImageKind, OsType } from '../image/image.ts'
import { refuseAboveQuota } from './quota.ts'
import type { WrittenImage } from './store-jobs.ts'

/** The dedup domain that keys an image's chunks: one shared by all for base images, else the project's own. */
export function domainOf(kind: ImageKind, projectId: ProjectId): DomainId {
  return (kind === 'base' ? 'public' : projectId) as string as DomainId
}

/** The image object's word for what the catalog says of the guest. */
export function osOf(osType: OsType, osName: string): { type: 'linux' | 'windows'; name: string } {
  return { type: osType === 'Windows' ? 'windows' : 'linux', name: osName }
}

/**
 * I1: the one place where an image becomes available. From here on it is charged by what it holds instead of what was
 * reserved. Fault 'conflict' if it was deleted while it was made; 'full' if it came out larger than reserved, and that
 * is too much (I7).
 */
export async function setAvailable(
  rows: Rows,
  id: ImageId,
  made: WrittenImage,
  nowMs: number,
): Promise<void> {
  const row = await rows
    .selectFrom('image')
    .select(['projectId', 'reservedBytes'])
    .where('id', '=', id)
    .executeTakeFirst()
  if (row !== undefined && made.dataBytes > row.reservedBytes) {
    await refuseAboveQuota(rows, row.projectId, made.dataBytes, id)
  }
  const result = await rows
    .updateTable('image')
    .set({
      state: 'available',
      reservedBytes: 0,
      digest: made.digest,
      progressPermille: 1000,
      dataBytes: made.dataBytes,
      storedBytes: made.storedBytes,
      movedBytes: made.movedBytes,
      updatedAtMs: nowMs,
    })
    .where('id', '=', id)
    .where('state', '=', 'creating')
    .executeTakeFirst()
  if (result.numUpdatedRows !== 1n) {
    throw new Fault('conflict', 'The image was deleted while it was being made.', { subject: 'image' })
  }
}

/** The image stays listed as failed, with the reason, until somebody deletes it. */
export async function setFailed(rows: Rows, id: ImageId, reason: string, nowMs: number): Promise<void> {
  await rows
    .updateTable('image')
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
