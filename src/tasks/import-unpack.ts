import { isFault } from '../image/fault.ts'
import type { RegionId } from '../image/ids.ts'
import { chargeMaking } from './import-charge.ts'
import { blobJob, checkpointOf, dropReceived, type ImportInput, receivedPlace } from './import-sources.ts'
import type { TaskParts } from './parts.ts'
import { refuseWithoutRoom } from './room.ts'
import type { StepContext } from './runner.ts'

/** So much is charged ahead of what has come out: less where the quota is nearly used up. */
const AHEAD_BYTES = [1024 ** 3, 32 * 1024 ** 2, 0]

/**
 * What is in a packed file, as a blob of its own, straight into chunks; nothing is done for a file that is not packed.
 * What comes out is charged to the project before it is written, beside the packed file: how much it will be, no packing
 * tells for certain. Afterwards what came is not needed any more, and does not lie there while the rest is done.
 */
export async function unpackFile(parts: TaskParts, context: StepContext<ImportInput>): Promise<void> {
  const { jobs, intake } = parts
  const { input, row, signal } = context
  const { made, unpacked } = context.checkpoint()
  if (made !== undefined) return
  if (unpacked !== undefined) return dropReceived(parts, context)
  const place = receivedPlace(parts, context)
  const options = { declared: input.declared, virtualBytesMax: intake.diskBytesMax }
  const inspection = await context.within('files', async () => {
    const file = await jobs.openFile(place, options, signal)
    await file.close()
    return file.inspection
  })
  if (inspection.is !== 'packed') return
  const { packing } = inspection
  const job = blobJob(context, 'unpacked')
  // What an earlier run has left of it.
  await jobs.abort(row.regionId as RegionId, job.sessionId)
  const limits = { sizeBytesMax: intake.diskBytesMax, ratioMax: intake.ratioMax }
  const fetchedBytes = checkpointOf(context).received?.sizeBytes ?? 0
  let allowedBytes = 0
  await context.within('bytes', async () => {
    const map = await jobs.unpack(
      ...([place, packing, limits, job] as const),
      {
        onBytes: ({ doneBytes, totalBytes }) =>
          context.progress({
            doneBytes: fetchedBytes + doneBytes,
            totalBytes: fetchedBytes + 2 * totalBytes,
          }),
        async allow(dataBytes) {
          allowedBytes = await allowMore(parts, context, dataBytes, allowedBytes)
          return allowedBytes
        },
      },
      signal,
    )
    const unpackedBytes = Math.min(map.sizeBytes, allowedBytes)
    await context.save({ unpacked: map, unpackedBytes, packing })
    await dropReceived(parts, context)
  })
}

/**
 * Charges the image for what has come out and some more, and looks whether there is room for what was not allowed before;
 * answers how much may come. Faults 'full' 'project', 'full' 'store'.
 */
async function allowMore(
  parts: TaskParts,
  context: StepContext<ImportInput>,
  dataBytes: number,
  allowedBytes: number,
): Promise<number> {
  const regionId = context.row.regionId as RegionId
  for (const aheadBytes of AHEAD_BYTES) {
    const wantedBytes = dataBytes + aheadBytes
    try {
      await refuseWithoutRoom(parts, regionId, wantedBytes - allowedBytes)
      await chargeMaking(parts, context, wantedBytes)
      return wantedBytes
    } catch (error) {
      if (!isFault(error, 'full') || aheadBytes === 0) throw error
    }
  }
  throw new Error('the last try throws or answers')
}
