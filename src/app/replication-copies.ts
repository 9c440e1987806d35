import { sql } from 'kysely'
import type { Rows } from '../catalog/contract.ts'
import type { ImageId, RegionId } from '../image/ids.ts'
import { NOTHING, type RuleRow } from './replication-row.ts'

/** From when the image became available. */
const FORGET_MS = 30 * 24 * 60 * 60 * 1000

/** The copies of a rule that are listed. */
const listedCopies = (rows: Rows, rule: Pick<RuleRow, 'id'>) =>
  rows
    .selectFrom('replicated')
    .innerJoin('image as copy', 'copy.id', 'replicated.copyId')
    .where('replicated.ruleId', '=', rule.id)

/** Keeps on a rule's row why it could not do something, unless something later is noted already. */
export async function noteFailure(rows: Rows, ruleId: string, reason: string, atMs: number): Promise<void> {
  await rows
    .updateTable('replicationRule')
    .set({ lastFailedAtMs: atMs, lastReason: reason })
    .where('id', '=', ruleId)
    .where((is) => is.or([is('lastFailedAtMs', 'is', null), is('lastFailedAtMs', '<', atMs)]))
    .execute()
}

/** Keeps on a rule's row what came of the copies that it asked for: those may be gone later. */
export async function noteOutcomes(rows: Rows, rule: RuleRow): Promise<void> {
  const done = await listedCopies(rows, rule)
    .select(({ fn }) => fn.max<number | null>('copy.updatedAtMs').as('atMs'))
    .where('copy.state', '=', 'available')
    .executeTakeFirstOrThrow()
  if (done.atMs !== null && done.atMs > (rule.lastDoneAtMs ?? Number.NEGATIVE_INFINITY)) {
    const lastDoneAtMs = done.atMs
    await rows.updateTable('replicationRule').set({ lastDoneAtMs }).where('id', '=', rule.id).execute()
  }
  const failed = await listedCopies(rows, rule)
    .select(['copy.name', 'copy.regionId', 'copy.reason', 'copy.updatedAtMs'])
    .where('copy.state', '=', 'failed')
    .orderBy('copy.updatedAtMs', 'desc')
    .executeTakeFirst()
  if (failed === undefined || failed.updatedAtMs <= (rule.lastFailedAtMs ?? Number.NEGATIVE_INFINITY)) return
  await noteFailure(rows, rule.id, tellFailure(failed, failed.reason ?? ''), failed.updatedAtMs)
}

/** Which image could not come where, and why: a sentence that says what to do. */
export function tellFailure(
  { name, regionId }: { readonly name: string; readonly regionId: string },
  reason: string,
): string {
  return `Image '${name}' to ${regionId}: ${reason}`
}

/**
 * The copies in a target that are older than the newest `keepCount` available ones: by when the images that they are of became
 * available. One that is still being made is left to become what it is asked to be first.
 */
export async function beyondKept(rows: Rows, rule: RuleRow, regionId: RegionId): Promise<ImageId[]> {
  if (rule.keepCount === null) return []
  const copies = await listedCopies(rows, rule)
    .select(['copy.id', 'copy.state'])
    .where('replicated.regionId', '=', regionId)
    .where('copy.state', '!=', 'creating')
    .orderBy('replicated.atMs', 'desc')
    .orderBy('replicated.imageId', 'desc')
    .execute()
  let leftCount = rule.keepCount
  return copies.flatMap(({ id, state }) => {
    if (leftCount === 0) return [id as ImageId]
    if (state === 'available') leftCount--
    return []
  })
}

/** Copies that failed for want of room or of an answer, whose sources are still there, with the tasks that failed. */
export function lostCopies(rows: Rows, rule: RuleRow) {
  return listedCopies(rows, rule)
    .innerJoin('task', 'task.id', 'copy.taskId')
    .innerJoin('image as source', 'source.id', 'replicated.imageId')
    .selectAll('task')
    .select(['copy.name', 'copy.updatedAtMs as lostAtMs', 'replicated.imageId as sourceId'])
    .where('copy.state', '=', 'failed')
    .where('task.state', '=', 'failed')
    .where('task.faultKind', 'in', ['full', 'unavailable'])
    .orderBy('replicated.atMs')
    .orderBy('replicated.imageId')
    .execute()
}

/**
 * Lets go of what is known of images that are gone: at once that nothing is to be done for them; what was copied once neither
 * image nor copy is there, and not before a month after the image came, so that it stays known where a copy of a copy has been.
 */
export async function forgetGone(rows: Rows, nowMs: number): Promise<void> {
  const isGone = (column: 'imageId' | 'copyId') =>
    sql<boolean>`not exists (select 1 from ${sql.table('image')} where ${sql.ref('image.id')} = ${sql.ref(`replicated.${column}`)})`
  await rows.deleteFrom('replicated').where('copyId', '=', NOTHING).where(isGone('imageId')).execute()
  await rows
    .deleteFrom('replicated')
    .where('copyId', '!=', NOTHING)
    .where('atMs', '<', nowMs - FORGET_MS)
    .where(isGone('imageId'))
    .where(isGone('copyId'))
    .execute()
}
