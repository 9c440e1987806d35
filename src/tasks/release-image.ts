import { setTimeout as delay } from 'node:timers/promises'
import type { Selectable } from 'kysely'
import type { Rows } from '../catalog/contract.ts'
import type { Schema } from '../catalog/schema.ts'
import { isFault } from '../image/fault.ts'
import type { Digest, ImageId, ProjectId, RegionId, SnapshotId, TaskId } from '../image/ids.ts'
import type { TaskKind } from '../image/task.ts'
import type { ComposeInput } from './compose-image.ts'
import { type CopyInput, copyInputOf, type OldCopyInput } from './copy-words.ts'
import type { TaskParts } from './parts.ts'
import type { PlanCopyInput } from './plan-copy.ts'
import { basesOf } from './refs.ts'
import type { ResetInput } from './reset-disk.ts'
import type { Runner, TaskDefinition } from './runner.ts'

export interface ReleaseInput {
  /** Who needed it: an image's id, or a snapshot's. */
  readonly holder: ImageId | SnapshotId
  readonly regionId: RegionId
  /** Absent where it was still being made. */
  readonly digest?: Digest
  /** The task that was making it, which makes something else as well and so goes on. */
  readonly maker?: TaskId
}

/** As tasks of before there were snapshots keep it. */
type OldInput = { readonly imageId: ImageId }

type Held = Pick<
  Selectable<Schema['snapshot']>,
  'id' | 'projectId' | 'regionId' | 'state' | 'digest' | 'taskId'
>

const NOUNS = ['image', 'snapshot'] as const

/** The tasks that come of a removal, to be seen to once its transaction has committed: the rest of what it means. */
export interface Removal {
  /** New ones, that let go of what the store holds: to be kicked. */
  readonly releases: TaskId[]
  /** Live ones that now make nothing any more; their rows say so already: to be cancelled. */
  readonly idle: TaskId[]
}

/**
 * Takes images or snapshots off the lists, in the caller's transaction. What was available, a task of its own lets go
 * of in the store; what is being made is given up with its task, unless that makes something else as well.
 */
export async function removeRows(
  rows: Rows,
  runner: Pick<Runner, 'add' | 'markCancelled'>,
  gone: { readonly [Noun in 'image' | 'snapshot']?: readonly Held[] },
): Promise<Removal> {
  const releases: TaskId[] = []
  const idle = new Set<TaskId>()
  const letGo = async (
    noun: keyof typeof gone,
    { id, projectId, regionId }: Held,
    more: Pick<ReleaseInput, 'digest' | 'maker'>,
  ) => {
    const holder = id as ImageId | SnapshotId
    const input: ReleaseInput = { holder, regionId: regionId as RegionId, ...more }
    releases.push(
      await runner.add(rows, {
        kind: 'release-image',
        projectId: projectId as ProjectId,
        regionId: regionId as RegionId,
        ...(noun === 'image' ? { imageId: id as ImageId } : { snapshotId: id as SnapshotId }),
        input,
      }),
    )
  }
  const all = NOUNS.flatMap((noun) => (gone[noun] ?? []).map((row) => ({ noun, row })))
  for (const { noun, row } of all) await rows.deleteFrom(noun).where('id', '=', row.id).execute()
  for (const { noun, row } of all) {
    if (row.state === 'available') await letGo(noun, row, { digest: row.digest as Digest })
    // What never was available, its own task's undo lets go of.
    if (row.state !== 'creating' || row.taskId === null) continue
    const maker = row.taskId as TaskId
    if (await makesMore(rows, maker)) await letGo(noun, row, { maker })
    else idle.add(maker)
  }
  // With the removal: a crash right after it would leave them at work for nothing, or paused for ever with all they hold.
  for (const id of idle) await runner.markCancelled(rows, id)
  return { releases, idle: [...idle] }
}

async function makesMore(rows: Rows, taskId: TaskId): Promise<boolean> {
  for (const noun of NOUNS) {
    const row = await rows.selectFrom(noun).select('id').where('taskId', '=', taskId).executeTakeFirst()
    if (row !== undefined) return true
  }
  return false
}

