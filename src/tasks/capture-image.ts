import { setTimeout as delay } from 'node:timers/promises'
import { Fault, isFault } from '../image/fault.ts'
import type { Digest, DiskId, ImageId, MachineId, ProjectId, RegionId } from '../image/ids.ts'
import type { OsType } from '../image/image.ts'
import type { MachineDiskRecord } from '../image/machine.ts'
import { domainOf, failAndCleanUp, osOf, setAvailable, setFailed } from './image-row.ts'
import { explainLostDisk, readPatiently } from './lost-disk.ts'
import type { TaskParts } from './parts.ts'
import { reserve } from './quota.ts'
import { imageRef } from './refs.ts'
import type { StepContext, TaskDefinition } from './runner.ts'
import type { WriteJob, WrittenImage } from './store-jobs.ts'

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

  /** The disks at the moment of the capture; asked again, the same ones as long as the host keeps that moment. */
  async function openDisks({ input, id, signal }: StepContext<CaptureInput>) {
    const machine = await catalog.rows
      .selectFrom('machine')
      .select(['disks', 'osType', 'osName'])
      .where('id', '=', input.machineId)
      .executeTakeFirst()
    if (machine === undefined) {
      throw new Fault('absent', 'The machine was deleted before its disks were read.', { subject: 'machine' })
    }
    await jobs.serve()
    const wasRunning = (await host.power(input.machineId)) === 'running'
    const exports = await host.openExports(input.machineId, id, signal)
    const disks = input.diskIds.map((diskId) => {
      const disk = exports.disks.find((d) => d.id === diskId)
      if (disk === undefined) {
        throw new Fault('unavailable', `The host does not show disk ${diskId}.`, { subject: 'host' })
      }
      const { sizeBytes, socketPath, exportName, mapName } = disk
      return { sizeBytes, socketPath, exportName, mapName, bus: 'virtio-blk' as const }
    })
    return { machine, wasRunning, exports, disks }
  }

  /** A disk that ends or fails is told in the words of the machine behind it. */
  const readDisks = <Result>(
    { input, signal }: StepContext<CaptureInput>,
    wasRunning: boolean,
    read: () => Promise<Result>,
  ) =>
    readPatiently(read, signal).catch(async (error: unknown) => {
      throw await explainLostDisk(parts, input.machineId, wasRunning, error)
    })

  return {
    kind: 'capture-image',
    gate: 'bytes',
    steps: [
      {
        name: 'reserve',
        async run(context) {
          const { isReserved, made } = context.checkpoint()
          if (isReserved === true || made !== undefined) return
          const { disks, wasRunning } = await openDisks(context)
          const measure = () => jobs.measure(disks, context.signal)
          const wantedBytes = await readDisks(context, wasRunning, measure)
          await catalog.transaction((rows) => reserve(rows, context.input.imageId, wantedBytes))
          await context.save({ isReserved: true })
        },
      },
      {
        name: 'read',
        async run(context) {
          const { input, id, row, signal } = context
          if (context.checkpoint().made !== undefined) return
          const { machine, wasRunning, exports, disks } = await openDisks(context)
          const records = JSON.parse(machine.disks) as MachineDiskRecord[]
          const base = records.find((disk) => disk.index === 0)?.base?.digest
          const job: WriteJob = {
            regionId: row.regionId as RegionId,
            sessionId: id,
            domain: domainOf('custom', row.projectId as ProjectId),
            disks,
            firmware: 'bios',
            os: osOf(machine.osType as OsType, machine.osName),
            parent: base as Digest | undefined,
            consistency: exports.consistency,
            ref: await imageRef(catalog.rows, input.imageId, null),
          }
          const read = () => jobs.write(job, context.progress, signal)
          const made = await readDisks(context, wasRunning, read)
          const { pausedMs, consistency } = exports
          await context.save({ made, pausedMs, consistency })
        },
      },
      {
        name: 'release',
        // Before the image is there for all: whoever waits for it may want the machine next.
        async run({ input, id, signal, save }) {
          await save({ isReleased: await tryAgain(() => host.closeExports(input.machineId, id), signal) })
        },
      },
      {
        name: 'commit',
        async run(context) {
          const { made, ...known } = context.checkpoint() as { made: WrittenImage }
          await context.finish({ ...made, ...known }, (rows) =>
            setAvailable(rows, context.input.imageId, made, clock()),
          )
        },
      },
    ],
    async undo({ input, id, row }, reason) {
      // A host that does not answer keeps neither the store from its room nor the user from the reason.
      await failAndCleanUp(setFailed(catalog.rows, input.imageId, reason, clock()), [
        host.closeExports(input.machineId, id),
        jobs.abort(row.regionId as RegionId, id),
        // The store may have committed before the failure; a collection then takes the image.
        jobs.release(row.regionId as RegionId, input.imageId),
      ])
    },
  }
}

const RELEASE_TRIES = 12
const RELEASE_WAIT_MS_MAX = 10_000

/**
 * False if a host that does not answer had its tries, for about two minutes: the image is whole, and what is left on
 * the machine goes when its guest does. Throws what is not 'unavailable', or the signal's reason.
 */
async function tryAgain(work: () => Promise<void>, signal: AbortSignal): Promise<boolean> {
  let waitMs = 250
  for (let tries = 0; tries < RELEASE_TRIES; tries++) {
    try {
      await work()
      return true
    } catch (error) {
      if (!isFault(error, 'unavailable')) throw error
      await delay(waitMs, undefined, { signal })
      waitMs = Math.min(2 * waitMs, RELEASE_WAIT_MS_MAX)
    }
  }
  return false
}
