import { sql } from 'kysely'
import type { Rows } from '../catalog/contract.ts'
import { Fault } from '../image/fault.ts'
import { type MachineId, newId, type ProjectId, type RegionId, type TaskId } from '../image/ids.ts'
import type { Image } from '../image/image.ts'
import type { MachineDiskRecord, MachineState } from '../image/machine.ts'
import { MIB, SECTOR_BYTES } from '../image/region.ts'
import type { TaskKind } from '../image/task.ts'
import type { MachineInput, StopInput } from '../tasks/machine-power.ts'
import type { App, MachineBatch, MachineFilter, NewMachine } from './contract.ts'
import {
  type AvailableSnapshot,
  findAvailableSnapshot,
  findImage,
  findMachine,
  refuseWhileCaptured,
} from './find.ts'
import type { Guard } from './guard.ts'
import type { Parts } from './parts.ts'
import { refreshMachine } from './refresh.ts'
import { machineOf } from './rows.ts'

const LIVE: readonly MachineState[] = ['creating', 'starting', 'running', 'stopping', 'stopped', 'failed']
const DISKS_MAX = 8
/** Where neither the request nor the image says how much. */
const PLAIN_SIZE = { cpuCount: 1, memoryBytes: 512 * MIB } as const

/** A snapshot is an image object of one disk. */
function baseOf(source: AvailableSnapshot | undefined): MachineDiskRecord['base'] {
  return source === undefined ? undefined : { digest: source.state.digest, index: 0 }
}

