import type { Rows } from '../catalog/contract.ts'
import type { ImageId, ProjectId, RegionId, TaskId } from '../image/ids.ts'
import type { CopyInput } from '../tasks/copy-words.ts'
import type { NewTask, Runner } from '../tasks/runner.ts'
import type { CopyOf } from './copy-contract.ts'

/** One copy whose image is listed. */
export interface ListedCopy {
  readonly regionId: RegionId
  readonly imageId: ImageId
  readonly input: Omit<CopyInput, 'imageId' | 'targetRegionId' | 'isShared' | 'position'>
  /** Bytes to move, where they are known. */
  readonly totalBytes?: number
}

export interface CopyTasks {
  readonly taskId: TaskId
  readonly copies: readonly CopyOf[]
}

/**
 * Adds the tasks of copies and names each to its image, in the caller's transaction; `kickCopies` once that is committed. With
 * `batchRegionId` under a parent of that region.
 */
export async function addCopyTasks(
  runner: Pick<Runner, 'add'>,
  rows: Rows,
  projectId: ProjectId,
  copies: readonly [ListedCopy, ...ListedCopy[]],
  options: Pick<NewTask, 'priority' | 'deadlineAtMs' | 'requestKey'> & { readonly batchRegionId?: RegionId },
): Promise<CopyTasks> {
  const { batchRegionId, requestKey, ...order } = options
  const known = requestKey === undefined ? {} : { requestKey }
  const parentId =
    batchRegionId === undefined
      ? undefined
      : await runner.add(rows, {
          ...{ kind: 'copy-batch', projectId, regionId: batchRegionId, input: {} },
          ...order,
          ...known,
        })
  // They read one image: a batch has one source.
  const isShared = copies.filter(({ input }) => input.way === 'pull').length > 1
  const add = async (copy: ListedCopy, position: number): Promise<CopyOf> => {
    const { regionId, imageId, input, totalBytes } = copy
    const task: CopyInput = { ...input, imageId, targetRegionId: regionId, isShared, position }
    const taskId = await runner.add(rows, {
      ...{ kind: 'copy-image', projectId, regionId, imageId, input: task },
      ...(totalBytes === undefined ? {} : { totalBytes }),
      ...order,
      ...(parentId === undefined ? known : { parentId }),
    })
    await rows.updateTable('image').set({ taskId }).where('id', '=', imageId).execute()
    return { regionId, imageId, taskId }
  }
  const [first, ...rest] = copies
  const made = [await add(first, 0)]
  for (const copy of rest) made.push(await add(copy, made.length))
  return { taskId: parentId ?? (made[0] as CopyOf).taskId, copies: made }
}

/** Also of a request that was answered before: what runs already is left alone. */
export function kickCopies(runner: Pick<Runner, 'kick'>, { taskId, copies }: CopyTasks): void {
  for (const copy of copies) runner.kick(copy.taskId)
  runner.kick(taskId)
}

/**
 * The answer to the same request of not longer ago, while something of it still runs; in the order of `regionIds`. In the
 * transaction that would add the tasks, so that of two at once only one does.
 */
export async function findRepeated(
  rows: Rows,
  requestKey: string,
  sinceMs: number,
  regionIds: readonly RegionId[],
): Promise<CopyTasks | undefined> {
  const tasks = await rows
    .selectFrom('task')
    .select(['id', 'kind'])
    .where('requestKey', '=', requestKey)
    .where('endedAtMs', 'is', null)
    // One that is being undone, for however long, makes nothing any more.
    .where('step', '!=', 'undo')
    .where('createdAtMs', '>=', sinceMs)
    .orderBy('createdAtMs', 'desc')
    .execute()
  for (const { id, kind } of tasks) {
    const listed = await rows
      .selectFrom('task')
      .innerJoin('image', 'image.id', 'task.imageId')
      .select(['task.id as taskId', 'task.regionId', 'image.id as imageId'])
      .where(kind === 'copy-batch' ? 'task.parentId' : 'task.id', '=', id)
      .execute()
    const copies = regionIds.flatMap((regionId) => {
      const copy = listed.find((one) => one.regionId === regionId)
      return copy === undefined
        ? []
        : [{ regionId, imageId: copy.imageId as ImageId, taskId: copy.taskId as TaskId }]
    })
    // One of whose images was deleted is no answer any more: it would name what is not there.
    if (copies.length === regionIds.length) return { taskId: id as TaskId, copies }
  }
  return undefined
}
