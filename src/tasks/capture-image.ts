import { Fault } from '../image/fault.ts'
import type { Digest, DiskId, ImageId, MachineId, ProjectId, RegionId } from '../image/ids.ts'
import type { OsType } from '../image/image.ts'
import type { MachineDiskRecord } from '../image/machine.ts'
import { domainOf, osOf, setAvailable, setFailed } from './image-row.ts'
import type { TaskParts } from './parts.ts'
import type { TaskDefinition } from './runner.ts'
import type { WrittenImage } from './store-jobs.ts'

export interface CaptureInput {
  readonly imageId: ImageId
  readonly machineId: MachineId
  /** The disks that go into the image, in their order. */
  readonly diskIds: readonly DiskId[]
}

/**
 * From a machine's disks at one moment to an image: the host exports them read-only, the store takes in what may
 * hold data, one commit makes the image available. A stopped machine cannot be started meanwhile.
 */
export function captureImage(parts: TaskParts): TaskDefinition<CaptureInput> {
  const { catalog, host, jobs, clock } = parts
  return {
    kind: 'capture-image',
    gate: 'bytes',
    steps: [
      {
        name: 'read',
        async run(context) {
          const { input, id, row, signal } = context
          if (context.checkpoint().made !== undefined) return
          const machine = await catalog.rows
            .selectFrom('machine')
            .select(['disks', 'osType', 'osName'])
            .where('id', '=', input.machineId)
            .executeTakeFirst()
          if (machine === undefined) {
            throw new Fault('absent', 'The machine was deleted before its disks were read.', {
              subject: 'machine',
            })
          }
          const records = JSON.parse(machine.disks) as MachineDiskRecord[]
          await jobs.serve()
          const exports = await host.openExports(input.machineId, id, signal)
          const disks = input.diskIds.map((diskId) => {
            const disk = exports.disks.find((d) => d.id === diskId)
            if (disk === undefined) {
              throw new Fault('unavailable', `The host does not show disk ${diskId}.`, { subject: 'host' })
            }
            const { sizeBytes, socketPath, exportName, mapName } = disk
            return { sizeBytes, socketPath, exportName, mapName, bus: 'virtio-blk' as const }
          })
          const base = records.find((disk) => disk.index === 0)?.base?.digest
          const made = await jobs.write(
            {
              regionId: row.regionId as RegionId,
              sessionId: id,
              domain: domainOf('custom', row.projectId as ProjectId),
              disks,
              firmware: 'bios',
              os: osOf(machine.osType as OsType, machine.osName),
              parent: base as Digest | undefined,
              consistency: exports.consistency,
            },
            context.progress,
            signal,
          )
          await context.save({ made, pausedMs: exports.pausedMs, consistency: exports.consistency })
        },
      },
      {
        name: 'release',
        run: ({ input, id }) => host.closeExports(input.machineId, id),
      },
      {
        name: 'commit',
        async run(context) {
          const { made, pausedMs, consistency } = context.checkpoint() as {
            made: WrittenImage
            pausedMs: number
            consistency: string
          }
          await context.finish({ ...made, pausedMs, consistency }, (rows) =>
            setAvailable(rows, context.input.imageId, made, clock()),
          )
        },
      },
    ],
    async undo({ input, id, row }, reason) {
      await host.closeExports(input.machineId, id)
      await jobs.abort(row.regionId as RegionId, id)
      await setFailed(catalog.rows, input.imageId, reason, clock())
    },
  }
}
