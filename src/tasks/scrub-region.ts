import type { Digest, ImageId, MachineId, RegionId } from '../image/ids.ts'
import { namesOfImages } from './image-names.ts'
import type { TaskParts } from './parts.ts'
import { imageRef, machineRef } from './refs.ts'
import type { TaskDefinition } from './runner.ts'
import type { ScrubJob } from './store-jobs.ts'

export interface ScrubInput extends ScrubJob {
  readonly regionId: RegionId
  readonly isRepairing: boolean
}

export interface RepairInput {
  readonly regionId: RegionId
}

/** A ref that was damaged keeps what it kept, but what it said of its holder is gone: the catalog knows it. */
async function labelAgain(
  { catalog, jobs }: Pick<TaskParts, 'catalog' | 'jobs'>,
  regionId: RegionId,
  holders: readonly string[],
): Promise<void> {
  const { rows } = catalog
  for (const holder of holders) {
    const image = await rows
      .selectFrom('image')
      .select(['id', 'digest'])
      .where('id', '=', holder)
      .where('state', '=', 'available')
      .executeTakeFirst()
    if (image !== undefined) {
      const ref = await imageRef(rows, holder as ImageId, null)
      await jobs.refer(regionId, { ...ref, digests: [image.digest as Digest] })
      continue
    }
    const machine = await rows.selectFrom('machine').select('id').where('id', '=', holder).executeTakeFirst()
    const ref = machine === undefined ? undefined : await machineRef(rows, holder as MachineId)
    if (ref !== undefined) await jobs.refer(regionId, ref)
  }
}

/** Mends what is listed as damaged, and names what nobody has any more as people know it. */
async function repairRegion({ catalog, jobs }: TaskParts, regionId: RegionId, signal: AbortSignal) {
  const report = await jobs.repair(regionId, signal)
  await labelAgain({ catalog, jobs }, regionId, report.unlabelledHolders)
  const nameOf = await namesOfImages(catalog.rows, regionId)
  const problems = report.lost.flatMap(({ message, image, ...where }) =>
    nameOf(image, where).map((name) => (name === '' ? message : `${name}: ${message}`)),
  )
  return { ...report, problems }
}

/** Reads a region's objects again, and mends from the other regions what is damaged. The report is the task's output. */
export function scrubRegion(parts: TaskParts): TaskDefinition<ScrubInput> {
  return {
    kind: 'scrub-region',
    gate: 'none',
    steps: [
      {
        name: 'scrub',
        async run(context) {
          if (context.checkpoint().scrubbed !== undefined) return
          const { regionId, isRepairing: _, ...job } = context.input
          const scrubbed = await parts.jobs.scrub(regionId, job, context.progress, context.signal)
          await context.save({ scrubbed })
        },
      },
      {
        name: 'repair',
        async run(context) {
          const { regionId, isRepairing } = context.input
          const scrubbed = context.checkpoint().scrubbed as Record<string, unknown>
          const repaired = isRepairing ? await repairRegion(parts, regionId, context.signal) : {}
          await context.finish({ ...scrubbed, isRepairing, ...repaired }, async () => {})
        },
      },
    ],
    undo: async () => {},
  }
}

/** What a reader's finding sets off: repair alone, of what is listed. */
export function repairDamage(parts: TaskParts): TaskDefinition<RepairInput> {
  return {
    kind: 'repair-region',
    gate: 'none',
    steps: [
      {
        name: 'repair',
        async run(context) {
          const repaired = await repairRegion(parts, context.input.regionId, context.signal)
          await context.finish({ isRepairing: true, ...repaired }, async () => {})
        },
      },
    ],
    undo: async () => {},
  }
}
