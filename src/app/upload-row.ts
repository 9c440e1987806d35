import { createHash, randomBytes } from 'node:crypto'
import type { Selectable } from 'kysely'
import type { Schema } from '../catalog/schema.ts'
import { Fault } from '../image/fault.ts'
import type { ImageId, ProjectId, RegionId, TaskId } from '../image/ids.ts'
import type { ImportWish, Upload } from './transfer-contract.ts'

export type UploadRow = Selectable<Schema['upload']>

/** What opens an upload or a download: nobody guesses it, and the catalog alone opens nothing. */
export function newToken(): { readonly token: string; readonly tokenHash: string } {
  const token = randomBytes(32).toString('base64url')
  return { token, tokenHash: hashToken(token) }
}
export const hashToken = (token: string) => createHash('sha256').update(token).digest('hex')

export const noUpload = () =>
  new Fault('absent', 'There is no such upload, or its time is over. List the uploads, or begin it again.', {
    subject: 'upload',
  })

export function uploadOf(row: UploadRow): Upload {
  const state: Upload['state'] =
    row.state === 'received'
      ? { at: 'received', imageId: row.imageId as ImageId, taskId: row.taskId as TaskId }
      : row.state === 'refused'
        ? { at: 'refused', reason: row.reason ?? '' }
        : { at: 'receiving' }
  return {
    id: row.id,
    projectId: row.projectId as ProjectId,
    regionId: row.regionId as RegionId,
    name: (JSON.parse(row.wish) as ImportWish).name,
    lengthBytes: row.lengthBytes ?? undefined,
    ...{ offsetBytes: row.offsetBytes, state, createdAtMs: row.createdAtMs, expiresAtMs: row.expiresAtMs },
  }
}
