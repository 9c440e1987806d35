import type { TaskId } from '../image/ids.ts'
import type { Parts } from './parts.ts'

const DAY_MS = 24 * 60 * 60 * 1000

/**
 * Cancels copies that were paused longer than the settings let them: one that nobody comes back to would keep its room, and the
 * content of its source, for good. One that somebody lets go on meanwhile is left alone.
 */
export async function cancelPaused({
  catalog,
  runner,
  clock,
  copies,
}: Pick<Parts, 'catalog' | 'runner' | 'clock' | 'copies'>): Promise<void> {
  const { pausedMs } = copies
  if (pausedMs === undefined) return
  const tasks = await catalog.rows
    .selectFrom('task')
    .select('id')
    .where('state', '=', 'paused')
    // One that an earlier version paused before it told of a byte says no more than when it was made.
    .where(({ fn }) => fn.coalesce('progressAtMs', 'createdAtMs'), '<', clock() - pausedMs)
    .execute()
  const days = Math.floor(pausedMs / DAY_MS)
  for (const { id } of tasks) {
    await runner.cancel(id as TaskId, {
      reason: `It was paused for more than ${days} days (the setting copies.pausedDays), so it was cancelled. Retry its task, or copy the image again.`,
    })
  }
}
