import type { ByteSource } from './contract.ts'
import type { Qcow2File } from './qcow2-file.ts'
import { readOffset } from './qcow2-header.ts'
import { refuseTables, refuseTruncated } from './qcow2-refuse.ts'
import { WINDOW_BYTES } from './windows.ts'

const SNAPSHOT_COUNT_MAX = 65_536
const ENTRY_BYTES = 40
/** As QEMU takes at most, for an entry and for the whole table. */
const EXTRA_BYTES_MAX = 1024
const TABLE_BYTES_MAX = 64 * 1024 * 1024
const L1_BYTES_MAX = 32 * 1024 * 1024
/** A name and an id have lengths of 16 bits each. */
const ENTRY_BYTES_MAX = ENTRY_BYTES + EXTRA_BYTES_MAX + 2 * 65_535

/**
 * The snapshots inside a file: where they are listed and where their L1 tables lie. What is brought in is the disk as it
 * is now, so their content is not walked: it shares its clusters with the disk's, and no reader of ours opens it.
 */
export async function walkQcow2Snapshots(
  file: Qcow2File,
  source: ByteSource,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { snapshotCount, snapshotsOffset, clusterBytes } = file.header
  if (snapshotsOffset % clusterBytes !== 0) {
    throw refuseTables('Its list of snapshots does not begin where a cluster does')
  }
  if (snapshotCount > SNAPSHOT_COUNT_MAX) throw refuseTables('It lists more snapshots than there can be')
  if (snapshotsOffset > file.sizeBytes) throw refuseTruncated('Its list of snapshots begins')
  if (snapshotCount === 0) return
  const tableBytes = await walkEntries(file, source, signal)
  file.takeTable('Its list of snapshots', snapshotsOffset, tableBytes)
}

/** Answers how long the list is: its entries say how long they are. */
async function walkEntries(
  file: Qcow2File,
  source: ByteSource,
  signal: AbortSignal | undefined,
): Promise<number> {
  const { snapshotCount, snapshotsOffset } = file.header
  let window: Buffer = Buffer.alloc(0)
  let windowAt = 0
  let at = 0
  for (let index = 0; index < snapshotCount; index += 1) {
    const offset = snapshotsOffset + at
    if (offset >= file.sizeBytes) throw refuseTruncated('Its list of snapshots ends')
    // A window holds the longest entry that can be, or ends where the file does.
    const windowEnd = windowAt + window.length
    if (windowEnd - at < ENTRY_BYTES_MAX && snapshotsOffset + windowEnd < file.sizeBytes) {
      signal?.throwIfAborted()
      window = await source.read(offset, Math.min(WINDOW_BYTES, file.sizeBytes - offset), signal)
      windowAt = at
    }
    const entry = window.subarray(at - windowAt)
    if (entry.length < ENTRY_BYTES) throw refuseTruncated('Its list of snapshots ends')
    const lengthBytes = checkEntry(file, entry)
    if (entry.length < lengthBytes) throw refuseTruncated('Its list of snapshots ends')
    at += Math.ceil(lengthBytes / 8) * 8
    if (at > TABLE_BYTES_MAX) throw refuseTables('Its list of snapshots is longer than one can be')
  }
  return Math.min(at, file.sizeBytes - snapshotsOffset)
}

function checkEntry(file: Qcow2File, entry: Buffer): number {
  const l1Bytes = entry.readUInt32BE(8) * 8
  const extraBytes = entry.readUInt32BE(36)
  if (extraBytes > EXTRA_BYTES_MAX) throw refuseTables('A snapshot has more facts than there are')
  if (l1Bytes > L1_BYTES_MAX) throw refuseTables('The L1 table of a snapshot is larger than one can be')
  if (l1Bytes > 0) file.takeTable('The L1 table of a snapshot', readOffset(entry, 0), l1Bytes)
  return ENTRY_BYTES + extraBytes + entry.readUInt16BE(12) + entry.readUInt16BE(14)
}
