import { setTimeout as delay } from 'node:timers/promises'
import type { Rows } from '../catalog/contract.ts'
import { Fault, isFault } from '../image/fault.ts'
import type { Digest, DiskId, MachineId, RegionId, SnapshotId } from '../image/ids.ts'
import type { MachineDiskRecord } from '../image/machine.ts'
import { machineDisksOf } from './columns.ts'
import { closeForgotten } from './forgotten-exports.ts'
import { hostDiskOf, settle } from './machine-power.ts'
import { digestOfExport, type TaskParts } from './parts.ts'
import { referMachine } from './refs.ts'
import type { StepContext, TaskDefinition } from './runner.ts'

export interface ResetInput {
  readonly snapshotId: SnapshotId
  readonly machineId: MachineId
  readonly diskId: DiskId
  /** Of the snapshot: an image object of this one disk. */
  readonly digest: Digest
  /** The machine was running, and its row says 'stopping' until it is not. */
  readonly stops: boolean
}

/** A host that does not answer is asked again for about a minute. */
const TRIES = 12
const WAIT_MS_MAX = 10_000

/**
 * Gives a disk of a stopped machine the content of a snapshot, read lazily from the store. Host and catalog never stay
 * apart: until the host has switched, everything is as it was; from then on the task is done to its end, also by its
 * undo. Whether it has, the host tells. What the machine stands on is kept on both sides of the switch.
 */
export function resetDisk(parts: TaskParts): TaskDefinition<ResetInput> {
  const { catalog, host, jobs } = parts

  async function findDisk(rows: Rows, { machineId, diskId }: ResetInput) {
    const row = await rows
      .selectFrom('machine')
      .select('disks')
      .where('id', '=', machineId)
      .executeTakeFirst()
    const disks = row === undefined ? [] : machineDisksOf(row.disks)
    const disk = disks.find(({ id }) => id === diskId)
    if (row === undefined) {
      throw new Fault('absent', 'The machine was deleted before its disk was reset.', { subject: 'machine' })
    }
    if (disk === undefined) {
      throw new Fault('absent', 'The machine does not have the disk that the snapshot is of any more.', {
        subject: 'disk',
      })
    }
    return { disks, disk }
  }

  /** How often the host has replaced the disk so far. Fault 'absent' if it does not have the machine or the disk. */
  async function countReplaced({ machineId, diskId }: ResetInput): Promise<number> {
    const layers = (await host.layers(machineId))[diskId]
    if (layers === undefined) {
      throw new Fault('absent', 'The host does not have the disk any more.', { subject: 'disk' })
    }
    return layers.replacedCount
  }

  /** True once the host has switched: by its own count, whatever became of its answer. */
  async function isSwitched({ input, checkpoint }: StepContext<ResetInput>): Promise<boolean> {
    const { countBefore } = checkpoint()
    return countBefore !== undefined && (await countReplaced(input)) !== countBefore
  }

  async function replace(context: StepContext<ResetInput>): Promise<void> {
    const { input, row, signal } = context
    const { disk } = await findDisk(catalog.rows, input)
    const base = { digest: input.digest, index: 0 }
    await jobs.serve()
    const wanted = await hostDiskOf(parts, row.regionId as RegionId, { ...disk, base })
    await closeForgotten(parts, input.machineId)
    if (context.checkpoint().countBefore === undefined)
      await context.save({ countBefore: await countReplaced(input) })
    if (!(await isSwitched(context))) await host.replaceDisk(input.machineId, wanted, signal)
  }

  /** After the switch: what the row says of the disk, and that no capture builds on what the disk was. */
  async function writeRow(rows: Rows, input: ResetInput): Promise<void> {
    const { disks } = await findDisk(rows, input)
    const base = { digest: input.digest, index: 0 }
    const now = disks.map((disk): MachineDiskRecord => (disk.id === input.diskId ? { ...disk, base } : disk))
    await rows
      .updateTable('machine')
      .set({ disks: JSON.stringify(now) })
      .where('id', '=', input.machineId)
      .execute()
    await rows.deleteFrom('baseline').where('diskId', '=', input.diskId).execute()
  }

  async function complete(context: StepContext<ResetInput>): Promise<void> {
    const { input, row } = context
    await catalog.transaction((rows) => writeRow(rows, input))
    await refer(row.regionId as RegionId, input.machineId)
    await context.finish({ snapshotId: input.snapshotId, diskId: input.diskId }, async () => {})
  }

  /**
   * What the machine's disks really stand on is referred to as well: a row that was restored may not know of all, and
   * its ref is made anew here.
   */
  async function refer(
    regionId: RegionId,
    machineId: MachineId,
    more: readonly Digest[] = [],
  ): Promise<void> {
    const layers = await host.layers(machineId).catch((error: unknown) => {
      if (isFault(error, 'absent')) return {}
      throw error
    })
    const real = await Promise.all(
      Object.values(layers).map(async ({ baseName }) => {
        const digest = digestOfExport(baseName, regionId)
        if (digest === undefined) return []
        // One that is lost already keeps nobody from the others.
        const isThere = await jobs.domainOf(regionId, digest).then(
          () => true,
          () => false,
        )
        return isThere ? [digest] : []
      }),
    )
    await referMachine(parts, regionId, machineId, [...new Set([...more, ...real.flat()])])
  }

  return {
    kind: 'reset-disk',
    // The removal of a machine waits for this, inside that gate.
    gate: 'none',
    steps: [
      {
        name: 'stop',
        async run({ input, signal }) {
          if (!input.stops) return
          await host.ensureStopped(input.machineId, 'graceful', signal)
          await catalog.rows
            .updateTable('machine')
            .set({ state: 'stopped' })
            .where('id', '=', input.machineId)
            .where('state', '=', 'stopping')
            .execute()
        },
      },
      {
        name: 'refer',
        run: ({ input, row }) => refer(row.regionId as RegionId, input.machineId, [input.digest]),
      },
      {
        name: 'replace',
        async run(context) {
          for (let tries = 1, waitMs = 250; ; tries++, waitMs = Math.min(2 * waitMs, WAIT_MS_MAX)) {
            try {
              return await replace(context)
            } catch (error) {
              if (!isFault(error, 'unavailable') || tries === TRIES) throw error
              await delay(waitMs, undefined, { signal: context.signal })
            }
          }
        },
      },
      { name: 'complete', run: complete },
    ],
    async undo(context, reason) {
      const { input, row } = context
      const regionId = row.regionId as RegionId
      try {
        if (await isSwitched(context)) {
          await complete(context)
          return
        }
      } catch (error) {
        // The machine is gone, or goes: nothing is left to be brought together.
        if (!isFault(error, 'absent')) throw error
      }
      const machine = await catalog.rows
        .selectFrom('machine')
        .select('state')
        .where('id', '=', input.machineId)
        .executeTakeFirst()
      if (machine === undefined) return jobs.release(regionId, input.machineId)
      if (machine.state === 'stopping') await settle(parts, input.machineId, reason)
      await refer(regionId, input.machineId)
    },
  }
}
