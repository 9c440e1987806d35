import type { ByteSource } from './contract.ts'
import { refuseFile } from './contract.ts'
import { isInside, isZero, readInside, refuseTruncated, uint64LE } from './numbers.ts'
import { vhdxChecksum } from './vhdx-checksum.ts'

export const VHDX_UNIT_BYTES = 1024 * 1024
const HEADER_OFFSETS = [0x10000, 0x20000] as const
const HEADER_BYTES = 4096
const TABLE_OFFSETS = [0x30000, 0x40000] as const
const TABLE_BYTES = 0x10000
const ENTRIES_MAX = 2047
const REGION = {
  blocks: '6677c22d23f600429d64115e9bfd4a08',
  metadata: '06a27c8b90479a4bb8fe575f050f886e',
}

export interface VhdxRegion {
  readonly offset: number
  readonly lengthBytes: number
}

export interface VhdxRegions {
  readonly log: VhdxRegion
  readonly blocks: VhdxRegion
  readonly metadata: VhdxRegion
}

/** Checks headers and region tables, both copies of each. Source: Microsoft's [MS-VHDX], 2.2 to 2.4. */
export async function readVhdxRegions(file: ByteSource, signal?: AbortSignal): Promise<VhdxRegions> {
  const log = await readLog(file, signal)
  const { blocks, metadata } = await readTable(file, signal)
  const regions = [log, blocks, metadata]
  for (const region of regions) {
    const isAligned = region.offset % VHDX_UNIT_BYTES === 0 && region.lengthBytes % VHDX_UNIT_BYTES === 0
    if (!isAligned || region.offset < VHDX_UNIT_BYTES) throw refuseVhdx()
    if (!isInside(file, region.offset, region.lengthBytes)) throw refuseTruncated()
    const end = region.offset + region.lengthBytes
    if (
      regions.some(
        (other) => other !== region && other.offset < end && region.offset < other.offset + other.lengthBytes,
      )
    ) {
      throw refuseVhdx()
    }
  }
  return { log, blocks, metadata }
}

/** Of the header that was written last. The other may be older, but not broken: then nobody knows what is missing. */
async function readLog(file: ByteSource, signal?: AbortSignal): Promise<VhdxRegion> {
  const first = await readInside(file, HEADER_OFFSETS[0], HEADER_BYTES, signal)
  const second = await readInside(file, HEADER_OFFSETS[1], HEADER_BYTES, signal)
  for (const header of [first, second]) {
    if (header.toString('latin1', 0, 4) !== 'head' || header.readUInt32LE(4) !== vhdxChecksum(header, 4)) {
      throw refuseVhdx()
    }
    if (header.readUInt16LE(66) !== 1 || header.readUInt16LE(64) !== 0) {
      throw refuseFile(
        'version',
        'This VHDX has a version that is not known here. Write it anew with: Convert-VHD SOURCE.vhdx TARGET.vhdx.',
      )
    }
  }
  const [one, other] = [first.readBigUInt64LE(8), second.readBigUInt64LE(8)]
  // Disk2vhd writes two equal headers; two different ones of one number are no order.
  if (one === other && !first.equals(second)) throw refuseVhdx()
  const header = one >= other ? first : second
  if (!isZero(header.subarray(48, 64))) {
    throw refuseFile(
      'unclean',
      'This VHDX has changes that were not written to their places yet. Mount it once where it came from (Mount-VHD, Dismount-VHD), then bring it again.',
    )
  }
  return { offset: uint64LE(header, 72), lengthBytes: header.readUInt32LE(68) }
}

async function readTable(file: ByteSource, signal?: AbortSignal) {
  const table = await readInside(file, TABLE_OFFSETS[0], TABLE_BYTES, signal)
  const copy = await readInside(file, TABLE_OFFSETS[1], TABLE_BYTES, signal)
  if (!table.equals(copy)) throw refuseVhdx()
  if (table.toString('latin1', 0, 4) !== 'regi' || table.readUInt32LE(4) !== vhdxChecksum(table, 4))
    throw refuseVhdx()
  const count = table.readUInt32LE(8)
  if (count > ENTRIES_MAX) throw refuseVhdx()
  const found = new Map<string, VhdxRegion>()
  for (let at = 16; at < 16 + count * 32; at += 32) {
    const id = table.toString('hex', at, at + 16)
    if (id !== REGION.blocks && id !== REGION.metadata) throw refuseVhdxFeatures()
    if (found.has(id)) throw refuseVhdx()
    // Whether it is required; the other bits are reserved.
    if (table.readUInt32LE(at + 28) > 1) throw refuseVhdxFeatures()
    found.set(id, { offset: uint64LE(table, at + 16), lengthBytes: table.readUInt32LE(at + 24) })
  }
  const blocks = found.get(REGION.blocks)
  const metadata = found.get(REGION.metadata)
  if (blocks === undefined || metadata === undefined) throw refuseVhdx()
  return { blocks, metadata }
}

export function refuseVhdx() {
  return refuseFile(
    'corrupt',
    'This VHDX is damaged: its own checks fail. Write it anew with: Convert-VHD SOURCE.vhdx TARGET.vhdx.',
  )
}

export function refuseVhdxFeatures() {
  return refuseFile(
    'feature-bits',
    'This VHDX says that it needs something that is not known here. Write it anew with: Convert-VHD SOURCE.vhdx TARGET.vhdx.',
  )
}
