import type { Rows } from '../catalog/contract.ts'
import type { RegionId } from '../image/ids.ts'
import type { TaskKind } from '../image/task.ts'
import { ensureRefs } from './ensure-refs.ts'
import type { TaskParts } from './parts.ts'
import type { TaskDefinition } from './runner.ts'

export interface CollectInput {
  readonly regionId: RegionId
  readonly isDryRun: boolean
  readonly graceMs: number
}

/** A session that writes touches its row every few packs; a minute of silence is long, an hour is the end. */
export const DEAD_AFTER_MS = 60 * 60 * 1000

/**
 * Sessions of the region that no live task and no upload owns and that were silent for an hour. Those of a repair are left to it while
 * one runs; those of an earlier collection are dead when the next one asks, because there is one at a time.
 */
export async function deadSessions(
  { catalog, jobs, clock }: Pick<TaskParts, 'catalog' | 'jobs' | 'clock'>,
  regionId: RegionId,
): Promise<string[]> {
  // In this order: a session that shows up later belongs to a task that was there before it.
  const sessions = await jobs.sessions(regionId)
  const tasks = await catalog.rows
    .selectFrom('task')
    .select(['id', 'kind', 'regionId'])
    .where('endedAtMs', 'is', null)
    .execute()
  const uploads = await catalog.rows
    .selectFrom('upload')
    .select('id')
    .where('state', '!=', 'refused')
    .execute()
  const live = new Set([...tasks, ...uploads].map(({ id }) => id))
  const isRepairing = tasks.some(
    (task) => task.regionId === regionId && ['scrub-region', 'repair-region'].includes(task.kind),
  )
  return (
    sessions
      // A task's further sessions have its id before the dash.
      .filter(
        ({ id }) =>
          !live.has(id.split('-')[0] ?? id) && !live.has(id) && !(isRepairing && id.startsWith('repair-')),
      )
      .filter(({ touchedMs }) => touchedMs <= clock() - DEAD_AFTER_MS)
      .map(({ id }) => id)
  )
}

/** The id of a live task of one of these kinds in the region. */
export async function findLive(
  rows: Rows,
  kinds: readonly TaskKind[],
  regionId: RegionId,
): Promise<string | undefined> {
  const row = await rows
    .selectFrom('task')
    .select('id')
    .where('kind', 'in', kinds)
    .where('regionId', '=', regionId)
    .where('endedAtMs', 'is', null)
    .executeTakeFirst()
  return row?.id
}

/** Removes from a region's store what nobody needs; its report is the task's output. Source: docs/store.md. */
export function collectGarbage(
  parts: TaskParts,
  log: (record: Record<string, unknown>) => void,
): TaskDefinition<CollectInput> {
  return {
    kind: 'collect-garbage',
    // It waits for nobody, and nobody for it.
    gate: 'none',
    steps: [
      {
        name: 'collect',
        async run(context) {
          const { regionId, isDryRun, graceMs } = context.input
          // The start has done so, unless the store was away then; without its ref an image would be taken for garbage.
          if (!isDryRun) await ensureRefs(parts, regionId, log)
          const dead = await deadSessions(parts, regionId)
          const job = { isDryRun, graceMs, deadSessions: dead }
          const report = await parts.jobs.collect(regionId, job, context.progress, context.signal)
          await context.finish({ isDryRun, graceMs, ...report }, async () => {})
        },
      },
    ],
    undo: async () => {},
  }
}
