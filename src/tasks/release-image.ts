import { setTimeout as delay } from 'node:timers/promises'
import type { Rows } from '../catalog/contract.ts'
import { isFault } from '../image/fault.ts'
import type { Digest, ImageId, RegionId } from '../image/ids.ts'
import type { CopyInput } from './copy-image.ts'
import type { TaskParts } from './parts.ts'
import { basesOf } from './refs.ts'
import type { Runner, TaskDefinition } from './runner.ts'

export interface ReleaseInput {
  readonly imageId: ImageId
  readonly regionId: RegionId
  readonly digest: Digest
}

const AGAIN_MS = 1000
const AGAIN_MS_MAX = 60_000

/**
 * A live task that was accepted while the image was listed, and still reads it or is about to refer to it. Told by the
 * content, so that it does not matter which of several images with this content it was given.
 */
async function findReader(rows: Rows, { regionId, digest }: ReleaseInput): Promise<string | undefined> {
  const copies = await rows
    .selectFrom('task')
    .select(['id', 'input'])
    .where('kind', '=', 'copy-image')
    .where('endedAtMs', 'is', null)
    .execute()
  const copy = copies.find(({ input }) => {
    const { sourceRegionId, digest: copied } = JSON.parse(input) as CopyInput
    return sourceRegionId === regionId && copied === digest
  })
  if (copy !== undefined) return copy.id
  const launches = await rows
    .selectFrom('task')
    .innerJoin('machine', 'machine.id', 'task.machineId')
    .select(['task.id', 'machine.disks'])
    .where('task.kind', '=', 'launch-machine')
    .where('task.regionId', '=', regionId)
    .where('task.endedAtMs', 'is', null)
    .execute()
  return launches.find(({ disks }) => basesOf(disks).includes(digest))?.id
}

/**
 * The store's part of an image's removal: its row has gone in the transaction that added this task, so nobody new asks
 * for it; once those who did are through, its ref goes, and a collection takes what nobody else needs (I2).
 */
export function releaseImage(
  { catalog, jobs }: TaskParts,
  runner: () => Runner,
): TaskDefinition<ReleaseInput> {
  return {
    kind: 'release-image',
    gate: 'none',
    steps: [
      {
        name: 'wait',
        async run({ input, signal }) {
          for (;;) {
            const reader = await findReader(catalog.rows, input)
            if (reader === undefined) return
            await runner().changed(reader as never, AGAIN_MS, signal)
            signal.throwIfAborted()
          }
        },
      },
      {
        name: 'release',
        async run({ input, signal }) {
          for (let waitMs = AGAIN_MS; ; waitMs = Math.min(2 * waitMs, AGAIN_MS_MAX)) {
            try {
              return await jobs.release(input.regionId, input.imageId)
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
