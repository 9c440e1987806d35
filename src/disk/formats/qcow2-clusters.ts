import { offsetOfEntry, type Qcow2File } from './qcow2-file.ts'
import { refuseTables, refuseTruncated } from './qcow2-refuse.ts'

const L1_BYTES_MAX = 32 * 1024 * 1024
const ENTRY_BYTES = 8
const EXTENDED_ENTRY_BYTES = 16
/** L2 tables that are looked at together: a number for each is in memory. */
const BATCH_COUNT_MAX = 1024 * 1024

/**
 * The map of the disk: every entry of the L1 table and of every L2 table behind it, so also those behind the end of the
 * disk, where the state of a machine is kept. Answers whether any cluster is compressed.
 */
export async function walkQcow2Clusters(file: Qcow2File): Promise<{ readonly hasCompressed: boolean }> {
  const { l1Offset, l1Count, clusterBytes, hasExtendedL2 } = file.header
  checkL1Size(file)
  file.takeTable('Its L1 table', l1Offset, l1Count * ENTRY_BYTES)
  const checker = new EntryChecker(file)
  const visit = hasExtendedL2
    ? (bytes: Buffer) => checker.checkExtended(bytes)
    : (bytes: Buffer) => checker.checkStandard(bytes)
  const batch = new Float64Array(Math.min(l1Count, BATCH_COUNT_MAX))
  let count = 0
  await file.walk.visitRange(l1Offset, l1Count * ENTRY_BYTES, async (bytes) => {
    for (let at = 0; at < bytes.length; at += ENTRY_BYTES) {
      const high = bytes.readUInt32BE(at)
      const low = bytes.readUInt32BE(at + 4)
      if (high === 0 && low === 0) continue
      if ((high & 0x7f00_0000) !== 0 || (low & 0x1ff) !== 0) {
        throw refuseTables('Its L1 table has bits that mean nothing')
      }
      const offset = offsetOfEntry(high, low)
      if (offset === 0) throw refuseTables('Its L1 table points at the header')
      file.takeTable('An L2 table', offset, clusterBytes)
      batch[count] = offset
      count += 1
      if (count === batch.length) {
        await file.walk.visitTables(batch, clusterBytes, visit)
        count = 0
      }
    }
  })
  await file.walk.visitTables(batch.subarray(0, count), clusterBytes, visit)
  return { hasCompressed: checker.hasCompressed }
}

/** As many entries as the disk has need of, and as a shrunk disk or the state of a machine may have left. */
function checkL1Size(file: Qcow2File): void {
  const { l1Count, clusterBytes, hasExtendedL2, virtualBytes, snapshotCount } = file.header
  const l2Count = clusterBytes / (hasExtendedL2 ? EXTENDED_ENTRY_BYTES : ENTRY_BYTES)
  const neededCount = Math.ceil(virtualBytes / (l2Count * clusterBytes))
  if (l1Count < neededCount) throw refuseTables('Its L1 table is too short for its disk')
  const spareCount = snapshotCount > 0 ? Number.MAX_SAFE_INTEGER : neededCount + clusterBytes / ENTRY_BYTES
  if (l1Count * ENTRY_BYTES > L1_BYTES_MAX || l1Count - neededCount > spareCount) {
    throw refuseTables('Its L1 table is larger than its disk has any use for')
  }
}

/** Every entry of the L2 tables, in a loop without calls where nothing is there: a disk of 1 TiB has 16 million. */
class EntryChecker {
  hasCompressed = false
  readonly #file: Qcow2File
  readonly #clusterBytes: number
  readonly #clusterCount: number
  readonly #lowBitsMax: number

  constructor(file: Qcow2File) {
    this.#file = file
    this.#clusterBytes = file.header.clusterBytes
    this.#clusterCount = Math.ceil(file.sizeBytes / file.header.clusterBytes)
    // Version 2 has no clusters of zeros, and with parts each part says so itself.
    this.#lowBitsMax = file.header.version === 3 && !file.header.hasExtendedL2 ? 1 : 0
  }

