import type { Upload } from '../../app/transfer-contract.ts'
import { spellId } from '../../image/ids.ts'

/** Without its token, which is shown once and to nobody else. */
export interface ShownUpload {
  readonly uploadId: string
  readonly project: string
  readonly region: string
  readonly name: string
  readonly lengthBytes: number | null
  readonly offsetBytes: number
  readonly state: Upload['state']['at']
  readonly imageId: string | null
  readonly taskId: string | null
  /** Why it was refused. */
  readonly reason: string | null
  readonly createdAtMs: number
  readonly expiresAtMs: number
}

export function showUpload(upload: Upload): ShownUpload {
  const { state } = upload
  const received = state.at === 'received' ? state : undefined
  return {
    uploadId: upload.id,
    project: upload.projectId,
    region: upload.regionId,
    name: upload.name,
    lengthBytes: upload.lengthBytes ?? null,
    offsetBytes: upload.offsetBytes,
    state: state.at,
    imageId: received === undefined ? null : spellId('image', received.imageId, 'native'),
    taskId: received === undefined ? null : spellId('task', received.taskId, 'native'),
    reason: state.at === 'refused' ? state.reason : null,
    createdAtMs: upload.createdAtMs,
    expiresAtMs: upload.expiresAtMs,
  }
}
