import type { ByteSource, FormatInspector, InspectedDisk, InspectionOptions } from './contract.ts'
import { walkQcow2Bitmaps } from './qcow2-bitmaps.ts'
import { walkQcow2Clusters } from './qcow2-clusters.ts'
import { readQcow2Extensions } from './qcow2-extensions.ts'
import { Qcow2File } from './qcow2-file.ts'
import { QCOW2_MAGIC, type Qcow2Header, readQcow2Header } from './qcow2-header.ts'
import { walkQcow2Refcounts } from './qcow2-refcounts.ts'
import { walkQcow2Snapshots } from './qcow2-snapshots.ts'
import { readUpTo } from './source.ts'

/** Any version, so that those we do not take are refused as what they are. */
export const qcow2Inspector: FormatInspector & { readonly format: 'qcow2' } = {
  format: 'qcow2',
  matches: async (source, signal) => {
    const head = await readUpTo(source, 0, 4, signal)
    return head.length === 4 && head.readUInt32BE(0) === QCOW2_MAGIC
  },
}

/**
 * One disk in one file, all of whose tables lead to places inside that file which belong to nothing else. Memory: the map
 * of used clusters (32 MiB at most), a batch of L2 offsets (8 MiB) and a window.
 */
export async function inspectQcow2(source: ByteSource, options: InspectionOptions): Promise<InspectedDisk> {
  const { signal } = options
  const header = await readQcow2Header(source, options)
  const { bitmaps } = await readQcow2Extensions(source, header, signal)
  const file = new Qcow2File(source, header, signal)
  file.takeTable('Its header', 0, header.clusterBytes)
  await walkQcow2Refcounts(file)
  await walkQcow2Snapshots(file, source, signal)
  // Without the bit, whoever wrote the file last knew nothing of bitmaps, and what is left of them is not looked at.
  if (bitmaps !== undefined && header.hasBitmaps) await walkQcow2Bitmaps(file, source, bitmaps, signal)
  const { hasCompressed } = await walkQcow2Clusters(file)
  return {
    format: 'qcow2',
    offset: 0,
    lengthBytes: source.sizeBytes,
    virtualBytes: header.virtualBytes,
    variant: variantOf(header, hasCompressed),
  }
}

function variantOf(header: Qcow2Header, hasCompressed: boolean): string {
  const words = [`version ${header.version}`]
  if (hasCompressed || header.compression === 'zstd') words.push(header.compression)
  if (header.hasExtendedL2) words.push('extended L2')
  if (header.snapshotCount > 0) words.push('snapshots')
  return words.join(', ')
}
