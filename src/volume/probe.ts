import type { FoundVolume, Medium } from './contract.ts'
import { readFatGeometry } from './fat/geometry.ts'
import { findForeign, hasSecondLuksHeader } from './probe-foreign.ts'
import { findMember } from './probe-members.ts'
import { type ProbeWindow, readProbeWindow } from './probe-window.ts'
import { findSwapHeader } from './swap-header.ts'

export type Probed = Pick<FoundVolume, 'kind' | 'title' | 'reason'>

/** What begins at the start of a medium, or undefined if nothing known does. Two answers that contradict are neither. */
export async function probe(medium: Medium): Promise<Probed | undefined> {
  const window = await readProbeWindow(medium)
  const found = [
    ...bootSector(window),
    ...ext(window),
    ...swap(window),
    ...findForeign(window).map((title) => other(title)),
    ...(await findMember(medium, window)).map((title) => other(title)),
  ]
  // A disk that is a member of something holds what it is a member of: the outer one decides, and it cannot be cleaned.
  const encrypted = found.find(({ reason }) => reason === 'encrypted')
  if (encrypted !== undefined) return encrypted
  const isAmbiguous = found.length > 1 && found.some(({ kind }) => kind !== 'other')
  if (isAmbiguous) return other('two file systems at once')
  return found[0] ?? (hasSecondLuksHeader(window) ? other('LUKS') : undefined)
}

function other(title: string): Probed {
  return {
    kind: 'other',
    title,
    reason: title === 'LUKS' || title === 'BitLocker' ? 'encrypted' : 'unsupported',
  }
}

/** Of what begins with a boot sector; each says its name in the same eight bytes, FAT by its numbers. */
function bootSector(window: ProbeWindow): readonly Probed[] {
  const name = window.text(3, 8)
  if (name === '-FVE-FS-' || isBitLockerToGo(window)) return [other('BitLocker')]
  if (name === 'ReFS\0\0\0\0') return [other('ReFS')]
  if (window.uint16(510) !== 0xaa55) return []
  if (name === 'EXFAT   ') return [other('exFAT')]
  if (name === 'NTFS    ') return isNtfs(window) ? [{ kind: 'ntfs', title: 'NTFS' }] : []
  const sector = window.bytes(0, 512)
  if (sector === undefined) return []
  const fat = readFatGeometry(sector)
  return fat === undefined ? [] : [{ kind: 'vfat', title: `FAT${fat.bits}` }]
}

/** GUIDs that mark a FAT boot sector as BitLocker's: of a removable disk, and of one that is being encrypted. */
function isBitLockerToGo(window: ProbeWindow): boolean {
  const guids = ['3bd66749292ed84a8399f6a339e3d001', '3b4da89280dd0e4d9e4eb1e3284eaed8']
  return [160, 424].some((at) => guids.includes(window.bytes(at, 16)?.toString('hex') ?? ''))
}

/** Numbers that FAT's fields hold and NTFS leaves zero, and sane sizes. */
function isNtfs(window: ProbeWindow): boolean {
  const sectorBytes = window.uint16(11) ?? 0
  const isPower = sectorBytes >= 256 && sectorBytes <= 4096 && (sectorBytes & (sectorBytes - 1)) === 0
  return isPower && window.uint16(14) === 0 && window.uint8(16) === 0 && window.uint16(22) === 0
}

const HAS_JOURNAL = 0x4
const IS_JOURNAL = 0x8
/** ext4 alone: extents, 64 bits, flexible groups, metadata checksums … */
const EXT4_INCOMPAT = 0x40 | 0x80 | 0x200 | 0x400 | 0x1000 | 0x2000 | 0x4000 | 0x8000 | 0x10000 | 0x20000

/** The superblock of ext2, ext3 and ext4: they differ in features alone, and ext4's driver reads all. */
function ext(window: ProbeWindow): readonly Probed[] {
  const at = (offset: number): number => window.uint32(1024 + offset) ?? 0
  if (window.uint16(1024 + 56) !== 0xef53) return []
  if (at(24) > 6 || at(0) === 0 || at(4) === 0 || at(32) === 0 || at(40) === 0 || at(76) > 1) return []
  const compatible = at(92)
  const incompatible = at(96)
  if ((incompatible & IS_JOURNAL) !== 0) return [other('a journal of ext4')]
  const hasJournal = (compatible & HAS_JOURNAL) !== 0
  if (hasJournal && at(224) === 0) return [other('ext4 with its journal on another disk')]
  const isExt4 = (incompatible & EXT4_INCOMPAT) !== 0
  return [{ kind: 'ext4', title: isExt4 ? 'ext4' : hasJournal ? 'ext3' : 'ext2' }]
}

function swap(window: ProbeWindow): readonly Probed[] {
  const header = findSwapHeader((offset, lengthBytes) => window.bytes(offset, lengthBytes))
  if (header === undefined) return []
  if (header.state === 'swap') return [{ kind: 'swap', title: 'Linux swap' }]
  if (header.state === 'hibernated') {
    return [{ kind: 'other', title: 'Linux swap with a hibernated system', reason: 'hibernated' }]
  }
  return [other('Linux swap of an old form')]
}
