import assert from 'node:assert/strict'
import type { CleanVolume, Edit, Medium, Path, Scrubbed } from '../contract.ts'
import { refuse } from '../refuse.ts'
import { mapBlocks } from './block-map.ts'
import { CachedMedium } from './cached-medium.ts'
import { Ext4Files } from './file-system.ts'
import { Groups } from './groups.ts'
import { type Ext4, hasFlag } from './inode.ts'
import { isJournalEmpty } from './journal.ts'
import { scrubExt4 } from './scrub.ts'
import { readSuperblock } from './superblock.ts'

export interface Ext4Volume extends CleanVolume {
  /**
   * It was not unmounted cleanly: files can be read as far as the journal does not change them, `scrub` and `apply` assert
   * until a file system check has gone over it and it is opened again.
   */
  readonly needsReplay: boolean
}

/**
 * An ext2, ext3 or ext4 volume. Throws refusals 'damaged' (also for one that marked itself as having errors), 'unsupported'
 * and 'too-large'; so do all its methods, once they come to what is wrong.
 */
export async function openExt4(medium: Medium): Promise<Ext4Volume> {
  const cached = new CachedMedium(medium)
  const found = await readSuperblock(cached)
  const groups = await Groups.read(cached, found)
  const isReplayed =
    !found.needsReplay && (await isJournalEmpty({ medium: cached, superblock: found, groups }))
  const superblock = { ...found, needsReplay: !isReplayed }
  const ext4: Ext4 = { medium: cached, superblock, groups }
  const files = new Ext4Files(ext4)
  return {
    files,
    sizeBytes: superblock.blockCount * superblock.blockBytes,
    freeBytes: superblock.freeBlockCount * superblock.blockBytes,
    needsReplay: superblock.needsReplay,
    apply: async (edits: readonly Edit[]): Promise<void> => {
      assert(!superblock.needsReplay, 'the journal is replayed before a volume is changed')
      for (const edit of edits) {
        assert(edit.is === 'blank', 'ext4 is changed by the appliance')
        await blankFile(ext4, files, edit.path, edit.keepBytes)
      }
    },
    scrub: async (): Promise<Scrubbed> => await scrubExt4(ext4),
  }
}

/** Zeroes all blocks of a file but its first bytes; size and blocks stay, as a swap file's have to. */
async function blankFile(ext4: Ext4, files: Ext4Files, path: Path, keepBytes: number): Promise<void> {
  const { blockBytes } = ext4.superblock
  const inode = await files.find(path)
  assert(inode?.type === 'file', 'only a file can be blanked')
  if (hasFlag(inode, 'encrypted') || hasFlag(inode, 'verity')) {
    throw refuse(
      'unsupported',
      `Inode ${inode.number} of the ext4 file system is encrypted or sealed and cannot be blanked. Remove it inside the machine, then try again.`,
    )
  }
  // Pointers may lead to the same blocks over and over: the file has no more of them than the volume.
  let blockCount = 0
  for await (const runs of mapBlocks(ext4, inode, { logicalEnd: ext4.superblock.blockCount })) {
    for (const { logical, physical, count } of runs) {
      blockCount += count
      if (blockCount > ext4.superblock.blockCount) return
      const start = Math.min(count * blockBytes, Math.max(0, keepBytes - logical * blockBytes))
      await ext4.medium.zero(physical * blockBytes + start, count * blockBytes - start)
    }
  }
}
