import type { ByteSource } from './contract.ts'
import { refuseFile } from './contract.ts'
import { isInside, isZero, readInside, SECTOR_BYTES, uint64BE } from './numbers.ts'
import { checkPaxRecords } from './tar-pax.ts'
import { refuseArchive } from './tar-refuse.ts'

const BLOCK_BYTES = SECTOR_BYTES
const MEMBERS_MAX = 64
const PAX_BYTES_MAX = 8192
/** Of eleven digits. */
const OCTAL_BYTES_MAX = 2 ** 33
/** Tools fill up to their own block size, 10 KiB mostly; nobody needs more than this. */
const TRAILING_BYTES_MAX = 1024 * 1024

export interface TarMember {
  readonly name: string
  /** Of its bytes, in the archive. */
  readonly offset: number
  readonly lengthBytes: number
}

/** True for a block that is a tar header by its mark and its own sum. */
export function isTarHeader(block: Buffer): boolean {
  return (
    block.length === BLOCK_BYTES &&
    block.toString('latin1', 257, 262) === 'ustar' &&
    octal(block, 148, 8) === checksum(block)
  )
}

/**
 * The members of an archive of plain files in one folder, in their order: no links, devices, folders, sparse or renamed
 * members, no two names that a file system somewhere would take for one, nothing between or behind them. Nothing is ever
 * unpacked; strictness is for whoever reads the same archive with other tools. Source: POSIX.1-2024, pax, "ustar".
 */
export async function readTar(source: ByteSource, signal?: AbortSignal): Promise<TarMember[]> {
  const members: TarMember[] = []
  const names = new Set<string>()
  let at = 0
  let paxSizeBytes: number | undefined
  let isPaxPending = false
  // Each turn moves on by a block at least, and the members and their pax headers are counted.
  for (;;) {
    const header = await readBlock(source, at, signal)
    at += BLOCK_BYTES
    if (isZero(header)) break
    if (!isTarHeader(header)) throw refuseArchive('has a damaged header')
    const type = String.fromCharCode(header.readUInt8(156))
    const sizeBytes = memberSize(header, paxSizeBytes)
    if (type === 'x') {
      if (isPaxPending || sizeBytes > PAX_BYTES_MAX) throw refuseArchive('has headers that no tool writes')
      paxSizeBytes = checkPaxRecords(await readInside(source, at, sizeBytes, signal))
      isPaxPending = true
    } else {
      if (type !== '0' && type !== '\0') throw refuseArchive('holds something else than plain files')
      if (members.length === MEMBERS_MAX) throw refuseArchive(`holds more than ${MEMBERS_MAX} files`)
      const name = memberName(header)
      const folded = name.normalize('NFKC').toLowerCase()
      if (names.has(folded)) throw refuseArchive('holds two files of one name')
      names.add(folded)
      if (!isInside(source, at, sizeBytes)) throw refuseCut()
      members.push({ name, offset: at, lengthBytes: sizeBytes })
      paxSizeBytes = undefined
      isPaxPending = false
    }
    const end = at + sizeBytes
    at += Math.ceil(sizeBytes / BLOCK_BYTES) * BLOCK_BYTES
    if (!isInside(source, at, 0)) throw refuseCut()
    if (!isZero(await source.read(end, at - end, signal)))
      throw refuseArchive('holds bytes between its files')
  }
  if (isPaxPending) throw refuseArchive('has a damaged header')
  await checkEnd(source, at, signal)
  return members
}

/** A second zero block, and then nothing but zeros: what follows an end is read by some tools and not by others. */
async function checkEnd(source: ByteSource, at: number, signal: AbortSignal | undefined): Promise<void> {
  if (!isZero(await readBlock(source, at, signal))) throw refuseArchive('goes on behind its end')
  const restBytes = source.sizeBytes - at
  if (restBytes > TRAILING_BYTES_MAX) throw refuseArchive('goes on behind its end')
  if (!isZero(await source.read(at, restBytes, signal))) throw refuseArchive('goes on behind its end')
}

async function readBlock(source: ByteSource, at: number, signal: AbortSignal | undefined): Promise<Buffer> {
  if (!isInside(source, at, BLOCK_BYTES)) throw refuseCut()
  return await source.read(at, BLOCK_BYTES, signal)
}

/** One name without a folder, of characters that can be shown. */
function memberName(header: Buffer): string {
  const field = header.subarray(0, 100)
  const zero = field.indexOf(0)
  const bytes = field.subarray(0, zero === -1 ? 100 : zero)
  const isClean =
    isZero(field.subarray(bytes.length)) &&
    isZero(header.subarray(345, 500)) &&
    isZero(header.subarray(157, 257))
  const name = bytes.toString('utf8')
  // Control and format characters, surrogates, and the sign that stands for bytes that are no UTF-8.
  if (!isClean || name === '' || name === '.' || name === '..' || /[/\\\p{C}\ufffd]/u.test(name)) {
    throw refuseArchive('holds a file whose name leads elsewhere or cannot be written')
  }
  return name
}

/**
 * Octal, or 64 bits with the first bit set where that does not hold it; or what was told before, which may be something
 * else only where the header has no room for it: a reader that ignores the one then finds the same by the other.
 */
function memberSize(header: Buffer, paxSizeBytes: number | undefined): number {
  if (paxSizeBytes !== undefined && paxSizeBytes >= OCTAL_BYTES_MAX) return paxSizeBytes
  const sizeBytes = headerSize(header)
  if (paxSizeBytes !== undefined && paxSizeBytes !== sizeBytes) throw refuseArchive('has a damaged header')
  return sizeBytes
}

function headerSize(header: Buffer): number {
  const field = header.subarray(124, 136)
  if (field[0] === 0x80) {
    if (!isZero(field.subarray(1, 4))) throw refuseArchive('has a damaged header')
    return uint64BE(field, 4)
  }
  const size = octal(header, 124, 12)
  if (size === undefined) throw refuseArchive('has a damaged header')
  return size
}

function octal(block: Buffer, at: number, lengthBytes: number): number | undefined {
  const text = block.toString('latin1', at, at + lengthBytes)
  const digits = /^ *([0-7]{1,12})[ \0]*$/.exec(text)?.[1]
  return digits === undefined ? undefined : Number.parseInt(digits, 8)
}

/** Of all bytes of the header, its own eight taken for blanks. */
function checksum(block: Buffer): number {
  let sum = 0
  for (let index = 0; index < BLOCK_BYTES; index++) {
    sum += index >= 148 && index < 156 ? 0x20 : (block[index] ?? 0)
  }
  return sum
}

function refuseCut() {
  return refuseFile(
    'truncated',
    'The archive was cut short. Compare its size with the original and bring it again.',
  )
}
