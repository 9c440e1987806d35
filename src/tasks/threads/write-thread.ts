import { commitImage, cutStripes } from '../../store/capture.ts'
import type { CaptureCounts } from '../../store/chunk-writer.ts'
import { sumCounts } from '../../store/chunk-writer.ts'
import { newClaims } from '../../store/claims.ts'
import { newDiskIds } from '../../store/map.ts'
import { PACK_BYTES_DEFAULT } from '../../store/pack.ts'
import type { WriteJob, WrittenImage } from '../store-jobs.ts'
import { findData } from './find-data.ts'
import { openRegion, type RegionPlace } from './region.ts'
import { captureStripes, type StripeData, type StripeNews } from './stripes.ts'
import { inThread, type StartedThread, startThread } from './thread.ts'

/** The leader of one capture: finds what may hold data, sets the threads to work, commits. */
export interface WriteData {
  readonly job: WriteJob
  readonly place: RegionPlace
  readonly threadCount: number
}

export const CHUNK_BYTES = 256 * 1024
const PACK_BYTES_MIN = 4 * 1024 * 1024
const PACKS_PER_THREAD = 6
/** What the packs of all threads may be together when each is full, so that memory does not grow with the cores. */
const PACKS_BYTES_MAX = 2 * PACK_BYTES_DEFAULT

/**
 * Packs so small that each thread seals one or two before its last: hashing and writing them goes on beside the work, and
 * only the last one is waited for. Disks of some gigabytes get packs of the usual size.
 */
function packBytesFor(totalBytes: number, workerCount: number): number {
  const share = Math.ceil(totalBytes / workerCount / PACKS_PER_THREAD)
  const bytesMax = Math.min(PACK_BYTES_DEFAULT, Math.floor(PACKS_BYTES_MAX / workerCount))
  return Math.max(PACK_BYTES_MIN, Math.min(bytesMax, share))
}

inThread(async ({ job, place, threadCount }: WriteData, { signal, tell }): Promise<WrittenImage> => {
  // They load their code while we find out what there is to do.
  const others = Array.from({ length: threadCount - 1 }, () =>
    startThread(new URL('./stripe-thread.ts', import.meta.url)),
  )
  try {
    return await write({ job, place, threadCount }, others, { signal, tell })
  } finally {
    await Promise.all(others.map((thread) => thread.drop()))
  }
})

async function write(
  { job, place, threadCount }: WriteData,
  others: readonly StartedThread[],
  { signal, tell }: { readonly signal: AbortSignal; readonly tell: (news: unknown) => void },
): Promise<WrittenImage> {
  const region = await openRegion(place)
  try {
    await region.openSession(job.sessionId, job.domain, signal)
    const disks = job.disks.map((disk) => ({ ...disk, ids: newDiskIds(disk.sizeBytes, CHUNK_BYTES) }))
    const stripes: StripeData['stripes'][number][] = []
    for (const [diskIndex, disk] of disks.entries()) {
      const data = await findData(disk, signal)
      for (const stripe of cutStripes(data, disk.sizeBytes, CHUNK_BYTES))
        stripes.push({ ...stripe, diskIndex })
    }
    const totalBytes = stripes.reduce((sum, stripe) => sum + stripe.dataBytes, 0)
    const workerCount = Math.max(1, Math.min(threadCount, stripes.length))
    const data: StripeData = {
      place,
      sessionId: job.sessionId,
      domain: job.domain,
      chunkBytes: CHUNK_BYTES,
      disks,
      stripes,
      next: new Int32Array(new SharedArrayBuffer(4)),
      claims: newClaims(Math.ceil(totalBytes / CHUNK_BYTES)),
      packBytes: packBytesFor(totalBytes, workerCount),
    }
    const safe = new Array<number>(threadCount).fill(0)
    const report = () => {
      tell({ doneBytes: safe.reduce((sum, one) => sum + one, 0), totalBytes, movedBytes: totalBytes })
    }
    report()
    const together = new AbortController()
    const both = AbortSignal.any([signal, together.signal])
    const capture = (i: number): Promise<CaptureCounts> => {
      const onNews = ({ safeBytes }: StripeNews) => {
        safe[i] = safeBytes
        report()
      }
      const other = others[i - 1]
      if (other === undefined) return captureStripes(data, { signal: both, tell: onNews })
      return other.run(data, { signal: both, onNews })
    }
    // The leader, which is number 0, takes its share as well: the others are told first.
    const order = Array.from({ length: workerCount }, (_, i) => workerCount - 1 - i)
    const running = order.map((i) =>
      capture(i).catch((error: unknown) => {
        // The first failure is the one to tell; it stops the others.
        together.abort(error)
        throw error
      }),
    )
    const results = await Promise.allSettled(running)
    signal.throwIfAborted()
    if (together.signal.aborted) throw together.signal.reason
    const counts = sumCounts(results.map((r) => (r as PromiseFulfilledResult<CaptureCounts>).value))
    const storedBytes = region.listSessions().find((s) => s.id === job.sessionId)?.storedBytes ?? 0
    const { digest } = await commitImage(
      region,
      job.sessionId,
      {
        domain: job.domain,
        disks: disks.map(({ sizeBytes, bus, ids }, index) => ({
          index,
          sizeBytes,
          chunkBytes: CHUNK_BYTES,
          bus,
          ids,
        })),
        firmware: job.firmware,
        os: job.os,
        parent: job.parent ?? null,
        consistency: job.consistency,
      },
      { ref: job.ref, signal },
    )
    tell({ doneBytes: totalBytes, totalBytes, movedBytes: totalBytes })
    return { digest, dataBytes: counts.fedBytes - counts.zeroBytes, storedBytes, movedBytes: totalBytes }
  } finally {
    region.close()
  }
}
