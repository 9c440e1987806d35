import type { DiskBus } from '../image/config.ts'
import type { Consistency } from '../image/consistency.ts'
import { Fault } from '../image/fault.ts'
import type { Digest, ImageId, ProjectId, RegionId } from '../image/ids.ts'
import type { ImageKind, OsType } from '../image/image.ts'
import { configOf } from './columns.ts'
import { domainOf, failAndCleanUp, osOf, setAvailable, setFailed } from './image-row.ts'
import type { TaskParts } from './parts.ts'
import { imageRef } from './refs.ts'
import type { TaskDefinition } from './runner.ts'

export interface ComposeInput {
  readonly imageId: ImageId
  /** The image's disks in their order, the system disk first: each a disk of what the region holds. */
  readonly disks: readonly {
    readonly digest: Digest
    readonly diskIndex: number
    readonly bus: DiskBus
    /** Not zero. */
    readonly dataBytes: number
  }[]
  readonly consistency: Consistency
}

/** From disks that the region holds to an image of them, without moving a byte of them. */
export function composeImage({ catalog, jobs, clock }: TaskParts): TaskDefinition<ComposeInput> {
  return {
    kind: 'compose-image',
    gate: 'none',
    steps: [
      {
        name: 'compose',
        async run(context) {
          const { input, id, row, signal } = context
          const { imageId, disks, consistency } = input
          const image = await catalog.rows
            .selectFrom('image')
            .select(['kind', 'osType', 'osName', 'config'])
            .where('id', '=', imageId)
            .executeTakeFirst()
          if (image === undefined) {
            throw new Fault('conflict', 'The image was deleted before it was made.', { subject: 'image' })
          }
          const job = {
            regionId: row.regionId as RegionId,
            sessionId: id,
            domain: domainOf(image.kind as ImageKind, row.projectId as ProjectId),
            disks,
            config: configOf(image.config),
            os: osOf(image.osType as OsType, image.osName),
            consistency,
            ref: await imageRef(
              catalog.rows,
              imageId,
              disks.reduce((sum, { dataBytes }) => sum + dataBytes, 0),
            ),
          }
          const { parent, ...made } = await jobs.compose(job, signal)
          await context.finish({ ...made, consistency }, (rows) =>
            setAvailable(rows, imageId, made, { consistency, parent }, clock()),
          )
        },
      },
    ],
    async undo({ input, id, row }, reason) {
      await failAndCleanUp(setFailed(catalog.rows, input.imageId, reason, clock()), [
        jobs.abort(row.regionId as RegionId, id),
        // The store may have committed before the failure; a collection then takes the image.
        jobs.release(row.regionId as RegionId, input.imageId),
      ])
    },
  }
}
