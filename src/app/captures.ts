import type { Rows } from '../catalog/contract.ts'
import type { WantedConsistency } from '../image/consistency.ts'
import { Fault, isFault } from '../image/fault.ts'
import { type ProjectId, type SnapshotId, spellId } from '../image/ids.ts'
import { logicalBytes } from '../image/image.ts'
import type { Machine, MachineDiskRecord } from '../image/machine.ts'
import { parseDescription, parseImageName } from '../image/names.ts'
import type { CaptureInput } from '../tasks/capture-image.ts'
import type { CaptureOutput } from '../tasks/capture-outputs.ts'
import { consistencyRefusal } from '../tasks/consistency-refusal.ts'
import { insertSnapshot, refuseTooManySnapshots, setSnapshotTask } from '../tasks/new-snapshot.ts'
import type { PlanInput } from '../tasks/plan-capture.ts'
import { refuseWhenUsedUp } from '../tasks/quota.ts'
import { strictWish } from './cleaning.ts'
import type { App, Caller, CaptureWish } from './contract.ts'
import { findMachine, refuseWhileCaptured } from './find.ts'
import type { Guard } from './guard.ts'
import { insertImage, parseWord, refuseTooMany } from './new-image.ts'
import type { Parts } from './parts.ts'

/** A host that takes longer to say what can be had is not waited for: its task then says it. */
const OUTLOOK_MS_MAX = 10_000

/** Throws Fault 'conflict' 'machine' unless disks of the machine can be captured now, as far as the catalog knows. */
export async function refuseCapture(rows: Rows, machine: Machine): Promise<void> {
  if (machine.state !== 'running' && machine.state !== 'stopped') {
    throw new Fault(
      'conflict',
      `The machine is ${machine.state}. It can be captured once it is running or stopped.`,
      { subject: 'machine' },
    )
  }
  await refuseWhileCaptured(rows, machine.id)
}

/**
 * Refuses at once what the task would refuse: Fault 'conflict' 'machine' reason 'consistency' for a level that cannot be
 * had. A host that is away refuses nothing. Never inside a transaction, which others would wait for.
 */
export async function refuseConsistency(
  { catalog, host }: Pick<Parts, 'catalog' | 'host'>,
  machine: Machine,
  wanted: WantedConsistency,
): Promise<void> {
  if (wanted === 'best' || wanted === 'crash') return
  await refuseCapture(catalog.rows, machine)
  try {
    const outlook = await host.outlook(machine.id, AbortSignal.timeout(OUTLOOK_MS_MAX))
    const refusal = consistencyRefusal(wanted, outlook)
    if (refusal !== undefined) throw refusal
  } catch (error) {
    if (isFault(error, 'conflict') && error.reason === 'consistency') throw error
    if (!isFault(error) && (error as Error).name !== 'TimeoutError') throw error
  }
}

/** The name of an image that was given none: what it is of, and when. */
export function defaultImageName(machineName: string, nowMs: number): string {
  return `${machineName.slice(0, 100)}-${new Date(nowMs).toISOString().slice(0, 19).replace(/:/g, '')}`
}

const disksOf = (machine: Machine, disks: CaptureWish['disks']) =>
  machine.disks.filter((disk) => disks === 'all' || disk.index === 0)

/** The disks of which snapshots are made beside the image. Faults as of `capture`, in the door's spelling. */
function linkedDisks(
  { door }: Pick<Caller, 'door'>,
  { linkedDiskIds = [] }: Pick<CaptureWish, 'linkedDiskIds'>,
  machine: Machine,
  inImage: readonly MachineDiskRecord[],
) {
  const taken = new Set(inImage.map((disk) => disk.id))
  return linkedDiskIds.map((id) => {
    const disk = machine.disks.find((one) => one.id === id)
    const spelt = spellId('disk', id, door)
    if (disk === undefined) {
      throw new Fault('absent', `The machine has no disk ${spelt}. Look at the machine's disks.`, {
        subject: 'disk',
      })
    }
    if (taken.has(id)) {
      throw new Fault('invalid', `Disk ${spelt} is named twice, or is in the image already.`, {
        subject: 'disk',
        reason: 'disk-twice',
      })
    }
    taken.add(id)
    return disk
  })
}

/** Snapshots are for putting a disk back as it was, so they are never cleaned; beside a cleaned image they would undo it. */
function refuseSnapshotsWhenCleaned({ clean, linkedDiskIds = [] }: CaptureWish): void {
  if (clean === undefined || linkedDiskIds.length === 0) return
  throw new Fault(
    'invalid',
    'A cleaned image takes no snapshots with it: they would hold the disks with the private data. Make the snapshots on their own.',
    { subject: 'disk', reason: 'clean-with-snapshots' },
  )
}

