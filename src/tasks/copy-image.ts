import type { Selectable } from 'kysely'
import type { Schema } from '../catalog/schema.ts'
import { Fault } from '../image/fault.ts'
import type { Digest, ImageId, RegionId, TaskId } from '../image/ids.ts'
import { failAndCleanUp, type Made, setAvailable, setFailed } from './image-row.ts'
import type { TaskParts } from './parts.ts'
import { imageRef } from './refs.ts'
import type { Runner, TaskDefinition } from './runner.ts'
import type { MovedBytes } from './store-jobs.ts'

export interface CopyInput {
  readonly imageId: ImageId
  readonly digest: Digest
  readonly sourceRegionId: RegionId
  readonly targetRegionId: RegionId
  /** The source's bytes that are not zero: its copy has as many. */
  readonly dataBytes: number
}

/**
 * The target region pulls what it lacks and commits. Within one region the new image refers to the same content:
 * nothing is moved.
 */
export function copyImage(parts: TaskParts): TaskDefinition<CopyInput> {
  const { catalog, jobs, clock } = parts
  return {
    kind: 'copy-image',
    gate: 'bytes',
    steps: [
      {
        name: 'pull',
        async run(context) {
          const { input, id, signal } = context
          if (context.checkpoint().made !== undefined) return
          const { digest, dataBytes, sourceRegionId, targetRegionId } = input
          let moved: MovedBytes = { storedBytes: 0, movedBytes: 0 }
          const ref = await imageRef(catalog.rows, input.imageId, dataBytes)
          if (sourceRegionId === targetRegionId) {
            await jobs.refer(targetRegionId, { ...ref, digests: [digest] })
          } else {
            const job = { sourceRegionId, targetRegionId, digest, sessionId: id, ref }
            moved = await jobs.pull(job, context.progress, signal)
          }
          await context.save({ made: { digest, dataBytes, ...moved } satisfies Made })
        },
      },
      {
        name: 'commit',
        async run(context) {
          const { input } = context
          const { made } = context.checkpoint() as { made: Made }
          const by = input.sourceRegionId === input.targetRegionId ? 'reference' : 'pull'
          await context.finish({ ...made, by }, (rows) =>
            // All else that is known of it, its row has from the source.
            setAvailable(rows, input.imageId, made, {}, clock()),
          )
        },
      },
    ],
    async undo({ input, id }, reason) {
      await failAndCleanUp(setFailed(catalog.rows, input.imageId, reason, clock()), [
        jobs.abort(input.targetRegionId, id),
        jobs.release(input.targetRegionId, input.imageId),
      ])
    },
  }
}

/** The parent of a batch: sums its children up, and is done when all are; each child fails or succeeds alone. */
export function copyBatch(parts: TaskParts, runner: () => Runner): TaskDefinition<Record<string, never>> {
  const childrenOf = (id: TaskId) =>
    parts.catalog.rows
      .selectFrom('task')
      .selectAll()
      .where('parentId', '=', id)
      .orderBy('createdAtMs')
      .execute()
  const sum = (children: Selectable<Schema['task']>[], of: 'doneBytes' | 'totalBytes' | 'movedBytes') =>
    children.reduce((total, child) => total + child[of], 0)
  return {
    kind: 'copy-batch',
    gate: 'none',
    steps: [
      {
        name: 'copies',
        async run(context) {
          for (;;) {
            const children = await childrenOf(context.id)
            context.progress({
              doneBytes: sum(children, 'doneBytes'),
              totalBytes: sum(children, 'totalBytes'),
              movedBytes: sum(children, 'movedBytes'),
            })
            const waiting = children.find((child) => child.endedAtMs === null)
            if (waiting !== undefined) {
              await runner().changed(waiting.id as TaskId, 1000, context.signal)
              context.signal.throwIfAborted()
              continue
            }
            const failed = children.filter((child) => child.state !== 'done')
            if (failed.length === 0) return
            const names = failed
              .map((child) => `${child.regionId}: ${child.reason ?? child.state}`)
              .join('; ')
            throw new Fault('unavailable', `${failed.length} of ${children.length} copies failed. ${names}`, {
              subject: 'image',
            })
          }
        },
      },
    ],
    undo: async () => {},
  }
}
