import { damaged } from '../refuse.ts'
import { mapBlocks } from './block-map.ts'
import type { Inode } from './inode.ts'
import { JOURNAL_SUPERBLOCK_BYTES, parseJournalSuperblock } from './journal.ts'
import { claim, type ScrubContext, zeroUnused } from './scrub-context.ts'
import { scrubMapBlocks } from './scrub-map.ts'

/**
 * Zeroes all of the journal but its superblock, which says that nothing is in it: then no other block of it is ever read,
 * nor one of its area for fast commits.
 */
export async function scrubJournal(context: ScrubContext, inode: Inode): Promise<void> {
  const { superblock, medium } = context.ext4
  const { blockBytes } = superblock
  const map = scrubMapBlocks(context, inode)
  for await (const runs of mapBlocks(context.ext4, inode, { onMapBlock: map.onMapBlock })) {
    for (const { logical, physical, count } of runs) {
      claim(context, inode.number, physical, count)
      const offset = physical * blockBytes
      let keptBytes = 0
      if (logical === 0) {
        if (!parseJournalSuperblock(await medium.read(offset, blockBytes)).isEmpty) {
          throw damaged('its journal is not empty though it says so')
        }
        keptBytes = JOURNAL_SUPERBLOCK_BYTES
      }
      await zeroUnused(context, 'journal', offset + keptBytes, count * blockBytes - keptBytes)
    }
    await map.write()
  }
}
