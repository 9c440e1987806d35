import type { Extent } from '../../disk/contract.ts'
import { dataOfEither } from '../../disk/extents.ts'
import { openNbd } from '../../disk/nbd-client.ts'
import { SECTOR_BYTES } from '../../image/region.ts'
import type { SourceDisk } from '../store-jobs.ts'

/** Where a disk may hold data. */
export async function findData(disk: SourceDisk, signal: AbortSignal): Promise<Extent[]> {
  const isOneExport = disk.mapName === disk.exportName
  const map = await openNbd({ ...disk, exportName: disk.mapName }, { signal })
  try {
    const first = await map.extents(0, disk.sizeBytes, signal)
    if (isOneExport) return dataOfEither(first, [])
    // A running guest may write between the two looks that make up one answer. What it writes over is kept before
    // it does, so that the second answer calls data what the first one missed.
    const second = await map.extents(0, disk.sizeBytes, signal)
    const data = await openNbd(disk, { signal })
    try {
      // Fails if the snapshot broke meanwhile, and with it the map.
      await data.read(0, SECTOR_BYTES, signal)
    } finally {
      await data.close()
    }
    return dataOfEither(first, second)
  } finally {
    await map.close()
  }
}

/** Bytes of the chunks that these runs touch: the most that is not zero, as an image counts it. */
export function chunkedBytes(extents: readonly Extent[], sizeBytes: number, chunkBytes: number): number {
  let bytes = 0
  let counted = 0
  for (const { offset, lengthBytes } of extents) {
    const start = Math.max(counted, Math.floor(offset / chunkBytes) * chunkBytes)
    const end = Math.min(sizeBytes, Math.ceil((offset + lengthBytes) / chunkBytes) * chunkBytes)
    if (end <= start) continue
    bytes += end - start
    counted = end
  }
  return bytes
}
