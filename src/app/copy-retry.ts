import assert from 'node:assert/strict'
import type { Selectable } from 'kysely'
import type { Rows } from '../catalog/contract.ts'
import type { Schema } from '../catalog/schema.ts'
import { Fault } from '../image/fault.ts'
import type { ImageId, ProjectId, RegionId } from '../image/ids.ts'
import type { Task } from '../image/task.ts'
import { type CopyInput, copyInputOf, type OldCopyInput } from '../tasks/copy-words.ts'
import { refuseAboveQuota } from '../tasks/quota.ts'
import { addCopyTasks, type CopyTasks, kickCopies, type ListedCopy } from './copy-tasks.ts'
import type { Parts } from './parts.ts'

type TaskRow = Selectable<Schema['task']>

const conflict = (subject: 'task' | 'image', message: string) => new Fault('conflict', message, { subject })

/**
 * Begins anew what failed or was cancelled of a copy or a batch that has ended, for the images there are. An image that was
 * tried again since is judged by its last task. Faults as of `App.tasks.retry`; 'conflict' 'image' too where the source was deleted;
 * 'corrupt' 'image' reason 'damaged'; 'full' 'project' reason 'quota'.
 */
export async function retryCopies(parts: Parts, task: Task): Promise<CopyTasks> {
  const { catalog, runner, clock } = parts
  assert(task.kind === 'copy-image' || task.kind === 'copy-batch')
  assert(task.endedAtMs !== undefined)
  const [wanted] = await lostCopies(catalog.rows, task)
  if (wanted?.input.source.is === 'region') {
    await refuseWithoutSource(catalog.rows, wanted)
    // Never in a transaction: the store is asked.
    await parts.sources.refuseDamaged(wanted.input.source.regionId, wanted.input.digest)
  }
  const made = await catalog.transaction(async (rows) => {
    const lost = await lostCopies(rows, task)
    const [first] = lost
    if (first === undefined) throw await whyNone(rows, task)
    await refuseWithoutSource(rows, first)
    // All of them or none, as when they were first asked for.
    const wantedBytes = lost.reduce((sum, { input }) => sum + input.dataBytes, 0)
    await refuseAboveQuota(rows, task.projectId, wantedBytes)
    const copies = lost.map(
      ({ input: { imageId, targetRegionId, isShared: _, position: __, ...input } }): ListedCopy => {
        return { imageId, regionId: targetRegionId, input }
      },
    )
    for (const { input } of lost) {
      await rows
        .updateTable('image')
        .set({ state: 'creating', reason: null, reservedBytes: input.dataBytes, updatedAtMs: clock() })
        .where('id', '=', input.imageId)
        .execute()
    }
    const { priority, deadlineAtMs } = first.row
    return addCopyTasks(runner, rows, task.projectId, copies as [ListedCopy, ...ListedCopy[]], {
      priority,
      ...(deadlineAtMs === null || deadlineAtMs <= clock() ? {} : { deadlineAtMs }),
      ...(task.kind === 'copy-batch' ? { batchRegionId: task.regionId } : {}),
    })
  })
  kickCopies(runner, made)
  return made
}

/** The copies' own tasks: the task itself, or its children. */
export function copyTasks(rows: Rows, task: Task) {
  return rows
    .selectFrom('task')
    .where('task.kind', '=', 'copy-image')
    .where(task.kind === 'copy-batch' ? 'task.parentId' : 'task.id', '=', task.id)
}

/** The images of other projects that it copies. */
export async function sourcesElsewhere(rows: Rows, task: Task) {
  const sources = await copyTasks(rows, task)
    .innerJoin('image as copy', 'copy.id', 'task.imageId')
    .innerJoin('image as source', 'source.id', 'copy.sourceImageId')
    .select(['source.id', 'source.projectId', 'source.regionId'])
    .where('source.projectId', '!=', task.projectId)
    .distinct()
    .execute()
  return sources.map(({ id, projectId, regionId }) => ({
    ...{ imageId: id as ImageId, projectId: projectId as ProjectId, regionId: regionId as RegionId },
  }))
}

/** The last tasks of the images that were not made and are still listed. */
async function lostCopies(rows: Rows, task: Task) {
  const ids = await copyTasks(rows, task).select('task.imageId').execute()
  const lost: { readonly row: TaskRow; readonly input: CopyInput }[] = []
  for (const { imageId } of ids) {
    const row = await rows
      .selectFrom('image')
      .innerJoin('task', 'task.id', 'image.taskId')
      .selectAll('task')
      .where('image.id', '=', imageId)
      .where('image.state', '=', 'failed')
      .where('task.state', 'in', ['failed', 'cancelled'])
      .executeTakeFirst()
    if (row === undefined) continue
    lost.push({ row, input: copyInputOf(JSON.parse(row.input) as CopyInput | OldCopyInput) })
  }
  // As they were asked for: a batch that is retried goes on in its order.
  return lost.sort((one, other) => (one.input.position ?? 0) - (other.input.position ?? 0))
}

async function whyNone(rows: Rows, task: Task): Promise<Fault> {
  const states = await copyTasks(rows, task)
    .leftJoin('image', 'image.id', 'task.imageId')
    .select(['task.state as taskState', 'image.state as imageState'])
    .execute()
  if (states.some((one) => one.imageState === 'creating')) {
    return conflict('task', 'What failed of it is being copied again already. Watch that task.')
  }
  const isGone = states.some((one) => one.imageState === null && one.taskState !== 'done')
  return isGone
    ? conflict('image', 'The image that failed was deleted. Copy its source again.')
    : conflict('task', 'Nothing of it failed, so there is nothing to begin anew.')
}

/** The content of a source that was deleted may be gone, and is no longer its project's to give. */
async function refuseWithoutSource(
  rows: Rows,
  { input }: { readonly input: CopyInput & { readonly imageId: ImageId } },
): Promise<void> {
  if (input.source.is === 'peer') return
  const source = await rows
    .selectFrom('image as copy')
    .innerJoin('image as source', 'source.id', 'copy.sourceImageId')
    .select('source.id')
    .where('copy.id', '=', input.imageId)
    .where('source.state', '=', 'available')
    .where('source.regionId', '=', input.source.regionId as RegionId)
    .executeTakeFirst()
  if (source !== undefined) return
  throw conflict('image', 'The image that was to be copied has been deleted. Delete its failed copies.')
}
