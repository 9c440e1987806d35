import { cachedSource } from './cached-source.ts'
import { Claims } from './claims.ts'
import type { ByteSource, FormatInspector, InspectedDisk, InspectionOptions } from './contract.ts'
import { refuseFile } from './contract.ts'
import { checkVirtualSize, isZero, readInside, refuseTruncated, SECTOR_BYTES } from './numbers.ts'
import { readUpTo } from './source.ts'

export const VDI_MARK = 0xbeda107f
const MARK_OFFSET = 64
const VERSION = 0x00010001
const TYPE = { dynamic: 1, fixed: 2, undo: 3, differencing: 4 }
/** "Unused blocks read as zero": so they do here. */
const FLAGS_KNOWN = 0x100
const BLOCK_BYTES = 1024 * 1024
/** 16 TiB; qemu reads the whole map at once. */
const BLOCKS_MAX = 2 ** 24
/** From here on an entry says that there is no block: never written, or given back. */
const NO_BLOCK = 0xfffffffe
const MAP_WINDOW = 16384

export const vdiInspector: FormatInspector = {
  format: 'vdi',
  async matches(source, signal) {
    const head = await readUpTo(source, 0, SECTOR_BYTES, signal)
    return head.length >= MARK_OFFSET + 4 && head.readUInt32LE(MARK_OFFSET) === VDI_MARK
  },
}

/** VirtualBox's own format, version 1.1, dynamic or fixed. Source: VirtualBox's VDICore.h, and what qemu's driver reads. */
export async function inspectVdi(source: ByteSource, options: InspectionOptions): Promise<InspectedDisk> {
  const { signal } = options
  const file = cachedSource(source)
  const header = await readInside(file, 0, SECTOR_BYTES, signal)
  const type = checkHeader(header)
  const virtualBytes = Number(header.readBigUInt64LE(368))
  checkVirtualSize(virtualBytes, options.virtualBytesMax)
  const blockCount = Math.ceil(virtualBytes / BLOCK_BYTES)
  if (header.readUInt32LE(384) !== blockCount || blockCount > BLOCKS_MAX) throw refuseTables()
  await walkMap(file, header, virtualBytes, signal)
  return {
    format: 'vdi',
    offset: 0,
    lengthBytes: source.sizeBytes,
    virtualBytes,
    variant: type === TYPE.fixed ? 'fixed' : 'dynamic',
  }
}

/** Answers the type. */
function checkHeader(header: Buffer): number {
  if (header.readUInt32LE(MARK_OFFSET) !== VDI_MARK) throw refuseTables()
  if (header.readUInt32LE(68) !== VERSION) {
    throw refuseFile(
      'version',
      'This VDI has a version that is not known here (1.1 is). Write it anew with: VBoxManage clonemedium SOURCE.vdi TARGET.vdi.',
    )
  }
  const type = header.readUInt32LE(76)
  // Ids of the file that this one is linked with, and of its parent.
  if (type === TYPE.undo || type === TYPE.differencing || !isZero(header.subarray(424, 456))) {
    throw refuseFile(
      'parent',
      'This VDI holds only what differs from another one. Flatten it first: VBoxManage clonemedium SOURCE.vdi TARGET.vdi.',
    )
  }
  const headerBytes = header.readUInt32LE(72)
  const isKnown =
    (type === TYPE.dynamic || type === TYPE.fixed) &&
    (header.readUInt32LE(80) & ~FLAGS_KNOWN) === 0 &&
    headerBytes >= 0x180 &&
    headerBytes <= SECTOR_BYTES - 72
  if (!isKnown) {
    throw refuseFile(
      'feature-bits',
      'This VDI says that it uses something that is not known here. Write it anew with: VBoxManage clonemedium SOURCE.vdi TARGET.vdi --format VDI.',
    )
  }
  const blockExtraBytes = header.readUInt32LE(380)
  if (
    header.readUInt32LE(360) !== SECTOR_BYTES ||
    header.readUInt32LE(376) !== BLOCK_BYTES ||
    blockExtraBytes !== 0
  ) {
    throw refuseFile(
      'unsupported',
      'This VDI has sectors or blocks of a size that is not read here. Write it anew with: VBoxManage clonemedium SOURCE.vdi TARGET.img --format RAW.',
    )
  }
  return type
}

/** Each block of the map is inside the file, behind the map, and used once. */
async function walkMap(
  file: ByteSource,
  header: Buffer,
  virtualBytes: number,
  signal?: AbortSignal,
): Promise<void> {
  const blockCount = header.readUInt32LE(384)
  const mapOffset = header.readUInt32LE(340)
  const dataOffset = header.readUInt32LE(344)
  if (mapOffset % SECTOR_BYTES !== 0 || dataOffset % SECTOR_BYTES !== 0) throw refuseTables()
  if (mapOffset < SECTOR_BYTES || mapOffset + blockCount * 4 > dataOffset) throw refuseTables()
  if (dataOffset > file.sizeBytes) throw refuseTruncated()
  const claims = new Claims(Math.ceil((file.sizeBytes - dataOffset) / BLOCK_BYTES))
  let takenCount = 0
  for (let first = 0; first < blockCount; first += MAP_WINDOW) {
    const count = Math.min(MAP_WINDOW, blockCount - first)
    const map = await readInside(file, mapOffset + first * 4, count * 4, signal)
    for (let index = 0; index < count; index++) {
      const place = map.readUInt32LE(index * 4)
      if (place >= NO_BLOCK) continue
      if (place >= blockCount) throw refuseTables()
      const neededBytes = Math.min(BLOCK_BYTES, virtualBytes - (first + index) * BLOCK_BYTES)
      if (dataOffset + place * BLOCK_BYTES + neededBytes > file.sizeBytes) throw refuseTruncated()
      if (!claims.claim(place)) throw refuseTables()
      takenCount += 1
    }
  }
  if (header.readUInt32LE(388) !== takenCount) throw refuseTables()
}

function refuseTables() {
  return refuseFile(
    'tables',
    'The map of this VDI does not fit its disk or its file: it is damaged, or made to do harm. Write it anew with: VBoxManage clonemedium SOURCE.vdi TARGET.vdi.',
  )
}
