import type { Rows } from '../catalog/contract.ts'
import { CONSISTENCIES, type Consistency } from '../image/consistency.ts'
import { Fault } from '../image/fault.ts'
import type { ProjectId, SnapshotId } from '../image/ids.ts'
import type { Machine } from '../image/machine.ts'
import type { Snapshot } from '../image/snapshot.ts'
import type { CleanInput } from '../tasks/clean-image.ts'
import { machineDisksOf } from '../tasks/columns.ts'
import type { ComposeInput } from '../tasks/compose-image.ts'
import { refuseAboveQuota } from '../tasks/quota.ts'
import { defaultImageName } from './captures.ts'
import { strictWish } from './cleaning.ts'
import type { App } from './contract.ts'
import { type AvailableSnapshot, findAvailableSnapshot } from './find.ts'
import type { Guard } from './guard.ts'
import { insertImage } from './new-image.ts'
import type { Parts } from './parts.ts'

type Input = Parameters<App['images']['compose']>[1]

const contradiction = (message: string, reason: string) =>
  new Fault('invalid', message, { subject: 'snapshot', reason })

/** The machine that the snapshots are of, as far as it is still there. */
async function findSource(rows: Rows, { machineId }: Snapshot) {
  const row = await rows
    .selectFrom('machine')
    .select(['disks', 'imageId', 'tag', 'labels'])
    .where('id', '=', machineId)
    .executeTakeFirst()
  return row === undefined
    ? undefined
    : {
        ...{ disks: machineDisksOf(row.disks), imageId: row.imageId as Machine['imageId'] },
        ...{ tag: row.tag, labels: JSON.parse(row.labels) as Machine['labels'] },
      }
}

/** The snapshots as the disks of one image, the system disk first; `machineDisks` undefined where the machine is gone. Throws Fault 'invalid' 'snapshot' for what contradicts. */
function orderDisks(
  input: Input,
  snapshots: readonly AvailableSnapshot[],
  machineDisks: Machine['disks'] | undefined,
): readonly [AvailableSnapshot, ...AvailableSnapshot[]] {
  const [first] = snapshots
  const machineId = input.machineId ?? first?.machineId
  const stranger = snapshots.find((one) => one.machineId !== machineId)
  if (stranger !== undefined) {
    throw contradiction(
      `Snapshot '${stranger.name}' is of another machine, '${stranger.machineName}'. Name snapshots of one machine.`,
      'several-machines',
    )
  }
  const ofWrongKind = (ids: readonly SnapshotId[] | undefined, isSystem: boolean) =>
    snapshots.find((one) => ids?.includes(one.id) && (one.disk.index === 0) !== isSystem)
  const notSystem = ofWrongKind(input.systemSnapshotIds, true)
  if (notSystem !== undefined) {
    throw contradiction(
      `Snapshot '${notSystem.name}' is of a data disk, not of the system disk.`,
      'not-system',
    )
  }
  const notData = ofWrongKind(input.dataSnapshotIds, false)
  if (notData !== undefined) {
    throw contradiction(`Snapshot '${notData.name}' is of the system disk, not of a data disk.`, 'not-data')
  }
  const [system, ...others] = [...snapshots].sort((a, b) => a.disk.index - b.disk.index)
  for (const [i, one] of others.entries()) {
    if (one.diskId !== (i === 0 ? system : others[i - 1])?.diskId) continue
    throw contradiction(
      `Two of the snapshots are of the same disk (number ${one.disk.index}). Name one for each disk.`,
      'disk-twice',
    )
  }
  if (system === undefined || system.disk.index !== 0) {
    throw contradiction('An image needs a system disk: name a snapshot of it too.', 'no-system-disk')
  }
  if (input.disks === 'system' && others.length > 0) {
    throw contradiction(
      'The image is to have the system disk alone, and a snapshot of a data disk is named.',
      'not-system',
    )
  }
  if (input.disks === 'all' && machineDisks === undefined) {
    throw contradiction(
      'The image is to have all disks of the machine, but the machine is gone, so its disks are not known; ' +
        'leave out DiskType (in our own API: disks), and it has those that are named.',
      'disk-missing',
    )
  }
  const missing = machineDisks?.find((disk) => !snapshots.some((one) => one.diskId === disk.id))
  if (input.disks === 'all' && missing !== undefined) {
    throw contradiction(
      `The image is to have all disks of the machine, and no snapshot of disk number ${missing.index} is named.`,
      'disk-missing',
    )
  }
  return [system, ...others]
}

