import type { Rows } from '../catalog/contract.ts'
import { Fault } from '../image/fault.ts'
import type { RegionId } from '../image/ids.ts'
import type { TaskParts } from './parts.ts'

/** What uploads and copies that are under way have still to bring into the region. */
async function awaitedBytes(rows: Rows, regionId: RegionId, without?: string): Promise<number> {
  return (await uploadBytes(rows, regionId, without)) + (await copyBytes(rows, regionId, without))
}

/** Of copies that have booked their room; one that is held keeps it. */
async function copyBytes(rows: Rows, regionId: RegionId, without?: string): Promise<number> {
  let query = rows
    .selectFrom('task')
    .select(['checkpoint', 'doneBytes', 'totalBytes'])
    .where('kind', '=', 'copy-image')
    .where('regionId', '=', regionId)
    .where('endedAtMs', 'is', null)
  if (without !== undefined) query = query.where('id', '!=', without)
  const live = await query.execute()
  return live.reduce((sum, { checkpoint, doneBytes, totalBytes }) => {
    const { roomBytes = 0, made } = JSON.parse(checkpoint) as { roomBytes?: number; made?: unknown }
    const doneShare = made !== undefined ? 1 : totalBytes === 0 ? 0 : Math.min(1, doneBytes / totalBytes)
    return sum + Math.ceil(roomBytes * (1 - doneShare))
  }, 0)
}

async function uploadBytes(rows: Rows, regionId: RegionId, without?: string): Promise<number> {
  let query = rows
    .selectFrom('upload')
    .select(['reservedBytes', 'offsetBytes'])
    .where('regionId', '=', regionId)
    .where('state', '=', 'receiving')
  if (without !== undefined) query = query.where('id', '!=', without)
  const open = await query.execute()
  return open.reduce((sum, row) => sum + Math.max(0, row.reservedBytes - row.offsetBytes), 0)
}

type RoomParts = {
  readonly catalog: TaskParts['catalog']
  readonly jobs: Pick<TaskParts['jobs'], 'freeBytes'>
}

/**
 * True where the region has room for so many bytes more beside what uploads and copies have still to bring (`without` one of
 * them, by its id).
 * A region in a bucket has room. What is stored is less where there is anything to compress or to find again, so what has
 * no room might have fitted; what has may still meet a full disk, which the store survives.
 */
export async function hasRoom(
  { catalog, jobs }: RoomParts,
  regionId: RegionId,
  neededBytes: number,
  without?: string,
): Promise<boolean> {
  const freeBytes = await jobs.freeBytes(regionId)
  if (freeBytes === undefined) return true
  return neededBytes + (await awaitedBytes(catalog.rows, regionId, without)) <= freeBytes
}

/** Throws Fault 'full' 'store' reason 'room' where `hasRoom` is false. */
export async function refuseWithoutRoom(
  parts: RoomParts,
  regionId: RegionId,
  neededBytes: number,
  without?: string,
): Promise<void> {
  if (await hasRoom(parts, regionId, neededBytes, without)) return
  throw noRoom(regionId, `for ${neededBytes} bytes more`)
}

export const noRoom = (regionId: RegionId, what: string) =>
  new Fault(
    'full',
    `Region ${regionId} has no room ${what}. Delete what is not needed, or give its disk more room.`,
    { subject: 'store', reason: 'room' },
  )
