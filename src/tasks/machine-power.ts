import { setTimeout as delay } from 'node:timers/promises'
import { sql } from 'kysely'
import type { Catalog, Rows } from '../catalog/contract.ts'
import type { MachineDisk, MachineSpec } from '../host/contract.ts'
import { Fault } from '../image/fault.ts'
import { type MachineId, parseHash, type RegionId } from '../image/ids.ts'
import type { MachineDiskRecord, MachineState } from '../image/machine.ts'
import { machineConfigOf, machineDisksOf } from './columns.ts'
import { closeForgotten } from './forgotten-exports.ts'
import { failAndCleanUp } from './image-row.ts'
import { exportNameOf, type TaskParts } from './parts.ts'
import { referMachine } from './refs.ts'
import type { StepContext, TaskDefinition } from './runner.ts'

export interface MachineInput {
  readonly machineId: MachineId
}

export interface StopInput extends MachineInput {
  readonly how: 'graceful' | 'power'
}

const setState = (rows: Rows, id: MachineId, state: MachineState, reason = '') =>
  rows.updateTable('machine').set({ state, reason }).where('id', '=', id).execute()

async function specOf(parts: TaskParts, id: MachineId): Promise<MachineSpec> {
  const row = await machineRow(parts.catalog, id)
  return {
    id,
    name: row.name,
    cpuCount: row.cpuCount,
    memoryBytes: row.memoryBytes,
    firmware: machineConfigOf(row).firmware,
    disks: await Promise.all(
      machineDisksOf(row.disks).map((disk) => hostDiskOf(parts, row.regionId as RegionId, disk)),
    ),
  }
}

/** A disk as the host makes it: what it stands on is an export of our NBD server. */
export async function hostDiskOf(
  parts: TaskParts,
  regionId: RegionId,
  { id, sizeBytes, bus, base }: Pick<MachineDiskRecord, 'id' | 'sizeBytes' | 'bus' | 'base'>,
): Promise<MachineDisk> {
  if (base === undefined) return { id, sizeBytes, bus }
  const exported = {
    socketPath: parts.nbdSocketPath,
    exportName: exportNameOf(regionId, base.digest, base.index),
    sizeBytes: await baseBytes(parts, regionId, base),
  }
  return { id, sizeBytes, bus, base: exported }
}

async function baseBytes(parts: TaskParts, regionId: RegionId, base: { digest: string; index: number }) {
  const sizeBytes = (await parts.jobs.diskSizes(regionId, parseHash('digest', base.digest)))[base.index]
  if (sizeBytes === undefined)
    throw new Fault('corrupt', 'The image lacks a disk that the machine needs.', { subject: 'image' })
  return sizeBytes
}

async function machineRow(catalog: Catalog, id: MachineId) {
  const row = await catalog.rows.selectFrom('machine').selectAll().where('id', '=', id).executeTakeFirst()
  if (row === undefined)
    throw new Fault('absent', 'The machine was deleted meanwhile.', { subject: 'machine' })
  return row
}

/** What the machine's row says after a verb failed: what the hypervisor says, never what was hoped for. */
export async function settle(parts: TaskParts, id: MachineId, reason: string): Promise<void> {
  const power = await parts.host.power(id)
  const state = power === 'absent' ? 'failed' : power
  await setState(parts.catalog.rows, id, state, power === 'absent' ? reason : '')
}

/** Disks as overlays over the image, read lazily through our NBD server; then the guest. */
export function launchMachine(parts: TaskParts): TaskDefinition<MachineInput> {
  const { host } = parts
  return {
    kind: 'launch-machine',
    gate: 'power',
    steps: [
      {
        // Until here the image is kept by its own ref, whose end waits for launches of its machines.
        name: 'refer',
        async run({ input, row }) {
          await referMachine(parts, row.regionId as RegionId, input.machineId)
        },
      },
      {
        name: 'disks',
        async run({ input, signal }) {
          await parts.jobs.serve()
          await host.ensureMachine(await specOf(parts, input.machineId), signal)
        },
      },
      startStep(parts),
    ],
    async undo({ input, row }, reason) {
      const cleanUp = async () => {
        await host.ensureGone(input.machineId, AbortSignal.timeout(60_000))
        // In this order: as long as it has disks, what they stand on is needed.
        await parts.jobs.release(row.regionId as RegionId, input.machineId)
      }
      await failAndCleanUp(setState(parts.catalog.rows, input.machineId, 'failed', reason), [cleanUp()])
    },
  }
}

