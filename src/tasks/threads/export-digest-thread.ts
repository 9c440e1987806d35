import { createHash } from 'node:crypto'
import { inOrder } from '../../store/in-order.ts'
import type { ExportJob } from '../store-jobs.ts'
import { SLAB_BYTES } from './export-runs.ts'
import { ExportSource } from './export-source.ts'
import { openRegion, type RegionPlace } from './region.ts'
import { inThread } from './thread.ts'

export interface DigestData {
  readonly place: RegionPlace
  readonly job: ExportJob
}

/** Slabs that are read while others are decoded and hashed. */
const SLABS_AHEAD = 6
const TELL_BYTES = 32 * 1024 * 1024

inThread(async ({ place, job }: DigestData, { signal, tell }) => {
  const region = await openRegion(place)
  try {
    const source = await ExportSource.open(region, job, undefined, signal)
    const totalBytes = source.layout.sizeBytes
    const hash = createHash('sha256')
    let doneBytes = 0
    const made = inOrder(offsetsOf(totalBytes), SLABS_AHEAD, (offset) =>
      source.make(offset, Math.min(SLAB_BYTES, totalBytes - offset), signal),
    )
    for await (const [, slab] of made) {
      signal.throwIfAborted()
      hash.update(slab)
      doneBytes += slab.length
      if (doneBytes % TELL_BYTES === 0 || doneBytes === totalBytes) {
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

function* offsetsOf(sizeBytes: number): Iterable<number> {
  for (let offset = 0; offset < sizeBytes; offset += SLAB_BYTES) yield offset
}
