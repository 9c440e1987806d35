import type { Rows } from '../catalog/contract.ts'
import { Fault } from '../image/fault.ts'
import type { ImageId, MachineId, ProjectId, RegionId } from '../image/ids.ts'
import type { Image } from '../image/image.ts'
import type { Machine } from '../image/machine.ts'
import { imageOf, machineOf } from './rows.ts'

/** An image that the project may see in that region: its own, or a base image. Fault 'absent' 'image'. */
export async function findImage(
  rows: Rows,
  where: { regionId: RegionId; projectId: ProjectId; imageId: ImageId },
): Promise<Image> {
  const row = await rows
    .selectFrom('image')
    .selectAll()
    .where('id', '=', where.imageId)
    .where('regionId', '=', where.regionId)
    .where((is) => is.or([is('projectId', '=', where.projectId), is('kind', '=', 'base')]))
    .executeTakeFirst()
  if (row === undefined) {
    throw new Fault('absent', `There is no such image in region ${where.regionId}. List the images there.`, {
      subject: 'image',
    })
  }
  return imageOf(row)
}

/** A machine of the project in that region that is not being deleted. Fault 'absent' 'machine'. */
export async function findMachine(
  rows: Rows,
  where: { regionId: RegionId; projectId: ProjectId; machineId: MachineId },
): Promise<Machine> {
  const row = await rows
    .selectFrom('machine')
    .selectAll()
    .where('id', '=', where.machineId)
    .where('regionId', '=', where.regionId)
    .where('projectId', '=', where.projectId)
    .executeTakeFirst()
  if (row === undefined) {
    throw new Fault(
      'absent',
      `There is no such machine in region ${where.regionId}. List the machines there.`,
      {
        subject: 'machine',
      },
    )
  }
  if (row.state === 'deleting') {
    throw new Fault('conflict', 'The machine is being deleted; nothing more can be done with it.', {
      subject: 'machine',
    })
  }
  return machineOf(row)
}

/** One capture of a machine at a time, and no start under one. Fault 'conflict' 'machine' reason 'capturing'. */
export async function refuseWhileCaptured(rows: Rows, machineId: MachineId): Promise<void> {
  const live = await rows
    .selectFrom('task')
    .select('id')
    .where('machineId', '=', machineId)
    .where('kind', '=', 'capture-image')
    .where('endedAtMs', 'is', null)
    .executeTakeFirst()
  if (live === undefined) return
  throw new Fault(
    'conflict',
    'An image is being made of the machine. Wait until that has ended, or cancel it.',
    {
      subject: 'machine',
      reason: 'capturing',
    },
  )
}
