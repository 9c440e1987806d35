import type { Rows } from '../catalog/contract.ts'
import type { CleaningWish } from '../image/cleaning.ts'
import { Fault } from '../image/fault.ts'
import type { Digest, ImageId, ProjectId, RegionId } from '../image/ids.ts'
import type { Image } from '../image/image.ts'
import type { CleanInput, PlanCleanInput } from '../tasks/clean-image.ts'
import { refuseAboveQuota } from '../tasks/quota.ts'
import type { App } from './contract.ts'
import { findImage } from './find.ts'
import type { Guard } from './guard.ts'
import { insertImage } from './new-image.ts'
import type { Parts } from './parts.ts'

/** The caller's wish, made stricter where the operator's settings are. */
export function strictWish({ secrets }: Pick<Parts, 'secrets'>, wish: CleaningWish): CleaningWish {
  return secrets === 'refuse' ? { ...wish, onSecrets: 'refuse' } : wish
}

async function findAvailable(
  rows: Rows,
  where: { readonly regionId: RegionId; readonly projectId: ProjectId; readonly imageId: ImageId },
): Promise<Image & { readonly digest: Digest }> {
  const image = await findImage(rows, where)
  if (image.state.at === 'available') return { ...image, digest: image.state.digest }
  if (image.state.at === 'failed') {
    const message = `The making of the image failed: ${image.state.reason} Make it again.`
    throw new Fault('conflict', message, { subject: 'image' })
  }
  throw new Fault('conflict', `The image is ${image.state.at}; it can be used once it is available.`, {
    subject: 'image',
  })
}

/** The disks of an image as a task reads them. Its row tells what all of them hold together, not each. */
const disksOf = ({ disks, digest }: Pick<Image, 'disks'> & { readonly digest: Digest }) =>
  disks.map(({ index, bus }) => ({ digest, diskIndex: index, bus, dataBytes: 0 }))

/** Images without users' private data, from images that are there, and what was taken out. */
export function createCleaning(
  parts: Parts,
  guard: Guard,
): Pick<App['images'], 'clean' | 'planClean' | 'report'> {
  const { catalog, runner, jobs } = parts
  const target = (input: {
    readonly regionId: RegionId
    readonly projectId?: ProjectId | undefined
    readonly imageId: ImageId
  }) => ({
    regionId: input.regionId,
    projectId: input.projectId,
    resource: `image/${input.imageId}`,
  })

  return {
    clean(caller, input) {
      return guard.change(caller, 'images.clean', target(input), async (projectId) => {
        const made = await catalog.transaction(async (rows) => {
          const source = await findAvailable(rows, { ...input, projectId })
          await refuseAboveQuota(rows, projectId, source.dataBytes)
          const { osType, osName, disks, config, consistency, labels, sourceMachineId, dataBytes } = source
          const imageId = await insertImage(parts, rows, {
            ...{ projectId, regionId: input.regionId, kind: 'custom', origin: 'clean' },
            ...{ osType, osName, disks, config, consistency, labels, sourceMachineId },
            name: input.name ?? `${source.name.slice(0, 100).toWellFormed()}-clean`,
            description: input.description ?? source.description,
            tag: input.tag ?? source.tag,
            parent: source.digest,
            sourceImageId: source.id,
            reservedBytes: dataBytes,
          })
          const task: CleanInput = {
            imageId,
            disks: disksOf(source),
            consistency: consistency ?? 'crash',
            parent: source.digest,
            clean: strictWish(parts, input.clean),
          }
          const where = { projectId, regionId: input.regionId, imageId }
          const taskId = await runner.add(rows, { kind: 'clean-image', ...where, input: task })
          await rows.updateTable('image').set({ taskId }).where('id', '=', imageId).execute()
          return { imageId, taskId }
        })
        runner.kick(made.taskId)
        return made
      })
    },

    planClean(caller, input) {
      return guard.change(caller, 'images.clean', target(input), async (projectId) => {
        const taskId = await catalog.transaction(async (rows) => {
          const source = await findAvailable(rows, { ...input, projectId })
          const task: PlanCleanInput = { disks: disksOf(source), clean: strictWish(parts, input.clean) }
          return runner.add(rows, {
            kind: 'plan-clean',
            projectId,
            regionId: input.regionId,
            input: task,
          })
        })
        runner.kick(taskId)
        return { taskId }
      })
    },

    async report(caller, where) {
      const projectId = await guard.admit(caller, 'images.report', target(where))
      const { name, digest } = await findAvailable(catalog.rows, { ...where, projectId })
      const report = await jobs.report(where.regionId, digest)
      if (report !== undefined) return report
      throw new Fault('absent', `Image '${name}' was never cleaned, so it has no cleaning report.`, {
        subject: 'image',
        reason: 'no-report',
      })
    },
  }
}
