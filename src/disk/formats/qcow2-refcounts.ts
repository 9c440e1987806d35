import type { Qcow2File } from './qcow2-file.ts'
import { readOffset } from './qcow2-header.ts'
import { refuseTables } from './qcow2-refuse.ts'

/** As QEMU takes at most. */
const TABLE_BYTES_MAX = 8 * 1024 * 1024
const ENTRY_BYTES = 8

/**
 * The table of reference counts and where its blocks lie. The counts themselves are not read: they are for whoever
 * writes to the file, and nobody does.
 */
export async function walkQcow2Refcounts(file: Qcow2File): Promise<void> {
  const { refcountsOffset, refcountsClusterCount, clusterBytes } = file.header
  const tableBytes = refcountsClusterCount * clusterBytes
  if (tableBytes === 0 || tableBytes > TABLE_BYTES_MAX) {
    throw refuseTables('Its table of reference counts has a size that cannot be')
  }
  file.takeTable('Its table of reference counts', refcountsOffset, tableBytes)
  await file.walk.visitRange(refcountsOffset, tableBytes, (bytes) => {
    for (let at = 0; at < bytes.length; at += ENTRY_BYTES) {
      // Here the upper bits belong to the offset as well; the lower ones make it one that is not aligned.
      const offset = readOffset(bytes, at)
      if (offset !== 0) file.takeTable('A block of its reference counts', offset, clusterBytes)
    }
  })
}
