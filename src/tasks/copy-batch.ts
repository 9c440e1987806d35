import { setTimeout as delay } from 'node:timers/promises'
import type { Selectable } from 'kysely'
import type { Schema } from '../catalog/schema.ts'
import { Fault } from '../image/fault.ts'
import type { ImageId, RegionId, TaskId } from '../image/ids.ts'
import type { TaskParts } from './parts.ts'
import type { Runner, TaskDefinition } from './runner.ts'

/** What became of one target; the output of a batch is `{ copies: CopyEnd[] }`, also of one that failed. */
export interface CopyEnd {
  readonly regionId: RegionId
  readonly imageId: ImageId
  readonly taskId: TaskId
  readonly state: string
  readonly reason: string | null
}

type Child = Selectable<Schema['task']>

/** Copies tell of their bytes five times a second each; their sum is not worth more. */
const SUM_EVERY_MS = 100
/** Nothing should be missed; whatever is, is seen then. */
const LOOK_MS = 60_000
const REASON_CHARS_MAX = 160
const REASONS_CHARS_MAX = 1500

const short = (text: string) =>
  text.length <= REASON_CHARS_MAX ? text : `${text.slice(0, REASON_CHARS_MAX - 1).toWellFormed()}…`

/** Every region that failed is named, and why, as far as that can be read. */
function describeFailures(failed: readonly Child[]): string {
  let reasons = ''
  const rest: string[] = []
  for (const { regionId, reason, state } of failed) {
    const one = `${regionId}: ${short(reason ?? state)} `
    if (rest.length === 0 && reasons.length + one.length <= REASONS_CHARS_MAX) reasons += one
    else rest.push(regionId)
  }
  return `${reasons}${rest.length === 0 ? '' : `Also: ${rest.join(', ')}. `}`
}

const endsOf = (children: readonly Child[]): { copies: CopyEnd[] } => ({
  copies: children.map(({ id, regionId, imageId, state, reason }) => ({
    regionId: regionId as RegionId,
    imageId: (imageId ?? '') as ImageId,
    taskId: id as TaskId,
    ...{ state, reason: state === 'done' ? null : reason },
  })),
})

const sum = (children: readonly Child[], of: 'doneBytes' | 'totalBytes' | 'movedBytes' | 'savedBytes') =>
  children.reduce((total, child) => total + child[of], 0)

/** Of one that was not looked at yet as much as of the others on average: a batch is not nearly done because four of sixty are. */
function totalOf(children: readonly Child[]): number {
  const known = children.filter((child) => child.totalBytes > 0 || child.endedAtMs !== null)
  const total = sum(known, 'totalBytes')
  return known.length === 0 ? 0 : Math.ceil((total / known.length) * children.length)
}

/**
 * The parent of a batch: sums its children up, and is done when all are; each child fails or succeeds alone. It waits as long as
 * one of them is held. Fault 'unavailable' 'image' names those that failed.
 */
export function copyBatch(
  { catalog }: Pick<TaskParts, 'catalog'>,
  runner: () => Pick<Runner, 'changed' | 'cancel'>,
): TaskDefinition<Record<string, never>> {
  const childrenOf = (id: TaskId): Promise<Child[]> =>
    catalog.rows
      .selectFrom('task')
      .selectAll()
      .where('parentId', '=', id)
      .orderBy('createdAtMs')
      // Those of one batch are written in one transaction.
      .orderBy('regionId')
      .execute()
  const tell = (id: TaskId, children: readonly Child[]) =>
    catalog.rows
      .updateTable('task')
      .set({ output: JSON.stringify(endsOf(children)) })
      .where('id', '=', id)
      .execute()

  return {
    kind: 'copy-batch',
    gate: 'none',
    steps: [
      {
        name: 'copies',
        async run(context) {
          const { id, signal } = context
          const stop = new AbortController()
          const ended = AbortSignal.any([signal, stop.signal])
          const watched = new Set<string>()
          const over = aborted(ended)
          let changed = Promise.withResolvers<void>()
          // Listens to each again as soon as it was told of it, so that little can be missed between two looks.
          const watch = async (child: TaskId) => {
            while (watched.has(child) && !ended.aborted) {
              await runner().changed(child, LOOK_MS, ended)
              changed.resolve()
            }
          }
          try {
            for (;;) {
              changed = Promise.withResolvers()
              const children = await childrenOf(id)
              const doneBytes = sum(children, 'doneBytes')
              context.progress({
                doneBytes,
                totalBytes: Math.max(doneBytes, totalOf(children)),
                movedBytes: sum(children, 'movedBytes'),
                savedBytes: sum(children, 'savedBytes'),
              })
              const live = children.filter((child) => child.endedAtMs === null)
              if (live.length === 0) {
                const failed = children.filter((child) => child.state !== 'done')
                if (failed.length === 0) return await context.finish(endsOf(children), async () => {})
                await tell(id, children)
                throw new Fault(
                  'unavailable',
                  `${failed.length} of ${children.length} copies failed. ${describeFailures(failed)}` +
                    'Retry the batch to begin these anew.',
                  { subject: 'image' },
                )
              }
              for (const child of children) {
                if (child.endedAtMs !== null) watched.delete(child.id)
                else if (!watched.has(child.id)) {
                  watched.add(child.id)
                  void watch(child.id as TaskId)
                  // It may have ended while nobody listened yet.
                  changed.resolve()
                }
              }
              await Promise.race([changed.promise, over])
              signal.throwIfAborted()
              await delay(SUM_EVERY_MS, undefined, { signal })
            }
          } finally {
            watched.clear()
            stop.abort()
          }
        },
      },
    ],
    async undo({ id, row }) {
      // Whoever cancelled it cancels these as well, unless the server ended between the two.
      const isCancelled = row.cancelRequested === 1
      const live = (await childrenOf(id)).filter((child) => isCancelled && child.endedAtMs === null)
      await Promise.all(live.map((child) => runner().cancel(child.id as TaskId)))
      await tell(id, await childrenOf(id))
    },
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve()
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
}
