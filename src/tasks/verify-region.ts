import { isFault } from '../image/fault.ts'
import type { Digest, RegionId } from '../image/ids.ts'
import type { MachineDiskRecord } from '../image/machine.ts'
import type { TaskParts } from './parts.ts'
import type { TaskDefinition } from './runner.ts'

export interface VerifyInput {
  readonly regionId: RegionId
  readonly deep: boolean
}

/**
 * The invariants of one region, checked whole: the store's own (every pack, page and chunk an image names), then
 * what the catalog says of it: every available image and every machine's base is in the store. A region with
 * problems is a task that is done; the problems are its output.
 */
export function verifyRegion({ catalog, jobs }: TaskParts): TaskDefinition<VerifyInput> {
  return {
    kind: 'verify-region',
    gate: 'bytes',
    steps: [
      {
        name: 'verify',
        async run(context) {
          const { regionId, deep } = context.input
          const images = await catalog.rows
            .selectFrom('image')
            .select(['id', 'digest', 'progressPermille'])
            .where('regionId', '=', regionId)
            .where('state', '=', 'available')
            .execute()
          const machines = await catalog.rows
            .selectFrom('machine')
            .select(['id', 'disks'])
            .where('regionId', '=', regionId)
            .execute()
          const report = await jobs.verify(regionId, deep, context.progress, context.signal)
          const problems = [...report.problems]
          const isHeld = async (digest: string) => {
            try {
              await jobs.diskSizes(regionId, digest as Digest)
              return true
            } catch (error) {
              if (isFault(error)) return false
              throw error
            }
          }
          for (const image of images) {
            if (image.digest === null || !(await isHeld(image.digest))) {
              problems.push(`I1: image ${image.id} is available, but the store does not hold ${image.digest}`)
            }
            if (image.progressPermille !== 1000)
              problems.push(`I8: image ${image.id} is available below 100 %`)
          }
          for (const machine of machines) {
            for (const disk of JSON.parse(machine.disks) as MachineDiskRecord[]) {
              if (disk.base === undefined || (await isHeld(disk.base.digest))) continue
              problems.push(
                `I2: machine ${machine.id} needs ${disk.base.digest}, which the store does not hold`,
              )
            }
          }
          await context.finish({ ...report, problems }, async () => {})
        },
      },
    ],
    undo: async () => {},
  }
}
