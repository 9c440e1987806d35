import assert from 'node:assert/strict'
import type { Scrubbed } from '../contract.ts'
import { Tally } from '../wipe.ts'
import { FileEnds } from './file-ends.ts'
import type { Ext4 } from './inode.ts'
import { Pool } from './pool.ts'
import { inOrder, type ScrubContext, zeroUnused } from './scrub-context.ts'
import { scrubFree } from './scrub-free.ts'
import { scrubMetadata } from './scrub-metadata.ts'
import { scrubTables } from './scrub-tables.ts'
import { SparseBits } from './sparse-bits.ts'

/** As many calls to the medium are under way at once. */
const TASK_COUNT_MAX = 16

/** See `CleanVolume.scrub`. What is free is known only once everything alive has claimed its blocks, so it comes last. */
export async function scrubExt4(ext4: Ext4): Promise<Scrubbed> {
  const { superblock, medium } = ext4
  assert(!superblock.needsReplay, 'the journal is replayed before a volume is scrubbed')
  medium.forgetAll()
  const tally = new Tally()
  const blockBits = superblock.groupCount * superblock.blocksPerGroup
  const context: ScrubContext = {
    ext4,
    pool: new Pool(TASK_COUNT_MAX),
    tally,
    ends: new FileEnds(ext4, tally),
    claims: new SparseBits(blockBits, superblock.blocksPerGroup),
    attributeBlocks: new SparseBits(blockBits, superblock.blocksPerGroup),
    inUse: new SparseBits(superblock.inodeCount, superblock.inodesPerGroup),
    named: new SparseBits(superblock.inodeCount, superblock.inodesPerGroup),
  }
  try {
    await scrubMetadata(context)
    await scrubTables(context)
    await scrubFree(context)
    const endBytes = superblock.blockCount * superblock.blockBytes
    await zeroUnused(context, 'behind the volume', endBytes, medium.sizeBytes - endBytes)
  } finally {
    // After a refusal too: nothing writes any more once this is over.
    await context.pool.settle()
  }
  return inOrder(tally)
}
