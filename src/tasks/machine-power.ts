import type { Catalog, Rows } from '../catalog/contract.ts'
import type { MachineSpec } from '../host/contract.ts'
import { Fault } from '../image/fault.ts'
import { type MachineId, parseHash, type RegionId } from '../image/ids.ts'
import type { MachineDiskRecord, MachineState } from '../image/machine.ts'
import { failAndCleanUp } from './image-row.ts'
import { exportNameOf, type TaskParts } from './parts.ts'
import { machineRef } from './refs.ts'
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
  const disks = JSON.parse(row.disks) as MachineDiskRecord[]
  return {
    id,
    name: row.name,
    cpuCount: row.cpuCount,
    memoryBytes: row.memoryBytes,
    firmware: 'bios',
    disks: await Promise.all(
      disks.map(async (disk) => ({
        id: disk.id,
        sizeBytes: disk.sizeBytes,
        bus: 'virtio-blk' as const,
        ...(disk.base === undefined
          ? {}
          : {
              base: {
                socketPath: parts.nbdSocketPath,
                exportName: exportNameOf(row.regionId as RegionId, disk.base.digest, disk.base.index),
                sizeBytes: await baseBytes(parts, row.regionId as RegionId, disk.base),
              },
            }),
      })),
    ),
  }
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
async function settle(parts: TaskParts, id: MachineId, reason: string): Promise<void> {
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
          const ref = await machineRef(parts.catalog.rows, input.machineId)
          if (ref !== undefined) await parts.jobs.refer(row.regionId as RegionId, ref)
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

export function deleteMachine(parts: TaskParts): TaskDefinition<MachineInput> {
  return {
    kind: 'delete-machine',
    gate: 'power',
    steps: [
      {
        name: 'delete',
        async run(context) {
          await parts.host.ensureGone(context.input.machineId, context.signal)
        },
      },
      {
        name: 'release',
        async run(context) {
          await parts.jobs.release(context.row.regionId as RegionId, context.input.machineId)
          await context.finish({}, async (rows) => {
            await rows.deleteFrom('machine').where('id', '=', context.input.machineId).execute()
          })
        },
      },
    ],
    // It stays, and can be deleted again: what is left of it is still to be seen.
    undo: ({ input }, reason) =>
      setState(parts.catalog.rows, input.machineId, 'failed', reason).then(() => {}),
  }
}
