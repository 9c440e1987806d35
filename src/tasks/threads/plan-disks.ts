import type { DomainId } from '../../image/ids.ts'
import { newDiskIds } from '../../store/map.ts'
import type { RegionStore } from '../../store/region.ts'
import type { DiskPlan, SourceDisk } from '../store-jobs.ts'
import { chunkedBytes } from './chunked-bytes.ts'
import { findToRead } from './to-read.ts'

/** What `write` cuts disks into. */
export const CHUNK_BYTES = 256 * 1024

/** What a capture of these disks into an image of `domain` would read, and the most it would hold. */
export async function planDisks(
  region: RegionStore,
  domain: DomainId,
  disks: readonly SourceDisk[],
  signal: AbortSignal,
): Promise<(DiskPlan & { readonly runs: Awaited<ReturnType<typeof findToRead>>['runs'] })[]> {
  const plans = []
  for (const source of disks) {
    const { sizeBytes } = source
    const disk = { sizeBytes, chunkBytes: CHUNK_BYTES, ids: newDiskIds(sizeBytes, CHUNK_BYTES) }
    const { runs, knownBytes } = await findToRead(region, undefined, domain, source, disk, signal)
    const readBytes = chunkedBytes(runs, sizeBytes, CHUNK_BYTES)
    plans.push({ readBytes, dataBytes: readBytes + knownBytes, runs })
  }
  return plans
}
