import type { MakeLayout } from './contract.ts'
import { SegmentList } from './segment-list.ts'
import { tooLarge } from './too-large.ts'
import { UnitRuns } from './unit-runs.ts'
import { LOG_BYTES, METADATA_BYTES, vhdxHead, vhdxMetadata } from './vhdx-head.ts'

// Source: [MS-VHDX]. A dynamic disk.

const MIB = 1024 ** 2
const DISK_BYTES_MAX = 64 * 1024 ** 4
const ENTRY_BYTES = 8
const BLOCK_BYTES_MAX = 32 * MIB
/** As long as the table of them stays within half a MiB: smaller blocks keep more of what is zero out of the file. */
const BLOCK_COUNT_GOAL = MIB / ENTRY_BYTES / 2
/** Bytes of the disk for whose sectors there is one bitmap. */
const CHUNK_BYTES = 2 ** 23 * 512

/** States of a block. That of zeroes, rather than "not present", says what the block reads as. */
const BLOCK_ZERO = 2
const BLOCK_PRESENT = 6

export const vhdxLayout: MakeLayout = ({ sizeBytes, extents, seed }) => {
  if (sizeBytes > DISK_BYTES_MAX) throw tooLarge('vhdx', 'disks of at most 64 TiB', 'qcow2 or raw')
  let blockBytes = MIB
  while (blockBytes < BLOCK_BYTES_MAX && sizeBytes / blockBytes > BLOCK_COUNT_GOAL) blockBytes *= 2
  const blocks = UnitRuns.touched(extents, blockBytes)
  const blockCount = Math.ceil(sizeBytes / blockBytes)
  const chunkBlocks = CHUNK_BYTES / blockBytes
  // Behind the blocks of each full chunk is the entry of a bitmap, which only a disk with a parent has.
  const entryCount = blockCount + Math.floor((blockCount - 1) / chunkBlocks)
  const tableBytes = Math.ceil((entryCount * ENTRY_BYTES) / MIB) * MIB
  const tableAt = MIB + LOG_BYTES + METADATA_BYTES
  const dataAt = tableAt + tableBytes

  const file = new SegmentList()
  file.addBytes(vhdxHead({ seed, tableAt, tableBytes }))
  file.alignTo(MIB)
  file.addZeroes(LOG_BYTES)
  file.addBytes(vhdxMetadata({ seed, sizeBytes, blockBytes }))
  file.alignTo(MIB)
  file.addTable(tableBytes, ENTRY_BYTES, (target, first, end) => {
    for (let i = first; i < Math.min(end, entryCount); i++) {
      if ((i + 1) % (chunkBlocks + 1) !== 0) target[(i - first) * ENTRY_BYTES] = BLOCK_ZERO
    }
    const blockOf = (entry: number) => entry - Math.floor(entry / (chunkBlocks + 1))
    blocks.walk(blockOf(first), blockOf(end), (block, ordinal) => {
      const at = (block + Math.floor(block / chunkBlocks) - first) * ENTRY_BYTES
      // Blocks lie at whole MiB, so that the low 20 bits of the place are free for the state.
      target.writeBigUInt64LE(BigInt(dataAt + ordinal * blockBytes + BLOCK_PRESENT), at)
    })
  })
  file.addUnits(blocks, blockBytes, sizeBytes)
  return file.layout('vhdx')
}
