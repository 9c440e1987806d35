import { createHash } from 'node:crypto'
import { inOrder } from '../../store/in-order.ts'
import type { ExportJob } from '../store-jobs.ts'
import { cutAtRuns, SLAB_BYTES } from './export-runs.ts'
import { ExportSource } from './export-source.ts'
import { openRegion, type RegionPlace } from './region.ts'
import { inThread } from './thread.ts'

export interface DigestData {
  readonly place: RegionPlace
  readonly job: ExportJob
}

/** Slabs that are read while others are decoded and hashed. */
const SLABS_AHEAD = 3
const TELL_BYTES = 32 * 1024 * 1024

inThread(async ({ place, job }: DigestData, { signal, tell }) => {
  const region = await openRegion(place)
  try {
    const source = await ExportSource.open(region, job, undefined, signal)
    const totalBytes = source.layout.sizeBytes
    const hash = createHash('sha256')
    let doneBytes = 0
    let toldBytes = 0
    const items = cutAtRuns(source.zeroRuns, 0, totalBytes, SLAB_BYTES, source.cutsAt)
    for await (const [, slab] of inOrder(items, SLABS_AHEAD, (item) => source.look(item, signal))) {
      signal.throwIfAborted()
      hash.update(slab)
      doneBytes += slab.length
      if (doneBytes - toldBytes >= TELL_BYTES || doneBytes === totalBytes) {
        toldBytes = doneBytes
        tell({ doneBytes, totalBytes, movedBytes: 0 })
        // Zeroes need no read to wait for: this is where we hear that we are to stop.
        await new Promise(setImmediate)
      }
    }
    return { sizeBytes: totalBytes, sha256: hash.digest('hex') }
  } finally {
    region.close()
  }
})
