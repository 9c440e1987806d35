import type { ProbeWindow } from './probe-window.ts'

/** At an offset, bytes in Latin-1 that a file system has there and nothing else does. */
const SIGNATURES: readonly (readonly [title: string, offset: number, text: string])[] = [
  ['LUKS', 0, 'LUKS\xba\xbe'],
  ['XFS', 0, 'XFSB'],
  ['squashfs', 0, 'hsqs'],
  ['APFS', 32, 'NXSB'],
  ['f2fs', 1024, '\x10\x20\xf5\xf2'],
  ['erofs', 1024, '\xe2\xe1\xf5\xe0'],
  ['HFS+', 1024, 'H+\0\x04'],
  ['HFS+', 1024, 'HX\0\x05'],
  ['bcache', 4096 + 24, '\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81'],
  ['bcachefs', 4096 + 24, '\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef'],
  ['ReiserFS', 8192 + 52, 'ReIsErFs'],
  ['JFS', 32768, 'JFS1'],
  ['ISO 9660', 32769, 'CD001'],
  ['UDF', 32769, 'BEA01'],
  ['ReiserFS', 65536, 'ReIsEr4'],
  ['ReiserFS', 65536 + 52, 'ReIsErFs'],
  ['ReiserFS', 65536 + 52, 'ReIsEr2Fs'],
  ['ReiserFS', 65536 + 52, 'ReIsEr3Fs'],
  ['btrfs', 65536 + 64, '_BHRfS_M'],
]

/** As far as the window goes; the larger distances are for larger headers than cryptsetup makes unasked. */
const LUKS_SECOND_OFFSETS = [0x4000, 0x8000, 0x10000, 0x20000] as const

const ZFS_UBERBLOCKS_OFFSET = 128 * 1024
const ZFS_UBERBLOCK_BYTES = 1024
const ZFS_UBERBLOCKS_MIN = 4

/** Titles of what we know and do not clean, by signature. */
export function findForeign(window: ProbeWindow): readonly string[] {
  const titles = new Set<string>()
  for (const [title, offset, text] of SIGNATURES) {
    if (window.text(offset, text.length) === text) titles.add(title)
  }
  // An LVM physical volume has its label in one of the first four sectors.
  for (let sector = 0; sector < 4; sector++) {
    if (window.text(sector * 512, 8) === 'LABELONE' && window.text(sector * 512 + 24, 8) === 'LVM2 001') {
      titles.add('LVM')
    }
  }
  // Its magic number alone is short: the revision and the size of the superblock must fit it.
  const nilfsBytes = window.uint16(1024 + 8) ?? 0
  if (
    window.uint16(1024 + 6) === 0x3434 &&
    window.uint32(1024) === 2 &&
    nilfsBytes >= 96 &&
    nilfsBytes <= 1024
  ) {
    titles.add('nilfs2')
  }
  if (isZfs(window)) titles.add('ZFS')
  return [...titles]
}

/**
 * LUKS2's second header, from which it mends the first: a disk with its start gone is still encrypted. Formatting leaves it
 * behind, so it counts only where nothing else is found.
 */
export function hasSecondLuksHeader(window: ProbeWindow): boolean {
  return LUKS_SECOND_OFFSETS.some((offset) => window.text(offset, 6) === 'SKUL\xba\xbe')
}

/** A label holds a ring of uberblocks in either byte order; a few left of an earlier use do not count. */
function isZfs(window: ProbeWindow): boolean {
  let count = 0
  for (let index = 0; index < 128; index++) {
    const text = window.text(ZFS_UBERBLOCKS_OFFSET + index * ZFS_UBERBLOCK_BYTES, 8)
    if (text === '\0\0\0\0\0\xba\xb1\x0c' || text === '\x0c\xb1\xba\0\0\0\0\0') count++
  }
  return count >= ZFS_UBERBLOCKS_MIN
}