function startStep(parts: TaskParts) {
  return {
    name: 'start',
    async run(context: StepContext<MachineInput>) {
      const { input, signal } = context
      await parts.jobs.serve()
      await closeForgotten(parts, input.machineId)
      if (parts.host.traits.starts) await parts.host.ensureStarted(input.machineId, signal)
      await context.finish({}, async (rows) => {
        await setState(rows, input.machineId, parts.host.traits.starts ? 'running' : 'stopped')
      })
    },
  }
}

export function startMachine(parts: TaskParts): TaskDefinition<MachineInput> {
  return {
    kind: 'start-machine',
    gate: 'power',
    steps: [startStep(parts)],
    undo: ({ input }, reason) => settle(parts, input.machineId, reason),
  }
}

export function stopMachine(parts: TaskParts): TaskDefinition<StopInput> {
  return {
    kind: 'stop-machine',
    gate: 'power',
    steps: [
      {
        name: 'stop',
        async run(context) {
          const { input, signal } = context
          await parts.host.ensureStopped(input.machineId, input.how, signal)
          await context.finish({}, async (rows) => {
            await setState(rows, input.machineId, 'stopped')
          })
        },
      },
    ],
    undo: ({ input }, reason) => settle(parts, input.machineId, reason),
  }
}

const RESET_AGAIN_MS = 100

const isReset = async (rows: Rows, id: MachineId): Promise<boolean> =>
  (await rows
    .selectFrom('task')
    .select('id')
    .where('machineId', '=', id)
    .where('endedAtMs', 'is', null)
    .where('kind', '=', 'reset-disk')
    .executeTakeFirst()) !== undefined

/** Its row, what its captures built on, and its place in snapshot policies; its snapshots stay. */
async function forget(rows: Rows, id: MachineId): Promise<void> {
  await rows.deleteFrom('machine').where('id', '=', id).execute()
  await rows.deleteFrom('baseline').where('machineId', '=', id).execute()
  const policies = await rows
    .selectFrom('snapshotPolicy')
    .select(['id', 'machineIds'])
    .where(sql<boolean>`instr(${sql.ref('machineIds')}, ${id}) > 0`)
    .execute()
  for (const policy of policies) {
    const others = (JSON.parse(policy.machineIds) as string[]).filter((other) => other !== id)
    await rows
      .updateTable('snapshotPolicy')
      .set({ machineIds: JSON.stringify(others) })
      .where('id', '=', policy.id)
      .execute()
  }
}

export function deleteMachine(parts: TaskParts): TaskDefinition<MachineInput> {
  return {
    kind: 'delete-machine',
    gate: 'power',
    steps: [
      {
        name: 'delete',
        async run(context) {
          const { input, signal } = context
          await parts.host.ensureGone(input.machineId, signal)
          // A reset changes what the machine refers to. It ends by itself, because the host knows the machine no more.
          while (await isReset(parts.catalog.rows, input.machineId)) {
            await delay(RESET_AGAIN_MS, undefined, { signal })
          }
        },
      },
      {
        name: 'release',
        async run(context) {
          await parts.jobs.release(context.row.regionId as RegionId, context.input.machineId)
          await context.finish({}, async (rows) => {
            await forget(rows, context.input.machineId)
          })
        },
      },
    ],
    // It stays, and can be deleted again: what is left of it is still to be seen.
    undo: ({ input }, reason) =>
      setState(parts.catalog.rows, input.machineId, 'failed', reason).then(() => {}),
  }
}
