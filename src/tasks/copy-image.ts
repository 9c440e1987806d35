import type { ProjectId } from '../image/ids.ts'
import { imageDisksOf } from './columns.ts'
import { neededBytes } from './copy-estimate.ts'
import { type CopyInput, type CopyOutput, copyInputOf, type OldCopyInput, sourceWord } from './copy-words.ts'
import { createGate } from './gates.ts'
import { domainOf, failAndCleanUp, type Made, setAvailable, setFailed } from './image-row.ts'
import type { TaskParts } from './parts.ts'
import { reserve } from './quota.ts'
import { imageRef } from './refs.ts'
import { refuseWithoutRoom } from './room.ts'
import type { StepContext, TaskDefinition } from './runner.ts'
import type { PullJob } from './store-jobs.ts'

type Copied = Omit<CopyOutput, 'by'>
type Context = StepContext<CopyInput | OldCopyInput>

const WAIT_MS_MAX = 60_000

/**
 * Brings an image into a region: refers to what is there, pulls what is missing, or writes it anew with other keys.
 * It waits for a place only where bytes are moved; shown are 'queue', 'plan', 'pull', 'commit'. Its room
 * is booked before its first byte.
 */
export function copyImage(parts: TaskParts): TaskDefinition<CopyInput | OldCopyInput> {
  const { catalog, jobs, clock } = parts
  // Whoever looks for room sees what all before him have booked.
  const booking = createGate(1)

  /** Fault 'full' 'store' reason 'room'. What was booked stays in the checkpoint, so that others count with it. */
  async function bookRoom(context: Context, input: CopyInput): Promise<void> {
    const { source, digest, targetRegionId, way } = input
    if (context.checkpoint().roomBytes !== undefined) return
    // Where nobody can say what is free, there is nothing to compare with.
    if ((await jobs.freeBytes(targetRegionId)) === undefined) return
    await context.phase('plan')
    // What a session of other keys has, a plan of these does not find.
    const session = way === 'pull' ? { sessionId: context.id } : {}
    const wish = { source, targetRegionId, digest, ...session, ...(await disksOf(input)) }
    const estimate = await jobs.planPull(wish, context.signal)
    await reserveFound(input, estimate.dataBytes)
    const roomBytes = neededBytes(way, estimate)
    const leave = await booking.enter(context.signal)
    try {
      await refuseWithoutRoom(parts, targetRegionId, roomBytes, context.id)
      await context.save({ roomBytes, plannedSavedBytes: way === 'pull' ? estimate.savedBytes : 0 })
    } finally {
      leave()
    }
  }

  /** What a peer's image has to be, by its row. */
  async function disksOf({ source, imageId }: CopyInput): Promise<Pick<PullJob, 'diskSizesBytes'>> {
    if (source.is === 'region') return {}
    const row = await catalog.rows
      .selectFrom('image')
      .select('disks')
      .where('id', '=', imageId)
      .executeTakeFirst()
    return row === undefined ? {} : { diskSizesBytes: imageDisksOf(row.disks).map((disk) => disk.sizeBytes) }
  }

  /** A peer's word of what its image holds is no more than that (I7); where room is booked, this is before the first byte. */
  async function reserveFound({ imageId, dataBytes }: CopyInput, foundBytes: number | undefined) {
    if (foundBytes === undefined || foundBytes <= dataBytes) return
    await catalog.transaction((rows) => reserve(rows, { is: 'image', id: imageId }, foundBytes))
  }

  async function move(context: Context, input: CopyInput): Promise<Copied> {
    const { imageId, digest, dataBytes, source, targetRegionId, bytesPerSecond } = input
    await bookRoom(context, input)
    await context.phase('pull')
    const ref = await imageRef(catalog.rows, imageId, dataBytes)
    const limit = bytesPerSecond === undefined ? {} : { bytesPerSecond }
    const job = {
      source,
      targetRegionId,
      digest,
      sessionId: context.id,
      ref,
      ...limit,
      ...(await disksOf(input)),
    }
    const startedAtMs = clock()
    if (input.way === 'rekey') {
      const domain = domainOf('custom', context.row.projectId as ProjectId)
      const made = await jobs.rekey({ ...job, domain }, context.progress, context.signal)
      const { storedBytes, movedBytes } = made
      const pullMs = clock() - startedAtMs
      return {
        digest: made.digest,
        dataBytes: made.dataBytes,
        storedBytes,
        movedBytes,
        savedBytes: 0,
        pullMs,
      }
    }
    const moved = await jobs.pull({ ...job, isShared: input.isShared }, context.progress, context.signal)
    // Where all of it was there, nothing was compared again, and nothing told.
    const isAllThere = moved.movedBytes === 0 && moved.savedBytes === 0
    const savedBytes = isAllThere ? Number(context.checkpoint().plannedSavedBytes ?? 0) : moved.savedBytes
    if (isAllThere) context.progress({ doneBytes: 0, totalBytes: 0, movedBytes: 0, savedBytes })
    return { digest, dataBytes, ...moved, savedBytes, pullMs: clock() - startedAtMs }
  }

  /** Twice it is the same ref, so that nothing has to be remembered of the first time. */
  async function refer({ imageId, digest, dataBytes, targetRegionId }: CopyInput): Promise<Copied> {
    const ref = await imageRef(catalog.rows, imageId, dataBytes)
    await jobs.refer(targetRegionId, { ...ref, digests: [digest] })
    return { digest, dataBytes, storedBytes: 0, movedBytes: 0, savedBytes: 0, pullMs: 0 }
  }

  /** What is moved is moved once, and only so many at once move. */
  async function moveInTurn(context: Context, input: CopyInput): Promise<Copied> {
    const made = context.checkpoint().made as (Made & Partial<Copied>) | undefined
    if (made !== undefined) return { savedBytes: 0, pullMs: 0, ...made }
    await context.phase('queue')
    const copied = await context.within('copies', () => move(context, input), sourceWord(input.source))
    await context.save({ made: copied })
    await context.phase('commit')
    return copied
  }

  return {
    kind: 'copy-image',
    gate: 'none',
    isPausable: true,
    attempts: {
      countMax: parts.copies.attempts,
      waitMs: (attempt) => Math.min(WAIT_MS_MAX, 1000 * 2 ** Math.min(attempt - 1, 6)),
    },
    steps: [
      {
        // One step, so that a reference is begun in one commit and ended in the next.
        name: 'copy',
        async run(context) {
          const input = copyInputOf(context.input)
          const made = await (input.way === 'reference' ? refer(input) : moveInTurn(context, input))
          const output: CopyOutput = { by: input.way, ...made }
          await context.finish({ ...output }, (rows) =>
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