/** What `removeRows` left to be done, after its transaction. */
export async function seeTo(runner: Pick<Runner, 'kick' | 'cancel'>, removal: Removal): Promise<void> {
  for (const id of removal.releases) runner.kick(id)
  await Promise.all(removal.idle.map((id) => runner.cancel(id)))
}

const AGAIN_MS = 1000
const AGAIN_MS_MAX = 60_000

/** What a copy, or the plan of one, reads. */
function copyReading(kind: 'copy-image' | 'plan-copy', input: unknown) {
  return kind === 'plan-copy' ? (input as PlanCopyInput) : copyInputOf(input as CopyInput | OldCopyInput)
}

/**
 * A live task that was accepted while the content was listed, and still reads it or is about to refer to it. Told by the
 * content, so that it does not matter which of several images with this content it was given.
 */
async function findReader(
  rows: Rows,
  { regionId, digest, maker }: Pick<ReleaseInput, 'regionId' | 'digest' | 'maker'>,
): Promise<string | undefined> {
  const live = (kind: TaskKind) =>
    rows
      .selectFrom('task')
      .select(['task.id', 'task.input'])
      .where('task.kind', '=', kind)
      .where('task.endedAtMs', 'is', null)
  if (maker !== undefined) {
    const making = await rows
      .selectFrom('task')
      .select('id')
      .where('id', '=', maker)
      .where('endedAtMs', 'is', null)
      .executeTakeFirst()
    return making?.id
  }
  if (digest === undefined) return undefined
  // One that is held, or waits to be tried again, is live as well, and so is one that only refers to the content.
  for (const kind of ['copy-image', 'plan-copy'] as const) {
    const copy = (await live(kind).execute()).find(({ input }) => {
      const read = copyReading(kind, JSON.parse(input))
      return read.source.is === 'region' && read.source.regionId === regionId && read.digest === digest
    })
    if (copy !== undefined) return copy.id
  }
  for (const kind of ['compose-image', 'clean-image', 'plan-clean'] as const) {
    const found = (await live(kind).where('task.regionId', '=', regionId).execute()).find(({ input }) =>
      (JSON.parse(input) as Pick<ComposeInput, 'disks'>).disks.some((disk) => disk.digest === digest),
    )
    if (found !== undefined) return found.id
  }
  const resets = await live('reset-disk').where('task.regionId', '=', regionId).execute()
  const reset = resets.find(({ input }) => (JSON.parse(input) as ResetInput).digest === digest)
  if (reset !== undefined) return reset.id
  const launches = await live('launch-machine')
    .innerJoin('machine', 'machine.id', 'task.machineId')
    .select('machine.disks')
    .where('task.regionId', '=', regionId)
    .execute()
  return launches.find(({ disks }) => basesOf(disks).includes(digest))?.id
}

/**
 * The store's part of the removal of an image or a snapshot: its row has gone in the transaction that added this task,
 * so nobody new asks for it; once those who did are through, its ref goes, and a collection takes what nobody else
 * needs (I2).
 */
export function releaseImage(
  { catalog, jobs }: TaskParts,
  runner: () => Runner,
): TaskDefinition<ReleaseInput | (Omit<ReleaseInput, 'holder'> & OldInput)> {
  return {
    kind: 'release-image',
    gate: 'none',
    steps: [
      {
        name: 'wait',
        async run({ input, signal }) {
          // A copy that is held may stay so for days: its end is told, and otherwise it is looked at less and less.
          for (let waitMs = AGAIN_MS; ; waitMs = Math.min(2 * waitMs, AGAIN_MS_MAX)) {
            const reader = await findReader(catalog.rows, input)
            if (reader === undefined) return
            await runner().changed(reader as never, waitMs, signal)
            signal.throwIfAborted()
          }
        },
      },
      {
        name: 'release',
        async run({ input, signal }) {
          const holder = 'holder' in input ? input.holder : input.imageId
          for (let waitMs = AGAIN_MS; ; waitMs = Math.min(2 * waitMs, AGAIN_MS_MAX)) {
            try {
              return await jobs.release(input.regionId, holder)
            } catch (error) {
              // Nobody asks again for an image that is gone: what may pass is waited for, however long.
              if (!isFault(error, 'unavailable') && !isFault(error, 'full')) throw error
              await delay(waitMs, undefined, { signal })
            }
          }
        },
      },
    ],
    undo: async () => {},
  }
}
