import assert from 'node:assert/strict'
import { constants } from 'node:fs'
import { open, realpath } from 'node:fs/promises'
import { join } from 'node:path'
import { Fault } from '../image/fault.ts'
import type { ImageId, ProjectId, RegionId } from '../image/ids.ts'
import type { ImageKind, OsType } from '../image/image.ts'
import { SECTOR_BYTES } from '../image/region.ts'
import { configOf, imageDisksOf } from './columns.ts'
import { domainOf, failAndCleanUp, osOf, setAvailable, setFailed } from './image-row.ts'
import type { TaskParts } from './parts.ts'
import { reserve } from './quota.ts'
import { imageRef } from './refs.ts'
import type { StepContext, TaskDefinition } from './runner.ts'
import type { SourceDisk, WrittenImage } from './store-jobs.ts'

export interface ImportInput {
  readonly imageId: ImageId
  /** A plain name in the import folder. */
  readonly fileName: string
}

/**
 * Size in bytes of a raw disk file of the import folder. The file is a regular one and no link, so that no path
 * leads out of the folder. Faults: 'absent', 'invalid'.
 */
export async function checkImportFile(directory: string, fileName: string): Promise<number> {
  const refused = (message: string, cause?: unknown) =>
    new Fault('invalid', message, { field: 'fileName', ...(cause === undefined ? {} : { cause }) })
  let file: Awaited<ReturnType<typeof open>>
  try {
    file = await open(
      join(await realpath(directory), fileName),
      constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK,
    )
  } catch (error) {
    throw refused(
      `There is no file '${fileName}' in the import folder of the server. Put it there first.`,
      error,
    )
  }
  try {
    const { size } = await file.stat()
    const isFile = (await file.stat()).isFile()
    if (!isFile || size === 0 || size % SECTOR_BYTES !== 0) {
      throw refused(`'${fileName}' is no raw disk: those have whole sectors of ${SECTOR_BYTES} bytes.`)
    }
    const head = Buffer.alloc(8)
    await file.read(head, 0, head.length, 0)
    // A raw disk starts with code or zeroes. What says it is another format would become an image that cannot boot.
    if (head.subarray(0, 4).toString('latin1') === 'QFI\xfb' || head.toString('latin1') === 'vhdxfile') {
      throw refused(
        `'${fileName}' is not raw. Convert it first: qemu-img convert -O raw ${fileName} disk.raw`,
      )
    }
    return size
  } finally {
    await file.close()
  }
}

/** Raw files as read-only NBD exports, each known by the task that reads it. */
export interface FileExports {
  /** A second call with the same key finds the first one's. */
  open(
    path: string,
    key: string,
    signal: AbortSignal,
  ): Promise<{ readonly socketPath: string; readonly exportName: string; readonly sizeBytes: number }>
  /** Takes away what `open` made, also what a crash left. May be called for nothing. */
  close(key: string): Promise<void>
}

/** From a raw disk file to an image. */
export function importImage(parts: TaskParts, files: FileExports): TaskDefinition<ImportInput> {
  const { catalog, jobs, clock } = parts

  async function findRow({ imageId }: ImportInput) {
    const row = await catalog.rows
      .selectFrom('image')
      .selectAll()
      .where('id', '=', imageId)
      .executeTakeFirst()
    if (row !== undefined) return row
    throw new Fault('conflict', 'The image was deleted before it was read.', { subject: 'image' })
  }

  async function openDisk({ input, id, signal }: StepContext<ImportInput>): Promise<SourceDisk> {
    const bus = imageDisksOf((await findRow(input)).disks)[0]?.bus ?? 'virtio-blk'
    await checkImportFile(parts.importDirectory, input.fileName)
    const rawPath = join(parts.importDirectory, input.fileName)
    const { sizeBytes, socketPath, exportName } = await files.open(rawPath, id, signal)
    return { sizeBytes, socketPath, exportName, mapName: exportName, rawPath, bus }
  }

  return {
    kind: 'import-image',
    gate: 'bytes',
    steps: [
      {
        name: 'reserve',
        async run(context) {
          const { isReserved, made } = context.checkpoint()
          if (isReserved === true || made !== undefined) return
          const { input, row, signal } = context
          const image = await findRow(input)
          const job = {
            regionId: row.regionId as RegionId,
            domain: domainOf(image.kind as ImageKind, row.projectId as ProjectId),
            disks: [await openDisk(context)],
          }
          const [plan] = await jobs.measure(job, signal)
          assert(plan !== undefined)
          await catalog.transaction((rows) =>
            reserve(rows, { is: 'image', id: input.imageId }, plan.dataBytes),
          )
          await context.save({ isReserved: true })
        },
      },
      {
        name: 'read',
        async run(context) {
          const { input, id, row, signal } = context
          if (context.checkpoint().made !== undefined) return
          const image = await findRow(input)
          const [made] = await jobs.write(
            {
              regionId: row.regionId as RegionId,
              sessionId: id,
              domain: domainOf(image.kind as ImageKind, row.projectId as ProjectId),
              disks: [await openDisk(context)],
              consistency: 'crash',
              images: [
                {
                  disks: [0],
                  config: configOf(image.config),
                  os: osOf(image.osType as OsType, image.osName),
                  parent: undefined,
                  ref: await imageRef(catalog.rows, input.imageId, null),
                },
              ],
            },
            context.progress,
            signal,
          )
          assert(made !== undefined)
          await context.save({ made })
        },
      },
      {
        name: 'release',
        run: ({ id }) => files.close(id),
      },
      {
        name: 'commit',
        async run(context) {
          const { made } = context.checkpoint() as { made: WrittenImage }
          await context.finish({ ...made }, (rows) =>
            setAvailable(rows, context.input.imageId, made, { consistency: 'crash' }, clock()),
          )
        },
      },
    ],
    async undo({ input, id, row }, reason) {
      await failAndCleanUp(setFailed(catalog.rows, input.imageId, reason, clock()), [
        files.close(id),
        jobs.abort(row.regionId as RegionId, id),
        jobs.release(row.regionId as RegionId, input.imageId),
      ])
    },
  }
}
