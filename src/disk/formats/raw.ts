import type { ByteSource, InspectedDisk, InspectionOptions } from './contract.ts'
import { refuseFile } from './contract.ts'
import { checkVirtualSize } from './numbers.ts'
import { readUpTo } from './source.ts'

/**
 * What a file may begin with that is no disk and that we do not read: taken as a raw disk it would make an image that
 * looks good and never starts. No disk's first sector begins so.
 */
const STRANGERS: readonly (readonly [title: string, marks: readonly string[]])[] = [
  ['a ZIP archive', ['PK\x03\x04', 'PK\x05\x06']],
  ['a 7-Zip archive', ['7z\xbc\xaf\x27\x1c']],
  ['a RAR archive', ['Rar!\x1a\x07']],
  ['packed with bzip2', [...'123456789'].map((level) => `BZh${level}1AY&SY`)],
  ['packed with LZ4', ['\x04\x22\x4d\x18']],
  ['packed with LZIP', ['LZIP']],
  ['packed with LZOP', ['\x89LZO\0\r\n\x1a\n']],
  ['a Windows installation file (WIM)', ['MSWIM\0\0\0']],
  ['a Parallels disk', ['WithoutFreeSpace', 'WithouFreSpacExt']],
  ['a Bochs disk', ['Bochs Virtual HD Image']],
  ['a User Mode Linux disk', ['OOOM']],
  ['a Proxmox archive (VMA)', ['VMA\0']],
  ['an EnCase image', ['EVF\x09\r\n\xff\0', 'EVF2\r\n\x81\0']],
  ['a web page, perhaps an error of where it was fetched from', ['<!DOCTYPE', '<!doctype', '<html', '<HTML']],
  ['a program', ['\x7fELF']],
]
/** Of tar, whose header's own sum tells an OVA from one that is damaged: that is no raw disk either. */
const TAR_MARK_OFFSET = 257
const TAR_MARK = 'ustar'
const STRANGER_BYTES_MAX = 262
/** The trailer of Apple's disk images stands alone at their end. */
const UDIF_TRAILER_BYTES = 512

/** What else the file is, for people: 'a ZIP archive'; undefined where no mark says so. */
export async function findStranger(source: ByteSource, signal?: AbortSignal): Promise<string | undefined> {
  const head = (await readUpTo(source, 0, STRANGER_BYTES_MAX, signal)).toString('latin1')
  for (const [title, marks] of STRANGERS) {
    if (marks.some((mark) => head.startsWith(mark))) return title
  }
  if (head.startsWith(TAR_MARK, TAR_MARK_OFFSET)) return 'a damaged archive (tar)'
  if (source.sizeBytes < UDIF_TRAILER_BYTES) return undefined
  const tail = await source.read(source.sizeBytes - UDIF_TRAILER_BYTES, 12, signal)
  // The mark, version 4, and its own length.
  const isUdif = tail.toString('latin1', 0, 4) === 'koly' && tail.readUInt32BE(8) === UDIF_TRAILER_BYTES
  return isUdif ? 'an Apple disk image (DMG)' : undefined
}

/**
 * Which table of partitions the first sectors hold. It is told to people and it exposes files that are two things at
 * once; what a guest wrote on its disk is its own business and decides nothing else.
 */
export async function findPartitionTable(
  source: ByteSource,
  signal?: AbortSignal,
): Promise<'GPT' | 'MBR' | undefined> {
  const head = await readUpTo(source, 0, 4096 + 8, signal)
  if (head.length < 512 || head.readUInt16LE(510) !== 0xaa55) return undefined
  for (const sectorBytes of [512, 4096]) {
    if (head.toString('latin1', sectorBytes, sectorBytes + 8) === 'EFI PART') return 'GPT'
  }
  let count = 0
  for (let at = 446; at < 510; at += 16) {
    // The boot sector of a file system ends in the same mark, with code where the table would be.
    if ((head.readUInt8(at) & 0x7f) !== 0) return undefined
    if (head.readUInt8(at + 4) !== 0 && head.readUInt32LE(at + 12) !== 0) count += 1
  }
  return count > 0 ? 'MBR' : undefined
}

/** A file that nothing says anything of: its bytes are the disk. */
export async function inspectRaw(source: ByteSource, options: InspectionOptions): Promise<InspectedDisk> {
  const stranger = await findStranger(source, options.signal)
  if (stranger !== undefined) {
    throw refuseFile(
      'unsupported',
      `This is no disk: it is ${stranger}. Unpack it or convert it to qcow2 or raw, and bring that in.`,
    )
  }
  checkVirtualSize(source.sizeBytes, options.virtualBytesMax)
  return {
    format: 'raw',
    offset: 0,
    lengthBytes: source.sizeBytes,
    virtualBytes: source.sizeBytes,
    variant: (await findPartitionTable(source, options.signal)) ?? 'no partition table',
  }
}