/** Images from the disks of a machine as they are now. */
export function createCaptures(parts: Parts, guard: Guard): Pick<App['images'], 'capture' | 'plan'> {
  const { catalog, runner, clock } = parts

  const target = (input: CaptureWish) => ({
    regionId: input.regionId,
    projectId: input.projectId,
    resource: `machine/${input.machineId}`,
  })

  /** What of its machine an image has where the caller names none. */
  const nameOf = (input: CaptureWish, machine: Machine) =>
    input.name ?? defaultImageName(machine.name, clock())
  const tagOf = (input: CaptureWish, machine: Machine) =>
    input.tag ?? (machine.tag === '' ? undefined : machine.tag)

  /** The disks of a capture, and what the catalog has against it, in the words in which it would be refused. */
  async function lookAhead(
    rows: Rows,
    caller: Caller,
    input: CaptureWish & { readonly projectId: ProjectId },
    machine: Machine,
  ) {
    const disks = disksOf(machine, input.disks)
    let linked: readonly MachineDiskRecord[] = []
    const linkedCount = new Set(input.linkedDiskIds).size
    const blockers: string[] = []
    for (const refuse of [
      () => refuseSnapshotsWhenCleaned(input),
      () => refuseCapture(rows, machine),
      () => parseImageName(nameOf(input, machine)),
      () => parseDescription(input.description ?? ''),
      () => parseWord(tagOf(input, machine) ?? '', 'tag'),
      () => refuseTooMany(parts, rows, input),
      () => {
        linked = linkedDisks(caller, input, machine, disks)
      },
      () => (linkedCount > 0 ? refuseTooManySnapshots(rows, input, parts, linkedCount) : undefined),
    ]) {
      try {
        await refuse()
      } catch (error) {
        if (!isFault(error)) throw error
        blockers.push(error.message)
      }
    }
    return { disks: [...disks, ...linked], blockers }
  }

  return {
    capture(caller, input) {
      const { consistency: wanted = 'best' } = input
      return guard.change(caller, 'images.capture', target(input), async (projectId) => {
        await refuseConsistency(parts, await findMachine(catalog.rows, { ...input, projectId }), wanted)
        refuseSnapshotsWhenCleaned(input)
        const made = await catalog.transaction(async (rows) => {
          const machine = await findMachine(rows, { ...input, projectId })
          await refuseCapture(rows, machine)
          await refuseWhenUsedUp(rows, projectId)
          const disks = disksOf(machine, input.disks)
          const linked = linkedDisks(caller, input, machine, disks)
          const { firmware, machineType, cpuCount, memoryBytes } = machine
          const name = nameOf(input, machine)
          const tag = tagOf(input, machine)
          const imageId = await insertImage(parts, rows, {
            projectId,
            regionId: input.regionId,
            kind: 'custom',
            origin: 'capture',
            name,
            osType: machine.osType,
            osName: machine.osName,
            disks: disks.map(({ index, sizeBytes, bus }) => ({ index, sizeBytes, bus })),
            config: { firmware, machineType, cpuCount, memoryBytes },
            ...(input.description === undefined ? {} : { description: input.description }),
            ...(tag === undefined ? {} : { tag }),
            labels: machine.labels,
            sourceMachineId: machine.id,
            sourceImageId: machine.imageId,
          })
          const snapshotIds: SnapshotId[] = []
          for (const disk of linked) {
            const snapshot = { projectId, machine, disk, name, creator: caller.userName, imageId }
            snapshotIds.push(await insertSnapshot(rows, snapshot, parts))
          }
          const outputs: CaptureOutput[] = [{ is: 'image', id: imageId, diskIds: disks.map(({ id }) => id) }]
          for (const [i, id] of snapshotIds.entries()) {
            const disk = linked[i]
            if (disk !== undefined) outputs.push({ is: 'snapshot', id, diskIds: [disk.id] })
          }
          const clean = input.clean && strictWish(parts, input.clean)
          const task: CaptureInput = { machineId: machine.id, wanted, outputs, ...(clean && { clean }) }
          const taskId = await runner.add(rows, {
            kind: 'capture-image',
            projectId,
            regionId: input.regionId,
            imageId,
            machineId: machine.id,
            input: task,
            totalBytes: logicalBytes({ disks: [...disks, ...linked] }),
          })
          await rows.updateTable('image').set({ taskId }).where('id', '=', imageId).execute()
          await setSnapshotTask(rows, snapshotIds, taskId)
          return { imageId, taskId, snapshotIds }
        })
        runner.kick(made.taskId)
        return made
      })
    },

    plan(caller, input) {
      return guard.change(caller, 'images.plan', target(input), async (projectId) => {
        const taskId = await catalog.transaction(async (rows) => {
          const machine = await findMachine(rows, { ...input, projectId }, 'deleting too')
          const { disks, blockers } = await lookAhead(rows, caller, { ...input, projectId }, machine)
          const task: PlanInput = {
            machineId: machine.id,
            diskIds: disks.map(({ id }) => id),
            wanted: input.consistency ?? 'best',
            blockers,
            tellsSpace: caller.isRoot,
            ...(input.clean && { clean: strictWish(parts, input.clean) }),
          }
          return runner.add(rows, {
            kind: 'plan-capture',
            projectId,
            regionId: input.regionId,
            machineId: machine.id,
            input: task,
            totalBytes: logicalBytes({ disks }),
          })
        })
        runner.kick(taskId)
        return { taskId }
      })
    },
  }
}
