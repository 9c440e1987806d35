import type { MakeLayout } from './contract.ts'
import { SegmentList } from './segment-list.ts'
import { UnitRuns } from './unit-runs.ts'

// Source: QEMU's docs/interop/qcow2.txt. Version 3, without any feature: what every reader of the last ten years reads.

const CLUSTER_BITS = 16
const CLUSTER_BYTES = 2 ** CLUSTER_BITS
const ENTRY_BYTES = 8
/** Clusters that one L2 table maps: 512 MiB of the disk. */
const L2_ENTRIES = CLUSTER_BYTES / ENTRY_BYTES
const REFCOUNT_BYTES = 2
/** Clusters whose reference counts one block of them holds. */
const BLOCK_ENTRIES = CLUSTER_BYTES / REFCOUNT_BYTES
const HEADER_BYTES = 104
/** The high half of an entry whose cluster nobody else refers to. */
const COPIED = 0x8000_0000

/**
 * Header, reference counts, L1, the L2 tables that map something, and the data in the disk's order; each cluster that
 * the file has is referred to exactly once.
 */
export const qcow2Layout: MakeLayout = ({ sizeBytes, extents }) => {
  const data = UnitRuns.touched(extents, CLUSTER_BYTES)
  const tables = data.coarser(L2_ENTRIES)
  const l1Count = Math.ceil(sizeBytes / CLUSTER_BYTES / L2_ENTRIES)
  const l1Clusters = Math.ceil((l1Count * ENTRY_BYTES) / CLUSTER_BYTES)
  const counts = countClusters(1 + l1Clusters + tables.count + data.count)
  const countTableAt = CLUSTER_BYTES
  const countBlocksAt = countTableAt + counts.tableClusters * CLUSTER_BYTES
  const l1At = countBlocksAt + counts.blockCount * CLUSTER_BYTES
  const l2At = l1At + l1Clusters * CLUSTER_BYTES
  const dataAt = l2At + tables.count * CLUSTER_BYTES

  const file = new SegmentList()
  file.addBytes(header({ sizeBytes, l1Count, l1At, countTableAt, tableClusters: counts.tableClusters }))
  file.addTable(counts.tableClusters * CLUSTER_BYTES, ENTRY_BYTES, (target, first, end) => {
    for (let i = first; i < Math.min(end, counts.blockCount); i++) {
      writeOffset(target, i - first, countBlocksAt + i * CLUSTER_BYTES, 0)
    }
  })
  file.addTable(counts.blockCount * CLUSTER_BYTES, REFCOUNT_BYTES, (target, first, end) => {
    for (let i = first; i < Math.min(end, counts.clusterCount); i++) {
      target[(i - first) * REFCOUNT_BYTES + 1] = 1
    }
  })
  file.addTable(l1Clusters * CLUSTER_BYTES, ENTRY_BYTES, (target, first, end) => {
    tables.walk(first, end, (table, ordinal) =>
      writeOffset(target, table - first, l2At + ordinal * CLUSTER_BYTES, COPIED),
    )
  })
  file.addTable(tables.count * CLUSTER_BYTES, ENTRY_BYTES, (target, first, end) => {
    for (let entry = first; entry < end; ) {
      const ordinal = Math.floor(entry / L2_ENTRIES)
      const last = Math.min(end, (ordinal + 1) * L2_ENTRIES)
      // By how much the number of a cluster of the disk is above that of its entry.
      const shift = (tables.unitAt(ordinal) - ordinal) * L2_ENTRIES
      data.walk(entry + shift, last + shift, (cluster, dataOrdinal) =>
        writeOffset(target, cluster - shift - first, dataAt + dataOrdinal * CLUSTER_BYTES, COPIED),
      )
      entry = last
    }
  })
  file.addUnits(data, CLUSTER_BYTES, sizeBytes)
  return file.layout('qcow2')
}

/** How many clusters the reference counts take for so many others, their own counted as well. */
function countClusters(others: number) {
  let blockCount = 0
  let tableClusters = 0
  for (;;) {
    const clusterCount = others + blockCount + tableClusters
    const blocks = Math.ceil(clusterCount / BLOCK_ENTRIES)
    const clusters = Math.ceil((blocks * ENTRY_BYTES) / CLUSTER_BYTES)
    if (blocks === blockCount && clusters === tableClusters)
      return { blockCount, tableClusters, clusterCount }
    blockCount = blocks
    tableClusters = clusters
  }
}

function header(facts: {
  readonly sizeBytes: number
  readonly l1Count: number
  readonly l1At: number
  readonly countTableAt: number
  readonly tableClusters: number
}): Buffer {
  const bytes = Buffer.alloc(CLUSTER_BYTES)
  bytes.write('QFI\xfb', 0, 'latin1')
  bytes.writeUInt32BE(3, 4)
  bytes.writeUInt32BE(CLUSTER_BITS, 20)
  bytes.writeBigUInt64BE(BigInt(facts.sizeBytes), 24)
  bytes.writeUInt32BE(facts.l1Count, 36)
  bytes.writeBigUInt64BE(BigInt(facts.l1At), 40)
  bytes.writeBigUInt64BE(BigInt(facts.countTableAt), 48)
  bytes.writeUInt32BE(facts.tableClusters, 56)
  bytes.writeUInt32BE(Math.log2(REFCOUNT_BYTES * 8), 96)
  // The eight zero bytes behind it say that no extension of the header follows.
  bytes.writeUInt32BE(HEADER_BYTES, 100)
  return bytes
}

function writeOffset(target: Buffer, index: number, offset: number, highFlags: number): void {
  target.writeUInt32BE((Math.floor(offset / 2 ** 32) | highFlags) >>> 0, index * ENTRY_BYTES)
  target.writeUInt32BE(offset % 2 ** 32, index * ENTRY_BYTES + 4)
}
