import type { ByteSource } from './contract.ts'
import { offsetOfEntry, type Qcow2File } from './qcow2-file.ts'
import { readOffset } from './qcow2-header.ts'
import { refuseFeature, refuseTables } from './qcow2-refuse.ts'

const BITMAP_COUNT_MAX = 65_535
/** Ours: a list of some thousand bitmaps; nobody has more than a few. */
const DIRECTORY_BYTES_MAX = 1024 * 1024
const ENTRY_BYTES = 24
const GRANULARITY_BITS_MIN = 9
const GRANULARITY_BITS_MAX = 31
const NAME_BYTES_MAX = 1023
const DIRTY_TRACKING = 1
const FLAGS_KNOWN = 0b111
/** All of them: a reader of the file holds them in memory, each as large as the disk and its granularity make it. */
const BITMAPS_BYTES_MAX = 64 * 1024 * 1024

/**
 * The dirty bitmaps that a file carries, which whoever opens it loads. Each has a table of its own, and clusters that
 * nothing else has.
 */
export async function walkQcow2Bitmaps(
  file: Qcow2File,
  source: ByteSource,
  extension: Buffer,
  signal: AbortSignal | undefined,
): Promise<void> {
  const count = extension.readUInt32BE(0)
  const directoryBytes = readOffset(extension, 8)
  const directoryOffset = readOffset(extension, 16)
  if (extension.readUInt32BE(4) !== 0) throw refuseFeature('bitmaps of a later version')
  if (count === 0 || count > BITMAP_COUNT_MAX || directoryBytes > DIRECTORY_BYTES_MAX) {
    throw refuseTables('It lists more bitmaps than there can be')
  }
  file.takeTable('Its list of bitmaps', directoryOffset, directoryBytes)
  const directory = await source.read(directoryOffset, directoryBytes, signal)
  let at = 0
  let memoryBytes = 0
  for (let index = 0; index < count; index += 1) {
    const entry = directory.subarray(at)
    at += checkEntry(file, entry)
    memoryBytes += file.header.virtualBytes / 8 / 2 ** entry.readUInt8(17)
    if (memoryBytes > BITMAPS_BYTES_MAX) {
      throw refuseTables('Its bitmaps are too large to be held in memory (qemu-img bitmap --remove helps)')
    }
    await walkTable(file, readOffset(entry, 0), entry.readUInt32BE(8) * 8)
  }
  if (at !== directoryBytes) throw refuseTables('Its list of bitmaps has another length than it says')
}

/** Answers how long the entry is, with what fills it up. */
function checkEntry(file: Qcow2File, entry: Buffer): number {
  if (entry.length < ENTRY_BYTES) throw refuseTables('Its list of bitmaps is not whole')
  const granularityBits = entry.readUInt8(17)
  const nameBytes = entry.readUInt16BE(18)
  const extraBytes = entry.readUInt32BE(20)
  if ((entry.readUInt32BE(12) & ~FLAGS_KNOWN) !== 0 || extraBytes !== 0) {
    throw refuseFeature('bitmaps of a later version')
  }
  if (entry.readUInt8(16) !== DIRTY_TRACKING) throw refuseFeature('bitmaps of a later version')
  if (granularityBits < GRANULARITY_BITS_MIN || granularityBits > GRANULARITY_BITS_MAX) {
    throw refuseTables('A bitmap has a granularity that does not exist')
  }
  const lengthBytes = Math.ceil((ENTRY_BYTES + nameBytes) / 8) * 8
  if (nameBytes === 0 || nameBytes > NAME_BYTES_MAX || lengthBytes > entry.length) {
    throw refuseTables('The name of a bitmap has a length that cannot be')
  }
  // As many clusters as hold a bit for each piece of the disk, and no more.
  const bitmapBytes = Math.ceil(Math.ceil(file.header.virtualBytes / 2 ** granularityBits) / 8)
  if (entry.readUInt32BE(8) !== Math.ceil(bitmapBytes / file.header.clusterBytes)) {
    throw refuseTables('A bitmap has another size than its disk')
  }
  return lengthBytes
}

async function walkTable(file: Qcow2File, offset: number, tableBytes: number): Promise<void> {
  file.takeTable('The table of a bitmap', offset, tableBytes)
  await file.walk.visitRange(offset, tableBytes, (bytes) => {
    for (let at = 0; at < bytes.length; at += 8) {
      const high = bytes.readUInt32BE(at)
      const low = bytes.readUInt32BE(at + 4)
      const place = offsetOfEntry(high, low)
      // Without a cluster, bit 0 says which of all zeros and all ones it stands for.
      const flags = low & 0x1ff
      if (high >= 2 ** 24 || flags > 1 || (flags === 1 && place !== 0)) {
        throw refuseTables('The table of a bitmap has bits that mean nothing')
      }
      if (place !== 0) file.takeTable('A piece of a bitmap', place, file.header.clusterBytes)
    }
  })
}
