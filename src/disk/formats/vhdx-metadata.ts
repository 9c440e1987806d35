import type { ByteSource } from './contract.ts'
import { refuseFile } from './contract.ts'
import { readInside, uint64LE } from './numbers.ts'
import { refuseVhdx, refuseVhdxFeatures, type VhdxRegion } from './vhdx-regions.ts'

const TABLE_BYTES = 0x10000
const ENTRIES_MAX = 2047
const REQUIRED = 1 << 2
const LEAVE_ALLOCATED = 1 << 0
const HAS_PARENT = 1 << 1
const BLOCK_BYTES_MIN = 1024 * 1024
const BLOCK_BYTES_MAX = 256 * 1024 * 1024

/** Items by their ids, as they are in the file, with the bytes each has. */
const ITEM = {
  parameters: { id: '3767a1ca36fa434db3b633f0aa44e76b', lengthBytes: 8 },
  virtualSize: { id: '2442a52f1bcd7648b2115dbed83bf4b8', lengthBytes: 8 },
  page83: { id: 'ab12cabee6b2234593efc309e000c746', lengthBytes: 16 },
  logicalSector: { id: '1dbf41816fa90947ba47f233a8faab5f', lengthBytes: 4 },
  physicalSector: { id: 'c748a3cd5d4471449cc9e9885251c556', lengthBytes: 4 },
  parentLocator: { id: '2d5fd3a80bb34d45abf7d3d84834ab0c' },
}

export interface VhdxParameters {
  readonly virtualBytes: number
  readonly blockBytes: number
  readonly isFixed: boolean
}

/** What the metadata region says of the disk. Source: [MS-VHDX] 2.6. */
export async function readVhdxParameters(
  file: ByteSource,
  region: VhdxRegion,
  signal?: AbortSignal,
): Promise<VhdxParameters> {
  const items = await readItems(file, region, signal)
  if (items.has(ITEM.parentLocator.id)) throw refuseVhdxParent()
  const read = async ({ id, lengthBytes }: { id: string; lengthBytes: number }): Promise<Buffer> => {
    const item = items.get(id)
    if (item === undefined || item.lengthBytes !== lengthBytes) throw refuseVhdx()
    return await readInside(file, region.offset + item.offset, lengthBytes, signal)
  }
  const parameters = await read(ITEM.parameters)
  const flags = parameters.readUInt32LE(4)
  if ((flags & HAS_PARENT) !== 0) throw refuseVhdxParent()
  if ((flags & ~LEAVE_ALLOCATED) !== 0) throw refuseVhdxFeatures()
  const blockBytes = parameters.readUInt32LE(0)
  if (blockBytes < BLOCK_BYTES_MIN || blockBytes > BLOCK_BYTES_MAX || (blockBytes & (blockBytes - 1)) !== 0) {
    throw refuseVhdx()
  }
  await read(ITEM.page83)
  const logicalBytes = (await read(ITEM.logicalSector)).readUInt32LE(0)
  const physicalBytes = (await read(ITEM.physicalSector)).readUInt32LE(0)
  if (![512, 4096].includes(physicalBytes)) throw refuseVhdx()
  // qemu opens none of these.
  if (logicalBytes === 4096) {
    throw refuseFile(
      'unsupported',
      'This VHDX has sectors of 4096 bytes, and a system on it would not start from others. Convert it to raw where it came from, if that is what you want.',
    )
  }
  if (logicalBytes !== 512) throw refuseVhdx()
  return {
    virtualBytes: uint64LE(await read(ITEM.virtualSize), 0),
    blockBytes,
    isFixed: (flags & LEAVE_ALLOCATED) !== 0,
  }
}

/** Places inside the region, behind the table; each item once. */
async function readItems(file: ByteSource, region: VhdxRegion, signal?: AbortSignal) {
  if (region.lengthBytes < TABLE_BYTES) throw refuseVhdx()
  const table = await readInside(file, region.offset, TABLE_BYTES, signal)
  const count = table.readUInt16LE(10)
  if (table.toString('latin1', 0, 8) !== 'metadata' || count > ENTRIES_MAX) throw refuseVhdx()
  const known = new Set(Object.values(ITEM).map((item) => item.id))
  const items = new Map<string, VhdxRegion>()
  for (let at = 32; at < 32 + count * 32; at += 32) {
    const id = table.toString('hex', at, at + 16)
    const offset = table.readUInt32LE(at + 16)
    const lengthBytes = table.readUInt32LE(at + 20)
    if (!known.has(id)) {
      // Notes of a program or of a user: nobody has to know them, and nobody here reads them.
      if ((table.readUInt32LE(at + 24) & REQUIRED) !== 0) throw refuseVhdxFeatures()
      continue
    }
    if (items.has(id) || offset < TABLE_BYTES || offset + lengthBytes > region.lengthBytes) throw refuseVhdx()
    items.set(id, { offset, lengthBytes })
  }
  return items
}

function refuseVhdxParent() {
  return refuseFile(
    'parent',
    'This VHDX holds only what differs from another one. Merge it into its parent first: Merge-VHD, or Convert-VHD SOURCE.vhdx TARGET.vhdx.',
  )
}
