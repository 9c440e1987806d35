import assert from 'node:assert/strict'
import { Fault } from '../image/fault.ts'
import type { ImageId, TaskId } from '../image/ids.ts'
import type { CopyInput } from '../tasks/copy-words.ts'
import type { CopyOf, CopyWish } from './copy-contract.ts'
import { type AppPlace, AWAY, HOME } from './fixture.ts'

/** What tests ask of copies of one image, and what tasks would leave in the rows. */
export function copiesOf(place: AppPlace, imageId: ImageId) {
  const wish = (more: Partial<CopyWish> = {}): CopyWish => ({
    ...{ regionId: HOME, imageId, targetRegionIds: [AWAY] },
    ...more,
  })
  const copy = (more: Partial<CopyWish> = {}, door: 'native' | 'uhost' | 'wuying' = 'native') =>
    place.app.images.copy({ ...place.root, door }, wish(more))
  const second = async () => (await place.app.projects.create(place.root, 'second')).projectId
  const rows = () => place.catalog.rows
  const task = (id: TaskId) =>
    rows().selectFrom('task').selectAll().where('id', '=', id).executeTakeFirstOrThrow()
  const inputOf = async (id: TaskId) => JSON.parse((await task(id)).input) as CopyInput
  const image = (id: ImageId) =>
    rows().selectFrom('image').selectAll().where('id', '=', id).executeTakeFirst()
  const countOf = async (table: 'image' | 'task') =>
    (await rows().selectFrom(table).select('id').execute()).length
  /** What a task that ended so leaves in the rows. */
  const end = async ({ taskId, imageId: id }: Omit<CopyOf, 'regionId'>, state: 'failed' | 'cancelled') => {
    await place.runner.cancel(taskId)
    await rows()
      .updateTable('task')
      .set({ state, reason: 'As it was.', endedAtMs: place.nowMs })
      .where('id', '=', taskId)
      .execute()
    await rows()
      .updateTable('image')
      .set({ state: 'failed', reason: 'As it was.', reservedBytes: 0 })
      .where('id', '=', id)
      .execute()
  }
  const endDone = async ({ taskId, imageId: id }: Omit<CopyOf, 'regionId'>) => {
    await place.runner.cancel(taskId)
    await rows()
      .updateTable('task')
      .set({ state: 'done', endedAtMs: place.nowMs })
      .where('id', '=', taskId)
      .execute()
    await rows()
      .updateTable('image')
      .set({ state: 'available', digest: 'd'.repeat(64), reservedBytes: 0, progressPermille: 1000 })
      .where('id', '=', id)
      .execute()
  }
  return { wish, copy, second, rows, task, inputOf, image, countOf, end, endDone }
}

export const firstOf = ([first]: readonly CopyOf[]) => first ?? assert.fail('one copy was asked for')

/** For `assert.rejects`: a Fault of this kind about this subject, for this reason where one is given. */
export const fault = (kind: Fault['kind'], subject: Fault['subject'], reason?: string) => (error: unknown) =>
  error instanceof Fault &&
  error.kind === kind &&
  error.subject === subject &&
  (reason === undefined || error.reason === reason)
