import type { Medium } from './contract.ts'
import type { ProbeWindow } from './probe-window.ts'
import { isInside } from './slice.ts'

const SECTOR_BYTES = 512
const RAID_MAGIC = 0xa92b4efc
const DRBD_MAGICS: readonly number[] = [0x8374026b, 0x8374026c, 0x8374026d]

/** Titles of what a medium is a member of. Some of it is written at the end, where the start looks like a file system. */
export async function findMember(medium: Medium, window: ProbeWindow): Promise<readonly string[]> {
  const titles = new Set<string>()
  if (isRaidHeader(window.bytes(0, 256), 0) || isRaidHeader(window.bytes(4096, 256), 8))
    titles.add('Linux RAID')
  for (const title of await findMemberAtEnd(medium)) titles.add(title)
  return [...titles]
}

/** Of a medium's end alone: for a disk whose start is a partition table. */
export async function findMemberAtEnd(medium: Medium): Promise<readonly string[]> {
  const titles = new Set<string>()
  const sectors = Math.floor(medium.sizeBytes / SECTOR_BYTES)
  const read = async (offset: number, lengthBytes: number): Promise<Buffer | undefined> =>
    isInside(medium.sizeBytes, offset, lengthBytes) ? await medium.read(offset, lengthBytes) : undefined
  // Superblock 1.0: 8 KiB before the end at least, on a boundary of 4 KiB. Source: Documentation/admin-guide/md.rst.
  const last = sectors - 16 - ((sectors - 16) % 8)
  if (isRaidHeader(await read(last * SECTOR_BYTES, 256), last)) titles.add('Linux RAID')
  // Superblock 0.90: in the last whole 64 KiB, in the byte order of the machine.
  const old = await read(medium.sizeBytes - (medium.sizeBytes % 65536) - 65536, 12)
  if (old !== undefined && isOldRaidHeader(old)) titles.add('Linux RAID')
  const drbd = await read(medium.sizeBytes - (medium.sizeBytes % 4096) - 4096, 64)
  if (drbd !== undefined && DRBD_MAGICS.includes(drbd.readUInt32BE(60))) titles.add('DRBD')
  const intel = await read((sectors - 2) * SECTOR_BYTES, 24)
  if (intel?.toString('latin1') === 'Intel Raid ISM Cfg Sig. ') titles.add("a RAID of the machine's firmware")
  const ddf = await read((sectors - 1) * SECTOR_BYTES, 4)
  if (ddf?.toString('hex') === 'de11de11' || ddf?.toString('hex') === '11de11de') {
    titles.add("a RAID of the machine's firmware")
  }
  return [...titles]
}

/** Version 1, and it says itself in which sector it lies. */
function isRaidHeader(bytes: Buffer | undefined, sector: number): boolean {
  return (
    bytes !== undefined &&
    bytes.readUInt32LE(0) === RAID_MAGIC &&
    bytes.readUInt32LE(4) === 1 &&
    Number(bytes.readBigUInt64LE(144)) === sector
  )
}

function isOldRaidHeader(bytes: Buffer): boolean {
  const isLittle = bytes.readUInt32LE(0) === RAID_MAGIC && bytes.readUInt32LE(4) === 0
  const isBig = bytes.readUInt32BE(0) === RAID_MAGIC && bytes.readUInt32BE(4) === 0
  return isLittle || isBig
}
