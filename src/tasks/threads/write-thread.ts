import assert from 'node:assert/strict'
import { dataBytesOf } from '../../store/baseline.ts'
import { commitImages, cutStripes } from '../../store/capture.ts'
import type { CaptureCounts } from '../../store/chunk-writer.ts'
import { newClaims } from '../../store/claims.ts'
import { newDiskIds } from '../../store/map.ts'
import { PACK_BYTES_DEFAULT } from '../../store/pack.ts'
import type { WriteJob, WrittenImage } from '../store-jobs.ts'
import { CHUNK_BYTES } from './plan-disks.ts'
import { openRegion, type RegionPlace } from './region.ts'
import { writeReport } from './report.ts'
import { captureStripes, type StripeData, type StripeNews } from './stripes.ts'
import { inThread, type StartedThread, startThread } from './thread.ts'
import { findToRead } from './to-read.ts'

/** The leader of one capture: finds what may hold data, sets the threads to work, commits. */
export interface WriteData {
  readonly job: WriteJob
  readonly place: RegionPlace
  readonly threadCount: number
}

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

inThread(
  async ({ job, place, threadCount }: WriteData, { signal, tell }): Promise<readonly WrittenImage[]> => {
    // They load their code while we find out what there is to do.
    const others = Array.from({ length: threadCount - 1 }, () =>
      startThread(new URL('./stripe-thread.ts', import.meta.url)),
    )
    try {
      return await write({ job, place, threadCount }, others, { signal, tell })
    } finally {
      await Promise.all(others.map((thread) => thread.drop()))
    }
  },
)

async function write(
  { job, place, threadCount }: WriteData,
  others: readonly StartedThread[],
  { signal, tell }: { readonly signal: AbortSignal; readonly tell: (news: unknown) => void },
): Promise<readonly WrittenImage[]> {
  const { sessionId, domain } = job
  const region = await openRegion(place)
  try {
    await region.openSession(sessionId, domain, signal)
    const disks = job.disks.map((disk) => ({
      ...disk,
      chunkBytes: CHUNK_BYTES,
      ids: newDiskIds(disk.sizeBytes, CHUNK_BYTES),
    }))
    const holds = region.holdsOf(sessionId)
    const stripes: StripeData['stripes'][number][] = []
    const diskReadBytes: number[] = []
    for (const [diskIndex, disk] of disks.entries()) {
      const { runs } = await findToRead(region, holds, domain, disk, disk, signal)
      const own = cutStripes(runs, disk.sizeBytes, CHUNK_BYTES)
      diskReadBytes.push(own.reduce((sum, stripe) => sum + stripe.dataBytes, 0))
      for (const stripe of own) stripes.push({ ...stripe, diskIndex })
    }
    const totalBytes = diskReadBytes.reduce((sum, bytes) => sum + bytes, 0)
    const workerCount = Math.max(1, Math.min(threadCount, stripes.length))
    const data: StripeData = {
      place,
      sessionId,
      domain,
      chunkBytes: CHUNK_BYTES,
      disks,
      stripes,
      next: new Int32Array(new SharedArrayBuffer(4)),
      claims: newClaims(Math.ceil(totalBytes / CHUNK_BYTES)),
      packBytes: packBytesFor(totalBytes, workerCount),
    }
    await writeStripes(data, workerCount, others, { signal, tell }, totalBytes)
    const storedBytes = region.listSessions().find((s) => s.id === sessionId)?.storedBytes ?? 0
    const { consistency } = job
    const written = await commitImages(
      region,
      sessionId,
      job.images.map(({ disks: members, config, os, parent = null, ref, report }) => ({
        ...{ domain, config, os, parent, consistency, ref },
        ...(report === undefined ? {} : { report: writeReport(report) }),
        disks: members.map((member, index) => {
          const { sizeBytes, chunkBytes, bus, ids } = diskAt(disks, member)
          return { index, sizeBytes, chunkBytes, bus, ids }
        }),
      })),
      signal,
    )
    tell({ doneBytes: totalBytes, totalBytes, movedBytes: totalBytes })
    return job.images.map((image, i): WrittenImage => {
      const diskDataBytes = image.disks.map((member) => dataBytesOf(diskAt(disks, member)))
      const readBytes = image.disks.map((member) => diskReadBytes[member] ?? 0)
      return {
        digest: written[i]?.digest as WrittenImage['digest'],
        diskDataBytes,
        dataBytes: sum(diskDataBytes),
        diskReadBytes: readBytes,
        storedBytes: i === 0 ? storedBytes : 0,
        movedBytes: sum(readBytes),
      }
    })
  } finally {
    region.close()
  }
}

const sum = (numbers: readonly number[]) => numbers.reduce((total, one) => total + one, 0)

function diskAt<Disk>(disks: readonly Disk[], member: number): Disk {
  const disk = disks[member]
  assert(disk !== undefined, 'an image names disks of its job')
  return disk
}

/** Lets the threads take the stripes; when it resolves all of them are durable. The first failure stops the others. */
async function writeStripes(
  data: StripeData,
  workerCount: number,
  others: readonly StartedThread[],
  { signal, tell }: { readonly signal: AbortSignal; readonly tell: (news: unknown) => void },
  totalBytes: number,
): Promise<void> {
  const safe = new Array<number>(workerCount).fill(0)
  const report = () => tell({ doneBytes: sum(safe), totalBytes, movedBytes: totalBytes })
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
  await Promise.allSettled(running)
  signal.throwIfAborted()
  if (together.signal.aborted) throw together.signal.reason
}