  checkStandard(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; at += ENTRY_BYTES) {
      const high = bytes.readUInt32BE(at)
      const low = bytes.readUInt32BE(at + 4)
      if (high === 0 && low === 0) continue
      if ((high & 0x4000_0000) === 0) this.#checkPlain(high, low)
      else this.#checkCompressed(high, low)
    }
  }

  checkExtended(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; at += EXTENDED_ENTRY_BYTES) {
      const high = bytes.readUInt32BE(at)
      const low = bytes.readUInt32BE(at + 4)
      const zeroParts = bytes.readUInt32BE(at + 8)
      const dataParts = bytes.readUInt32BE(at + 12)
      if (high === 0 && low === 0 && dataParts === 0) continue
      if ((high & 0x4000_0000) !== 0) {
        if (zeroParts !== 0 || dataParts !== 0)
          throw refuseTables('A compressed cluster is said to have parts')
        this.#checkCompressed(high, low)
        continue
      }
      if ((zeroParts & dataParts) !== 0) throw refuseTables('A part of a cluster is both data and zeros')
      const offset = this.#checkPlain(high, low)
      if (dataParts === 0) continue
      if (offset === 0) throw refuseTables('Parts of a cluster are nowhere')
      // A file may end inside its last cluster, but not before the last part that is said to be there.
      const lastPart = 31 - Math.clz32(dataParts)
      if (offset + (lastPart * this.#clusterBytes) / 32 >= this.#file.sizeBytes) {
        throw refuseTruncated('Data of the disk is')
      }
    }
  }

  /** Answers where the cluster is, 0 for nowhere. */
  #checkPlain(high: number, low: number): number {
    if ((high & 0x3f00_0000) !== 0 || (low & 0x1ff) > this.#lowBitsMax) {
      throw refuseTables('An L2 table has bits that mean nothing')
    }
    const offset = offsetOfEntry(high, low)
    if (offset === 0) {
      if ((high & 0x8000_0000) !== 0) throw refuseTables('An L2 table points at the header')
      return 0
    }
    // By bits: a remainder of so large a number takes as long as all the rest together.
    if ((low & 0xffff_fe00 & (this.#clusterBytes - 1)) !== 0)
      throw refuseTables('Data does not begin where a cluster does')
    const cluster = offset / this.#clusterBytes
    // The last cluster need not be whole: what is not there reads as zeros, and QEMU leaves it so.
    if (cluster >= this.#clusterCount) throw refuseTruncated('Data of the disk is')
    if (!this.#file.used.take(cluster, 1)) throw refuseTables('Two things lie in one cluster of the file')
    return offset
  }

  /**
   * Compressed data lies in sectors, several in a cluster. How much comes out of it is not looked at here: QEMU inflates
   * into a buffer of one cluster and stops there, whatever the data would make.
   */
  #checkCompressed(high: number, low: number): void {
    this.hasCompressed = true
    if ((high & 0x8000_0000) !== 0) throw refuseTables('A compressed cluster has bits that mean nothing')
    const { clusterBits } = this.#file.header
    const shift = 62 - (clusterBits - 8) - 32
    const sectorCount = ((high & 0x3fff_ffff) >>> shift) + 1
    const offset = (high & (2 ** shift - 1)) * 2 ** 32 + low
    const end = Math.floor(offset / 512) * 512 + sectorCount * 512
    // The last sector need not be whole, for the same reason as above.
    if (offset >= this.#file.sizeBytes || end >= this.#file.sizeBytes + 512) {
      throw refuseTruncated('Compressed data of the disk is')
    }
    const first = Math.floor(offset / this.#clusterBytes)
    const last = Math.min(this.#clusterCount - 1, Math.floor((end - 1) / this.#clusterBytes))
    if (!this.#file.used.share(first, last - first + 1)) {
      throw refuseTables('Compressed data lies over something else in the file')
    }
  }
}
