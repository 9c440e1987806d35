import { damaged } from '../refuse.ts'
import { mapBlocks } from './block-map.ts'
import { type Ext4, readInode } from './inode.ts'

const MAGIC = 0xc03b3998
export const JOURNAL_SUPERBLOCK_BYTES = 1024

/** Checks that a block is a journal's superblock; whether anything is in the journal that is not on the volume yet. */
export function parseJournalSuperblock(block: Buffer): { readonly isEmpty: boolean } {
  const type = block.readUInt32BE(4)
  if (block.readUInt32BE(0) !== MAGIC || (type !== 3 && type !== 4))
    throw damaged('its journal has no superblock')
  return { isEmpty: block.readUInt32BE(0x1c) === 0 }
}

/** True where there is no journal at all. */
export async function isJournalEmpty(ext4: Ext4): Promise<boolean> {
  const { superblock, medium } = ext4
  if (superblock.journalInode === 0) return true
  const inode = await readInode(ext4, superblock.journalInode)
  if (inode.type !== 'file') throw damaged('its journal is no file')
  for await (const [run] of mapBlocks(ext4, inode, { logicalEnd: 1 })) {
    if (run?.logical !== 0) break
    const block = await medium.read(run.physical * superblock.blockBytes, superblock.blockBytes)
    return parseJournalSuperblock(block).isEmpty
  }
  throw damaged('its journal has no superblock')
}
