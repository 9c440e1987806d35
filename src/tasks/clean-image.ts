import { type CleaningWish, summaryOf } from '../image/cleaning.ts'
import type { Consistency } from '../image/consistency.ts'
import { Fault, isFault } from '../image/fault.ts'
import type { Digest, ImageId, ProjectId, RegionId } from '../image/ids.ts'
import type { OsType } from '../image/image.ts'
import { PUBLIC_DOMAIN } from '../store/names.ts'
import { cleanDisks, planCleaning } from './clean-disks.ts'
import { configOf } from './columns.ts'
import type { ComposeInput } from './compose-image.ts'
import { domainOf, failAndCleanUp, osOf, setAvailable, setFailed } from './image-row.ts'
import { readPatiently } from './lost-disk.ts'
import { exportNameOf, type TaskParts } from './parts.ts'
import { reserve } from './quota.ts'
import { imageRef } from './refs.ts'
import type { StepContext, TaskDefinition } from './runner.ts'
import type { SourceDisk, WrittenImage } from './store-jobs.ts'

/** Disks of what the region holds, the system disk first; they stay as they are. */
type HeldDisks = ComposeInput['disks']

export interface CleanInput {
  readonly imageId: ImageId
  readonly disks: HeldDisks
  readonly consistency: Consistency
  /** The image that it was made from, or the snapshot of the system disk. */
  readonly parent: Digest | null
  readonly clean: CleaningWish
}

export interface PlanCleanInput {
  readonly disks: HeldDisks
  readonly clean: CleaningWish
}

/** The disks as our own NBD server shows them. */
async function heldSources(
  { jobs, nbdSocketPath }: Pick<TaskParts, 'jobs' | 'nbdSocketPath'>,
  regionId: RegionId,
  projectId: ProjectId,
  disks: HeldDisks,
): Promise<readonly SourceDisk[]> {
  await jobs.serve()
  const sources: SourceDisk[] = []
  for (const { digest, diskIndex, bus } of disks) {
    const sizeBytes = (await jobs.diskSizes(regionId, digest))[diskIndex]
    if (sizeBytes === undefined) {
      throw new Fault('absent', 'The image has not the disks that its row tells of.', { subject: 'image' })
    }
    const exportName = exportNameOf(regionId, digest, diskIndex)
    const domain = await jobs.domainOf(regionId, digest)
    // Naming another project's chunks would tell of them (I10): such a disk is read whole.
    const isOurs = domain === domainOf('custom', projectId) || domain === PUBLIC_DOMAIN
    const baseline = isOurs ? { baseline: { digest, diskIndex, changes: 'nothing' as const } } : {}
    sources.push({ sizeBytes, bus, socketPath: nbdSocketPath, exportName, mapName: exportName, ...baseline })
  }
  return sources
}

const placeOf = ({ row }: Pick<StepContext<never>, 'row'>) => ({
  regionId: row.regionId as RegionId,
  projectId: row.projectId as ProjectId,
})

/** From disks that the region holds to an image of them without users' private data. */
export function cleanImage(parts: TaskParts): TaskDefinition<CleanInput> {
  const { catalog, jobs, cleaner, sign, clock } = parts

  async function make(context: StepContext<CleanInput>) {
    const { id, input, signal } = context
    const { imageId, disks, consistency, parent, clean } = input
    const { regionId, projectId } = placeOf(context)
    const sources = await heldSources(parts, regionId, projectId, disks)
    const cleaned = await cleanDisks(parts, context, sources, clean)
    await context.phase('write')
    const image = await catalog.rows
      .selectFrom('image')
      .select(['osType', 'osName', 'config'])
      .where('id', '=', imageId)
      .executeTakeFirst()
    if (image === undefined) {
      throw new Fault('conflict', 'The image was deleted before it was made.', { subject: 'image' })
    }
    const job = {
      ...{ regionId, sessionId: id, domain: domainOf('custom', projectId), disks: cleaned.disks },
      consistency,
      images: [
        {
          disks: sources.map((_source, i) => i),
          config: configOf(image.config),
          os: osOf(image.osType as OsType, image.osName),
          parent: parent ?? undefined,
          ref: await imageRef(catalog.rows, imageId, null),
          report: sign(cleaned.report),
        },
      ],
    }
    const [made] = await jobs.write(job, context.progress, signal)
    if (made === undefined) throw new Error('one image was asked for')
    return { made, cleaning: summaryOf(cleaned.report) }
  }

  return {
    kind: 'clean-image',
    gate: 'bytes',
    steps: [
      {
        name: 'clean',
        async run(context) {
          // A process that ended before it had closed them may have left them to us.
          if (context.checkpoint().made !== undefined) return await cleaner.close(context.id)
          const made = await readPatiently(() => make(context), context.signal)
          // What is bigger than its source by the rounding of chunks is charged now (I7).
          await catalog.transaction((rows) =>
            reserve(rows, { is: 'image', id: context.input.imageId }, made.made.dataBytes),
          )
          await context.save({ ...made })
          await cleaner.close(context.id)
        },
      },
      {
        name: 'commit',
        async run(context) {
          const { made, cleaning } = context.checkpoint() as {
            made: WrittenImage
            cleaning: ReturnType<typeof summaryOf>
          }
          const { imageId, consistency, parent } = context.input
          const { digest, dataBytes, storedBytes, movedBytes } = made
          const output = { digest, dataBytes, storedBytes, movedBytes, consistency, cleaning }
          const facts = { consistency, parent: parent ?? undefined, cleaning }
          await context.finish(output, (rows) => setAvailable(rows, imageId, made, facts, clock()))
        },
      },
    ],
    async undo({ input, id, row }, reason) {
      const regionId = row.regionId as RegionId
      await failAndCleanUp(setFailed(catalog.rows, input.imageId, reason, clock()), [
        cleaner.close(id),
        jobs.abort(regionId, id),
        // The store may have committed before the failure; a collection then takes the image.
        jobs.release(regionId, input.imageId),
      ])
    },
  }
}

/** What cleaning would take out of disks that the region holds; a refusal is part of the answer. */
export function planClean(parts: TaskParts): TaskDefinition<PlanCleanInput> {
  return {
    kind: 'plan-clean',
    gate: 'bytes',
    steps: [
      {
        name: 'look',
        async run(context) {
          const { disks, clean } = context.input
          const { regionId, projectId } = placeOf(context)
          const plan = async () => {
            const sources = await heldSources(parts, regionId, projectId, disks)
            return await planCleaning(parts, context, sources, clean)
          }
          const report = await readPatiently(plan, context.signal).catch((error: unknown) => {
            if (isFault(error, 'conflict')) return error.message
            throw error
          })
          await parts.cleaner.close(context.id)
          const isTold = typeof report !== 'string'
          const output = { cleaning: isTold ? report : null, blockers: isTold ? [] : [report] }
          await context.finish(output, async () => {})
        },
      },
    ],
    undo: ({ id }) => parts.cleaner.close(id),
  }
}