export function createMachines(parts: Parts, guard: Guard): App['machines'] {
  const { catalog, runner, host, clock } = parts

  const target = (
    input: { regionId: RegionId; projectId?: ProjectId | undefined },
    resource: string | readonly string[],
  ) => ({
    regionId: input.regionId,
    projectId: input.projectId,
    resource,
  })
  const batchTarget = (input: MachineBatch) =>
    target(
      input,
      [...new Set(input.machineIds)].map((id) => `machine/${id}`),
    )

  /** Checks every machine of a batch, sets its new state and adds its task: all in one transaction, or none. */
  async function changeAll(
    input: MachineBatch,
    projectId: ProjectId,
    change: {
      readonly kind: TaskKind
      readonly state: MachineState
      readonly from: readonly MachineState[]
      readonly verb: string
      readonly extra?: Record<string, unknown>
    },
  ): Promise<void> {
    for (const machineId of input.machineIds) {
      const machine = await findMachine(catalog.rows, { regionId: input.regionId, projectId, machineId })
      await refreshMachine(parts, machine)
    }
    const tasks = await catalog.transaction(async (rows) => {
      const made: TaskId[] = []
      for (const machineId of new Set(input.machineIds)) {
        const machine = await findMachine(rows, { regionId: input.regionId, projectId, machineId })
        if (!change.from.includes(machine.state)) {
          throw new Fault(
            'conflict',
            `The machine is ${machine.state}; to ${change.verb} it, it has to be ${change.from.join(' or ')}.`,
            { subject: 'machine', reason: change.verb },
          )
        }
        if (change.verb === 'start') await refuseWhileCaptured(rows, machineId)
        await rows.updateTable('machine').set({ state: change.state }).where('id', '=', machineId).execute()
        const task: MachineInput = { machineId, ...change.extra }
        made.push(
          await runner.add(rows, {
            kind: change.kind,
            projectId,
            regionId: input.regionId,
            machineId,
            input: task,
          }),
        )
      }
      return made
    })
    for (const id of tasks) runner.kick(id)
  }

  /** The snapshots that data disks are to be made of, at the places of those disks. */
  async function sourcesOf(rows: Rows, input: NewMachine, projectId: ProjectId) {
    const sources: (AvailableSnapshot | undefined)[] = []
    for (const { snapshotId, sizeBytes } of input.dataDisks) {
      const source =
        snapshotId === undefined
          ? undefined
          : await findAvailableSnapshot(rows, { regionId: input.regionId, projectId, snapshotId })
      if (source !== undefined && sizeBytes < source.disk.sizeBytes) {
        throw new Fault(
          'invalid',
          `The data disk is smaller than the snapshot's ${Math.ceil(source.disk.sizeBytes / MIB)} MiB. Ask for that or more.`,
          { subject: 'disk', reason: 'disk-below-image' },
        )
      }
      sources.push(source)
    }
    return sources
  }

  function disksOf(
    input: NewMachine,
    image: Image,
    sources: readonly (AvailableSnapshot | undefined)[],
  ): MachineDiskRecord[] {
    if (image.state.at !== 'available') {
      throw new Fault(
        'conflict',
        `The image is ${image.state.at}; machines can be made of it once it is available.`,
        {
          subject: 'image',
        },
      )
    }
    const { digest } = image.state
    const systemBytes = image.disks[0]?.sizeBytes ?? 0
    if (input.systemDiskBytes !== undefined && input.systemDiskBytes < systemBytes) {
      throw new Fault(
        'invalid',
        `The system disk is smaller than the image's ${Math.ceil(systemBytes / MIB)} MiB. Ask for that or more.`,
        { subject: 'disk', reason: 'disk-below-image' },
      )
    }
    const disks: MachineDiskRecord[] = [
      ...image.disks.map((disk) => ({
        id: newId('disk'),
        index: disk.index,
        sizeBytes: disk.index === 0 ? (input.systemDiskBytes ?? disk.sizeBytes) : disk.sizeBytes,
        bus: disk.bus,
        base: { digest, index: disk.index },
        category: input.systemDiskCategory,
      })),
      ...input.dataDisks.map((disk, i) => ({
        id: newId('disk'),
        index: image.disks.length + i,
        sizeBytes: disk.sizeBytes,
        bus: disk.bus ?? sources[i]?.disk.bus ?? 'virtio-blk',
        base: baseOf(sources[i]),
        category: disk.category,
      })),
    ]
    if (disks.length > DISKS_MAX || disks.some((disk) => disk.sizeBytes % SECTOR_BYTES !== 0)) {
      throw new Fault(
        'invalid',
        `A machine has at most ${DISKS_MAX} disks, each of whole sectors of 512 bytes.`,
        {
          subject: 'disk',
        },
      )
    }
    return disks
  }

  /** What every door's machine keeps, whatever its own cloud's narrower rule. Throws Fault 'invalid'. */
  function refuseBadTexts({ name, tag, typeName, labels }: NewMachine): void {
    if (/^\s|\s$|^$|\p{Cc}/u.test(name) || name.length > 256) {
      throw new Fault(
        'invalid',
        'A machine name has 1 to 256 characters, no control characters, no blanks at its ends.',
        { subject: 'name', field: 'name' },
      )
    }
    const texts = { tag, typeName, labels: labels.flatMap(({ key, value }) => [key, value]).join('') }
    for (const [field, text] of Object.entries(texts)) {
      if (/\p{Cc}/u.test(text))
        throw new Fault('invalid', `'${field}' takes text without control characters.`, { field })
    }
  }

  const query = (filter: MachineFilter, projectId: ProjectId) => {
    let q = catalog.rows
      .selectFrom('machine')
      .where('regionId', '=', filter.regionId)
      .where('projectId', '=', projectId)
      .where('state', 'in', filter.states?.filter((s) => s !== 'deleting') ?? LIVE)
    if (filter.ids !== undefined) q = q.where('id', 'in', filter.ids)
    if (filter.imageIds !== undefined) q = q.where('imageId', 'in', filter.imageIds)
    if (filter.zone !== undefined) q = q.where('zone', '=', filter.zone)
    if (filter.name !== undefined) q = q.where('name', '=', filter.name)
    if (filter.tag !== undefined) q = q.where('tag', '=', filter.tag)
    for (const { key, value } of filter.labels ?? []) {
      // Labels are JSON of our own making: a pair inside it is one run of characters, its quotes included.
      const open = `{"key":${JSON.stringify(key)},"value":`
      const run = value === undefined ? open : `${open}${JSON.stringify(value)}}`
      q = q.where(sql<boolean>`instr(labels, ${run}) > 0`)
    }
    return q
  }

  return {
    create(caller, input) {
      // What a snapshot holds is read by whoever starts a machine with it: that right may be about single snapshots.
      const snapshots = new Set(input.dataDisks.flatMap(({ snapshotId }) => snapshotId ?? []))
      const resources = ['machine/*', ...[...snapshots].map((id) => `snapshot/${id}`)]
      return guard.change(caller, 'machines.create', target(input, resources), async (projectId) => {
        refuseBadTexts(input)
        const region = parts.regions.find((r) => r.id === input.regionId)
        const zone = input.zone ?? region?.zones[0] ?? ''
        if (!region?.zones.includes(zone)) {
          throw new Fault(
            'absent',
            `Region ${input.regionId} has no zone '${zone}'. It has ${region?.zones.join(', ')}.`,
            {
              subject: 'zone',
            },
          )
        }
        const made = await catalog.transaction(async (rows) => {
          const image = await findImage(rows, { regionId: input.regionId, projectId, imageId: input.imageId })
          const sources = await sourcesOf(rows, input, projectId)
          const { config } = image
          const machineIds: MachineId[] = []
          const taskIds: TaskId[] = []
          for (let i = 1; i <= input.count; i++) {
            const id = newId('machine')
            const name =
              input.count > 1 && input.numberedNames
                ? `${input.name}-${String(i).padStart(4, '0')}`
                : input.name
            await rows
              .insertInto('machine')
              .values({
                id,
                projectId,
                regionId: input.regionId,
                zone,
                name,
                tag: input.tag,
                labels: JSON.stringify(input.labels.map(({ key, value }) => ({ key, value }))),
                state: 'creating',
                reason: '',
                cpuCount: input.cpuCount ?? config.cpuCount ?? PLAIN_SIZE.cpuCount,
                memoryBytes: input.memoryBytes ?? config.memoryBytes ?? PLAIN_SIZE.memoryBytes,
                firmware: config.firmware,
                machineType: config.machineType,
                typeName: input.typeName,
                imageId: image.id,
                imageName: image.name,
                osType: image.osType,
                osName: image.osName,
                disks: JSON.stringify(disksOf(input, image, sources)),
                details: JSON.stringify(input.details),
                createdAtMs: clock(),
              })
              .execute()
            const task: MachineInput = { machineId: id }
            taskIds.push(
              await runner.add(rows, {
                kind: 'launch-machine',
                projectId,
                regionId: input.regionId,
                machineId: id,
                input: task,
              }),
            )
            machineIds.push(id)
          }
          return { machineIds, taskIds }
        })
        for (const id of made.taskIds) runner.kick(id)
        return made
      })
    },

    async list(caller, filter, paging) {
      const projectId = await guard.admit(
        caller,
        'machines.list',
        target(filter, filter.ids?.length ? filter.ids.map((id) => `machine/${id}`) : 'machine/*'),
      )
      if (filter.ids?.length === 0 || filter.imageIds?.length === 0) return { total: 0, items: [] }
      const count = await query(filter, projectId)
        .select((q) => q.fn.countAll<number>().as('count'))
        .executeTakeFirstOrThrow()
      const rows = await query(filter, projectId)
        .selectAll()
        .orderBy('createdAtMs', 'desc')
        .orderBy('id')
        .limit(paging.limit)
        .offset(paging.offset)
        .execute()
      return {
        total: Number(count.count),
        items: await Promise.all(rows.map((row) => refreshMachine(parts, machineOf(row)))),
      }
    },

    start(caller, input) {
      return guard.change(caller, 'machines.start', batchTarget(input), async (projectId) => {
        if (!host.traits.starts) {
          throw new Fault(
            'conflict',
            'This server keeps disk files only (host.driver files); it starts no machines.',
            {
              subject: 'machine',
              reason: 'never-starts',
            },
          )
        }
        await changeAll(input, projectId, {
          kind: 'start-machine',
          state: 'starting',
          from: ['stopped'],
          verb: 'start',
        })
      })
    },

    stop(caller, input) {
      const useCase = input.how === 'power' && caller.door === 'uhost' ? 'machines.poweroff' : 'machines.stop'
      const extra: Pick<StopInput, 'how'> = { how: input.how }
      return guard.change(caller, useCase, batchTarget(input), (projectId) =>
        changeAll(input, projectId, {
          kind: 'stop-machine',
          state: 'stopping',
          from: ['running'],
          verb: 'stop',
          extra,
        }),
      )
    },

    remove(caller, input) {
      return guard.change(caller, 'machines.remove', batchTarget(input), (projectId) =>
        changeAll(input, projectId, {
          kind: 'delete-machine',
          state: 'deleting',
          from: input.stoppedOnly ? ['stopped', 'failed'] : ['running', 'stopped', 'failed'],
          verb: 'delete',
        }),
      )
    },

    async readConsole(caller, where) {
      const projectId = await guard.admit(
        caller,
        'machines.console',
        target(where, `machine/${where.machineId}`),
      )
      const machine = await findMachine(catalog.rows, { ...where, projectId })
      return host.readConsole(machine.id, where.fromByte)
    },

    writeConsole(caller, where) {
      return guard.change(
        caller,
        'machines.console',
        target(where, `machine/${where.machineId}`),
        async (projectId) => {
          const machine = await findMachine(catalog.rows, { ...where, projectId })
          await host.writeConsole(machine.id, where.bytes)
        },
      )
    },
  }
}
