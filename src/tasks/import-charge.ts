import type { RegionId } from '../image/ids.ts'
import { checkpointOf, type ImportInput } from './import-sources.ts'
import type { TaskParts } from './parts.ts'
import { reserve } from './quota.ts'
import { hasRoom, noRoom } from './room.ts'
import type { StepContext } from './runner.ts'

type Context = StepContext<ImportInput>

/** What of an import lies in the region until its end: the file as it came, or what was unpacked of it. Files of the import folder lie elsewhere. */
function lyingBytes(context: Context): number {
  const { received, unpacked, unpackedBytes } = checkpointOf(context)
  if (unpacked !== undefined) return unpackedBytes ?? unpacked.sizeBytes
  const { from } = context.input
  return from.is === 'upload' ? from.map.sizeBytes : (received?.sizeBytes ?? 0)
}

/**
 * Charges the image for what is being made of its file, beside what lies there of it. Once it is available it is charged by
 * what it holds alone. Faults as of `reserve`.
 */
export async function chargeMaking(
  { catalog }: Pick<TaskParts, 'catalog'>,
  context: Context,
  makingBytes: number,
): Promise<void> {
  const charged = { is: 'image', id: context.input.imageId } as const
  await catalog.transaction((rows) => reserve(rows, charged, lyingBytes(context) + makingBytes))
}

/** Disks of systems are stored in a third to a half of their bytes; hardly any in less than this, unless they are there already. */
const STORED_SHARE = 1 / 4

/**
 * Throws Fault 'full' 'store' where the region has no room for even a quarter of the bytes of the disk that are not known to be
 * zero: better refused now than after hours. What has room for so much may still meet a full disk, which the store survives. Asked
 * once for each import: what was written before a crash is no reason to refuse the rest.
 */
export async function refuseUnreadable(
  parts: Pick<TaskParts, 'catalog' | 'jobs'>,
  context: Context,
  measuredBytes: number,
): Promise<void> {
  if (checkpointOf(context).hasRoom === true) return
  const regionId = context.row.regionId as RegionId
  if (!(await hasRoom(parts, regionId, Math.ceil(measuredBytes * STORED_SHARE)))) {
    throw noRoom(regionId, `for the ${measuredBytes} bytes that are not zero in this file's disks`)
  }
  await context.save({ hasRoom: true })
}
