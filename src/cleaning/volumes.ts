import { findOnDisk } from '../guest/found-system.ts'
import { makePlan } from '../guest/plan.ts'
import type { FileSystem, Medium } from '../volume/contract.ts'
import { findVolumes } from '../volume/disk-layout.ts'
import { openExt4 } from '../volume/ext4/open.ts'
import { openFat } from '../volume/fat/open.ts'
import { openNtfs } from '../volume/ntfs/open.ts'
import { NtfsReader } from '../volume/ntfs/reader.ts'
import { openNtfsModel } from '../volume/ntfs/volume.ts'
import { scrubSwap } from '../volume/swap.ts'
import type { FileKind } from './kinds.ts'
import type { OpenedVolume, Skills } from './skills.ts'

const OPENERS: Readonly<Record<FileKind, (medium: Medium) => Promise<OpenedVolume>>> = {
  ntfs: openNtfs,
  ext4: openExt4,
  vfat: openFat,
}

/** What the state of an NTFS volume forbids is to change it, and what ext4 has in its journal it may lack. */
async function openFiles(kind: FileKind, medium: Medium): Promise<FileSystem> {
  if (kind === 'ntfs') return new NtfsReader(await openNtfsModel(medium), '')
  return (await OPENERS[kind](medium)).files
}

/** Ours, for disks as they are. */
export const SKILLS: Skills = {
  findVolumes,
  open: (kind, medium) => OPENERS[kind](medium),
  openFiles,
  scrubSwap,
  makePlan,
  findOnDisk,
}
