import { makePlan } from '../guest/plan.ts'
import type { Medium } from '../volume/contract.ts'
import { findVolumes } from '../volume/disk-layout.ts'
import { openExt4 } from '../volume/ext4/open.ts'
import { openFat } from '../volume/fat/open.ts'
import { openNtfs } from '../volume/ntfs/open.ts'
import { scrubSwap } from '../volume/swap.ts'
import type { FileKind } from './kinds.ts'
import type { OpenedVolume, Skills } from './skills.ts'

const OPENERS: Readonly<Record<FileKind, (medium: Medium) => Promise<OpenedVolume>>> = {
  ntfs: openNtfs,
  ext4: openExt4,
  vfat: openFat,
}

/** Ours, for disks as they are. */
export const SKILLS: Skills = {
  findVolumes,
  open: (kind, medium) => OPENERS[kind](medium),
  scrubSwap,
  makePlan,
}