/**
 * What they are worth together: the least of them if one capture made them all. Disks of different moments do not fit each
 * other better than after a power cut, whatever each is worth alone.
 */
async function togetherWorth(rows: Rows, snapshots: readonly Snapshot[]): Promise<Consistency> {
  const ids = snapshots.map(({ id }) => id)
  const made = await rows.selectFrom('snapshot').select('taskId').where('id', 'in', ids).execute()
  const [first] = made
  const isOneMoment = made.every(({ taskId }) => taskId !== null && taskId === first?.taskId)
  if (snapshots.length > 1 && !isOneMoment) return 'crash'
  return (
    CONSISTENCIES.find((level) => snapshots.some(({ consistency }) => (consistency ?? 'crash') === level)) ??
    'crash'
  )
}

/** Images from what snapshots hold already. */
export function createCompose(parts: Parts, guard: Guard): Pick<App['images'], 'compose'> {
  const { catalog, runner, clock } = parts

  async function insert(rows: Rows, input: Input, projectId: ProjectId) {
    const named: AvailableSnapshot[] = []
    for (const snapshotId of input.snapshotIds) {
      named.push(await findAvailableSnapshot(rows, { regionId: input.regionId, projectId, snapshotId }))
    }
    const source = named[0] === undefined ? undefined : await findSource(rows, named[0])
    const snapshots = orderDisks(input, named, source?.disks)
    const [system] = snapshots
    const dataBytes = snapshots.reduce((sum, one) => sum + one.dataBytes, 0)
    await refuseAboveQuota(rows, projectId, dataBytes)
    const consistency = await togetherWorth(rows, snapshots)
    const tag = input.tag ?? (source?.tag || undefined)
    const imageId = await insertImage(parts, rows, {
      projectId,
      regionId: input.regionId,
      kind: 'custom',
      origin: 'compose',
      name: input.name ?? defaultImageName(system.machineName, clock()),
      osType: system.osType,
      osName: system.osName,
      disks: snapshots.map(({ disk }, index) => ({ ...disk, index })),
      config: system.config,
      consistency,
      ...(input.description === undefined ? {} : { description: input.description }),
      ...(tag === undefined ? {} : { tag }),
      labels: source?.labels ?? [],
      sourceMachineId: system.machineId,
      sourceImageId: source?.imageId,
      reservedBytes: dataBytes,
    })
    const task: ComposeInput & Partial<Pick<CleanInput, 'clean' | 'parent'>> = {
      imageId,
      // A snapshot is an image object of one disk.
      disks: snapshots.map(({ state, disk, ...one }) => {
        return { digest: state.digest, diskIndex: 0, bus: disk.bus, dataBytes: one.dataBytes }
      }),
      consistency,
      ...(input.clean && { clean: strictWish(parts, input.clean), parent: system.state.digest }),
    }
    const taskId = await runner.add(rows, {
      kind: input.clean === undefined ? 'compose-image' : 'clean-image',
      projectId,
      regionId: input.regionId,
      imageId,
      input: task,
    })
    await rows.updateTable('image').set({ taskId }).where('id', '=', imageId).execute()
    return { imageId, taskId }
  }

  return {
    compose(caller, input) {
      const target = {
        regionId: input.regionId,
        projectId: input.projectId,
        resource:
          input.snapshotIds.length === 0 ? 'snapshot/*' : input.snapshotIds.map((id) => `snapshot/${id}`),
      }
      return guard.change(caller, 'images.compose', target, async (projectId) => {
        const made = await catalog.transaction((rows) => insert(rows, input, projectId))
        runner.kick(made.taskId)
        return made
      })
    },
  }
}
