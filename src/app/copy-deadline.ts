import type { CopyWay } from '../image/copy.ts'
import { Fault } from '../image/fault.ts'
import type { RegionId } from '../image/ids.ts'
import { estimateCopies, lookAtTargets } from '../tasks/copy-estimate.ts'
import { refuseWithoutRoom } from '../tasks/room.ts'
import type { CopyableOrigin } from './copy-origin.ts'
import type { Parts } from './parts.ts'

/** Whoever asks waits for the answer: maps that take longer to compare are copied without a promise. */
const LOOK_MS_MAX = 30_000

const seconds = (ms: number) => `${Math.ceil(ms / 1000)} s`

/** Bytes to move of each target, in their order; null where it is not known. */
async function bytesToMove(
  { jobs }: Pick<Parts, 'jobs'>,
  origin: CopyableOrigin,
  targets: readonly { readonly regionId: RegionId; readonly way: CopyWay }[],
): Promise<readonly (number | null)[]> {
  const signal = AbortSignal.timeout(LOOK_MS_MAX)
  try {
    const looks = await lookAtTargets(jobs, origin, targets, signal)
    return looks.map((look) => (look.why === undefined ? look.moveBytes : null))
  } catch (error) {
    if (!signal.aborted) throw error
    throw new Fault(
      'unavailable',
      `What has to be moved could not be found out within ${seconds(LOOK_MS_MAX)}, so nothing can be promised. ` +
        'Ask again without a time, or for fewer targets.',
      { subject: 'store', cause: error },
    )
  }
}

/**
 * What each copy will move, where that is known, once it is likely that all are done within the time. Never in a transaction.
 * Faults: 'conflict' 'image' reason 'deadline' for an estimate that is longer; 'full' 'store' reason 'room'; 'unavailable' 'store'
 * if it could not be found out in time.
 */
export async function refuseTooLong(
  parts: Pick<Parts, 'catalog' | 'jobs' | 'copies'>,
  origin: CopyableOrigin,
  targets: readonly { readonly regionId: RegionId; readonly way: CopyWay }[],
  { withinMs, bytesPerSecond }: { readonly withinMs: number; readonly bytesPerSecond?: number | undefined },
): Promise<readonly (number | null)[]> {
  const bytes = await bytesToMove(parts, origin, targets)
  const wanted = targets.map((target, i) => ({ ...target, moveBytes: bytes[i] ?? null }))
  for (const { regionId, moveBytes } of wanted) {
    if (moveBytes !== null) await refuseWithoutRoom(parts, regionId, moveBytes)
  }
  const { rows } = parts.catalog
  const { allMs } = await estimateCopies(rows, parts.copies, origin.source, wanted, bytesPerSecond)
  if (allMs === null || allMs <= withinMs) return bytes
  const sum = bytes.reduce<number>((total, one) => total + (one ?? 0), 0)
  throw new Fault(
    'conflict',
    `The copies would take about ${seconds(allMs)}, and ${Math.floor(withinMs / 1000)} s are allowed: ${sum} bytes are to be moved. ` +
      'Allow more time, name fewer targets, or raise the limits.',
    { subject: 'image', reason: 'deadline' },
  )
}
