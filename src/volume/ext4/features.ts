import { refuse } from '../refuse.ts'

/** Bits of the three feature words of a superblock that we know and handle, by their official names. */
export const COMPAT = {
  dirPrealloc: 0x1,
  imagicInodes: 0x2,
  hasJournal: 0x4,
  extAttr: 0x8,
  resizeInode: 0x10,
  dirIndex: 0x20,
  sparseSuper2: 0x200,
  fastCommit: 0x400,
  stableInodes: 0x800,
  orphanFile: 0x1000,
} as const

export const INCOMPAT = {
  filetype: 0x2,
  needsRecovery: 0x4,
  metaBg: 0x10,
  extents: 0x40,
  is64bit: 0x80,
  mmp: 0x100,
  flexBg: 0x200,
  eaInode: 0x400,
  checksumSeed: 0x2000,
  largeDirectory: 0x4000,
  encrypt: 0x10000,
  casefold: 0x20000,
} as const

export const RO_COMPAT = {
  sparseSuper: 0x1,
  largeFile: 0x2,
  hugeFile: 0x8,
  groupChecksum: 0x10,
  dirNlink: 0x20,
  extraIsize: 0x40,
  quota: 0x100,
  metadataChecksum: 0x400,
  project: 0x2000,
  verity: 0x8000,
  orphanPresent: 0x10000,
} as const

/** Those we know and cannot handle for certain, for the message. */
const UNHANDLED: readonly (readonly ['compat' | 'incompat' | 'roCompat', number, string])[] = [
  ['compat', 0x40, 'lazy_bg'],
  ['compat', 0x80, 'exclude_inode'],
  ['compat', 0x100, 'exclude_bitmap'],
  ['incompat', 0x1, 'compression'],
  ['incompat', 0x8, 'journal_dev'],
  ['incompat', 0x1000, 'dirdata'],
  ['incompat', 0x8000, 'inline_data'],
  ['roCompat', 0x4, 'btree_dir'],
  ['roCompat', 0x80, 'snapshot'],
  ['roCompat', 0x200, 'bigalloc'],
  ['roCompat', 0x800, 'replica'],
  ['roCompat', 0x1000, 'read-only'],
  ['roCompat', 0x4000, 'shared_blocks'],
]

export interface Features {
  readonly compat: number
  readonly incompat: number
  readonly roCompat: number
}

const anyOf = (bits: Readonly<Record<string, number>>) =>
  Object.values(bits).reduce((all, bit) => all | bit, 0)

const HANDLED: Features = {
  compat: anyOf(COMPAT),
  incompat: anyOf(INCOMPAT),
  roCompat: anyOf(RO_COMPAT),
}

/** Refuses 'unsupported' unless every feature is one whose every structure we know: an unknown one may keep files in free space. */
export function checkFeatures(features: Features): void {
  for (const word of ['compat', 'incompat', 'roCompat'] as const) {
    const rest = (features[word] & ~HANDLED[word]) >>> 0
    if (rest === 0) continue
    const names = UNHANDLED.filter(([of, bit]) => of === word && (rest & bit) !== 0).map(([, , name]) => name)
    const what = names.length > 0 ? names.join(', ') : `unknown ${word} bits 0x${rest.toString(16)}`
    throw refuse(
      'unsupported',
      `The ext4 file system has features that cannot be cleaned (${what}). Copy its files to one without them, or ask for best-effort to leave it as it is.`,
    )
  }
}
