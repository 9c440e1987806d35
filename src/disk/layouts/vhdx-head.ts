import { crc32c } from './crc32c.ts'
import { idFrom } from './seed.ts'

// Source: [MS-VHDX], sections 2.2 and 2.6.

const KIB = 1024
const SECTION_BYTES = 64 * KIB
const HEADER_BYTES = 4 * KIB
export const LOG_BYTES = 1024 * KIB
export const METADATA_BYTES = 1024 * KIB
const LOG_AT = 1024 * KIB
const METADATA_AT = LOG_AT + LOG_BYTES
/** Items lie behind the table of them, in the metadata region. */
const ITEMS_AT = SECTION_BYTES
const SECTOR_BYTES = 512

const REGION_BAT = '2dc27766-f623-4200-9d64-115e9bfd4a08'
const REGION_METADATA = '8b7ca206-4790-4b9a-b8fe-575f050f886e'
const ITEM_FILE_PARAMETERS = 'caa16737-fa36-4d43-b3b6-33f0aa44e76b'
const ITEM_DISK_SIZE = '2fa54224-cd1b-4876-b211-5dbed83bf4b8'
const ITEM_DISK_ID = 'beca12ab-b2e6-4523-93ef-c309e000c746'
const ITEM_LOGICAL_SECTOR = '8141bf1d-a96f-4709-ba47-f233a8faab5f'
const ITEM_PHYSICAL_SECTOR = 'cda348c7-445d-4471-9cc9-e9885251c556'
const OF_THE_DISK = 2
const REQUIRED = 4

/** The first sections: what the file is, both headers, both lists of regions. No entry of a log waits to be replayed. */
export function vhdxHead(facts: {
  readonly seed: Uint8Array
  readonly tableAt: number
  readonly tableBytes: number
}): Buffer {
  const identifier = Buffer.alloc(SECTION_BYTES)
  identifier.write('vhdxfile', 0, 'latin1')
  identifier.write('Calotype', 8, 'utf16le')
  const regions = regionTable(facts)
  return Buffer.concat([identifier, header(facts.seed, 1), header(facts.seed, 2), regions, regions])
}

/** The newer of two is the one with the higher sequence number. */
function header(seed: Uint8Array, sequence: number): Buffer {
  const bytes = Buffer.alloc(SECTION_BYTES)
  bytes.write('head', 0, 'latin1')
  bytes.writeBigUInt64LE(BigInt(sequence), 8)
  bytes.set(randomGuid(seed, 'file write'), 16)
  bytes.set(randomGuid(seed, 'data write'), 32)
  // The log's id at 48 is zero: the log is empty.
  bytes.writeUInt16LE(1, 66)
  bytes.writeUInt32LE(LOG_BYTES, 68)
  bytes.writeBigUInt64LE(BigInt(LOG_AT), 72)
  bytes.writeUInt32LE(crc32c(bytes.subarray(0, HEADER_BYTES)), 4)
  return bytes
}

function regionTable({ tableAt, tableBytes }: { tableAt: number; tableBytes: number }): Buffer {
  const bytes = Buffer.alloc(SECTION_BYTES)
  const regions = [
    { id: REGION_BAT, at: tableAt, lengthBytes: tableBytes },
    { id: REGION_METADATA, at: METADATA_AT, lengthBytes: METADATA_BYTES },
  ]
  bytes.write('regi', 0, 'latin1')
  bytes.writeUInt32LE(regions.length, 8)
  for (const [i, { id, at, lengthBytes }] of regions.entries()) {
    const entry = 16 + i * 32
    bytes.set(guid(id), entry)
    bytes.writeBigUInt64LE(BigInt(at), entry + 16)
    bytes.writeUInt32LE(lengthBytes, entry + 24)
    bytes.writeUInt32LE(1, entry + 28)
  }
  bytes.writeUInt32LE(crc32c(bytes), 4)
  return bytes
}

/** The start of the metadata region: the table, and what is known of the disk. */
export function vhdxMetadata(facts: {
  readonly seed: Uint8Array
  readonly sizeBytes: number
  readonly blockBytes: number
}): Buffer {
  const bytes = Buffer.alloc(ITEMS_AT + HEADER_BYTES)
  const size = Buffer.alloc(8)
  size.writeBigUInt64LE(BigInt(facts.sizeBytes))
  const items = [
    // Without a parent, and blocks need not stay allocated.
    { id: ITEM_FILE_PARAMETERS, flags: REQUIRED, bytes: words(facts.blockBytes, 0) },
    { id: ITEM_DISK_SIZE, flags: REQUIRED | OF_THE_DISK, bytes: size },
    { id: ITEM_DISK_ID, flags: REQUIRED | OF_THE_DISK, bytes: randomGuid(facts.seed, 'disk') },
    { id: ITEM_LOGICAL_SECTOR, flags: REQUIRED | OF_THE_DISK, bytes: words(SECTOR_BYTES) },
    { id: ITEM_PHYSICAL_SECTOR, flags: REQUIRED | OF_THE_DISK, bytes: words(SECTOR_BYTES) },
  ]
  bytes.write('metadata', 0, 'latin1')
  bytes.writeUInt16LE(items.length, 10)
  let at = ITEMS_AT
  for (const [i, item] of items.entries()) {
    const entry = 32 + i * 32
    bytes.set(guid(item.id), entry)
    bytes.writeUInt32LE(at, entry + 16)
    bytes.writeUInt32LE(item.bytes.length, entry + 20)
    bytes.writeUInt32LE(item.flags, entry + 24)
    bytes.set(item.bytes, at)
    at += item.bytes.length
  }
  return bytes
}

function words(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4)
  for (const [i, value] of values.entries()) bytes.writeUInt32LE(value, i * 4)
  return bytes
}

/** As Windows writes it: the first three groups have their bytes the other way round. */
function guid(text: string): Buffer {
  const bytes = Buffer.from(text.replaceAll('-', ''), 'hex')
  bytes.subarray(0, 4).reverse()
  bytes.subarray(4, 6).reverse()
  bytes.subarray(6, 8).reverse()
  return bytes
}

/** Of version 4, as random ones are. */
function randomGuid(seed: Uint8Array, use: string): Buffer {
  const bytes = Buffer.from(idFrom(seed, use))
  bytes[7] = ((bytes[7] as number) & 0x0f) | 0x40
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80
  return bytes
}
