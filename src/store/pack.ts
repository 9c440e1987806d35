import assert from 'node:assert/strict'
import { crc32 } from 'node:zlib'
import { Fault } from '../image/fault.ts'
import type { DomainId, PackId } from '../image/ids.ts'
import type { ObjectStore } from '../objects/contract.ts'
import { ID_BYTES } from './hashes.ts'
import { findDomainId, packName } from './names.ts'
import { pageMemory } from './page-memory.ts'

/** Source of everything here: docs/format.md, "Pack". */
export const PACK_BYTES_DEFAULT = 32 * 1024 * 1024
export const PACK_HEADER_BYTES = 64
export const PACK_ENTRIES_MAX = 16_384
const ENTRY_BYTES = ID_BYTES + 16
const TRAILER_BYTES = 24
/** Smaller packs are not worth a reservation of address space. */
const PAGED_BYTES_MIN = 4 * 1024 * 1024
const MAGIC = Buffer.from('CALOPACK', 'latin1')
const MAGIC_END = Buffer.from('CALOFOOT', 'latin1')
const VERSION = 1
const HASH_BLAKE3 = 1

/** The length of a whole pack whose last chunk ends at `end`. */
export function packBytesOf(end: number, count: number): number {
  return end + count * ENTRY_BYTES + TRAILER_BYTES
}

/** One chunk in a pack. `offset` counts from the pack's first byte. */
export interface PackEntry {
  readonly id: Buffer
  readonly offset: number
  readonly storedBytes: number
  readonly plainBytes: number
  readonly crc32: number
}

/** What a pack says of itself. */
export interface PackContent {
  readonly domain: DomainId
  readonly sizeBytes: number
  readonly entries: readonly PackEntry[]
}

/** A pack under construction in one buffer that is used again and again. */
export class PackBuffer {
  readonly #bytes: Buffer
  readonly #targetBytes: number
  readonly #domain: DomainId
  #end = PACK_HEADER_BYTES
  entries: PackEntry[] = []

  constructor(domain: DomainId, targetBytes: number, chunkBytes: number) {
    assert(targetBytes >= PACK_HEADER_BYTES)
    this.#domain = domain
    this.#targetBytes = targetBytes
    const footerBytes = PACK_ENTRIES_MAX * ENTRY_BYTES + TRAILER_BYTES
    const lengthBytes = targetBytes + chunkBytes + 1024 + footerBytes
    this.#bytes =
      targetBytes < PAGED_BYTES_MIN ? Buffer.allocUnsafeSlow(lengthBytes) : pageMemory(lengthBytes)
    headerOf(domain).copy(this.#bytes)
  }

  get domain(): DomainId {
    return this.#domain
  }

  /** True when the pack has reached its target and wants to be sealed. */
  get isFull(): boolean {
    return this.#end >= this.#targetBytes || this.entries.length === PACK_ENTRIES_MAX
  }

  /** Adds a chunk that `write` puts into the pack's own bytes at the offset given, answering its length. */
  add(id: Buffer, plainBytes: number, write: (target: Buffer, offset: number) => number): PackEntry {
    assert(!this.isFull)
    const offset = this.#end
    const storedBytes = write(this.#bytes, offset)
    this.#end += storedBytes
    const checksum = crc32(this.#bytes.subarray(offset, offset + storedBytes))
    const entry = { id, offset, storedBytes, plainBytes, crc32: checksum }
    this.entries.push(entry)
    return entry
  }

  /** The whole pack with its footer: a view of the buffer, good until `reset`. */
  seal(): Buffer {
    assert(this.entries.length > 0)
    let at = this.#end
    for (const entry of this.entries) {
      entry.id.copy(this.#bytes, at)
      this.#bytes.writeUInt32LE(entry.offset, at + ID_BYTES)
      this.#bytes.writeUInt32LE(entry.storedBytes, at + ID_BYTES + 4)
      this.#bytes.writeUInt32LE(entry.plainBytes, at + ID_BYTES + 8)
      this.#bytes.writeUInt32LE(entry.crc32, at + ID_BYTES + 12)
      at += ENTRY_BYTES
    }
    const footer = this.#bytes.subarray(this.#end, at)
    this.#bytes.writeUInt32LE(this.entries.length, at)
    this.#bytes.writeUInt32LE(footer.length, at + 4)
    this.#bytes.writeUInt32LE(crc32(footer), at + 8)
    this.#bytes.writeUInt32LE(crc32(this.#bytes.subarray(at, at + 12)), at + 12)
    MAGIC_END.copy(this.#bytes, at + 16)
    return this.#bytes.subarray(0, at + TRAILER_BYTES)
  }

  /** Bytes it holds so far. */
  get sizeBytes(): number {
    return this.#end
  }

  /** Takes over what another pack of the same kind holds so far; this one must be empty, the other one is afterwards. */
  takeFrom(other: PackBuffer): void {
    assert(this.entries.length === 0 && other.domain === this.#domain)
    other.#bytes.copy(this.#bytes, PACK_HEADER_BYTES, PACK_HEADER_BYTES, other.#end)
    this.#end = other.#end
    this.entries = other.entries
    other.reset()
  }

  reset(): void {
    this.#end = PACK_HEADER_BYTES
    this.entries = []
  }
}

function headerOf(domain: DomainId): Buffer {
  const header = Buffer.alloc(PACK_HEADER_BYTES)
  MAGIC.copy(header)
  header[8] = VERSION
  header[9] = HASH_BLAKE3
  header.write(domain, 16, 'latin1')
  return header
}

/** Reads header and footer of a pack, not its chunks. Throws Fault 'absent', or 'corrupt' naming the pack. */
export async function readPackContent(
  objects: Pick<ObjectStore, 'size' | 'get'>,
  id: PackId,
  signal?: AbortSignal,
): Promise<PackContent> {
  const name = packName(id)
  const sizeBytes = await objects.size(name, signal)
  if (sizeBytes === undefined) throw new Fault('absent', `There is no pack ${id}.`, { subject: 'store' })
  if (sizeBytes < PACK_HEADER_BYTES + TRAILER_BYTES) throw damaged(id, 'is too short')
  const header = await objects.get(name, 0, PACK_HEADER_BYTES, signal)
  // One read is enough for a pack of the usual 130 to 500 chunks.
  const tailBytes = Math.min(sizeBytes - PACK_HEADER_BYTES, 32 * 1024)
  let tail = await objects.get(name, sizeBytes - tailBytes, tailBytes, signal)
  const footerBytes = footerBytesOf(id, tail, sizeBytes)
  if (footerBytes + TRAILER_BYTES > tail.length) {
    const wantedBytes = footerBytes + TRAILER_BYTES
    tail = await objects.get(name, sizeBytes - wantedBytes, wantedBytes, signal)
  }
  return parsePack(id, header, tail, sizeBytes)
}

/** As `readPackContent`, for a pack that is in memory as a whole. */
export function parsePackContent(id: PackId, bytes: Buffer): PackContent {
  if (bytes.length < PACK_HEADER_BYTES + TRAILER_BYTES) throw damaged(id, 'is too short')
  return parsePack(id, bytes.subarray(0, PACK_HEADER_BYTES), bytes, bytes.length)
}

function damaged(id: PackId, how: string): Fault {
  return new Fault('corrupt', `Pack ${id} ${how}.`, { subject: 'store' })
}

function footerBytesOf(id: PackId, tail: Buffer, sizeBytes: number): number {
  const trailer = tail.subarray(tail.length - TRAILER_BYTES)
  if (!trailer.subarray(16).equals(MAGIC_END)) throw damaged(id, 'does not end as a pack')
  if (trailer.readUInt32LE(12) !== crc32(trailer.subarray(0, 12))) throw damaged(id, 'has a damaged trailer')
  const count = trailer.readUInt32LE(0)
  const footerBytes = trailer.readUInt32LE(4)
  if (
    count === 0 ||
    count > PACK_ENTRIES_MAX ||
    footerBytes !== count * ENTRY_BYTES ||
    footerBytes + TRAILER_BYTES + PACK_HEADER_BYTES > sizeBytes
  ) {
    throw damaged(id, 'has an impossible footer')
  }
  return footerBytes
}

function parsePack(id: PackId, header: Buffer, tail: Buffer, sizeBytes: number): PackContent {
  if (!header.subarray(0, 8).equals(MAGIC)) throw damaged(id, 'does not begin as a pack')
  if (header[8] !== VERSION || header[9] !== HASH_BLAKE3) throw damaged(id, 'is of an unknown version')
  const domainEnd = header.indexOf(0, 16)
  const text = header.toString('latin1', 16, domainEnd < 0 ? PACK_HEADER_BYTES : domainEnd)
  const domain = findDomainId(text)
  if (domain === undefined || !headerOf(domain).equals(header)) throw damaged(id, 'has a damaged header')
  const footerBytes = footerBytesOf(id, tail, sizeBytes)
  const footer = tail.subarray(tail.length - TRAILER_BYTES - footerBytes, tail.length - TRAILER_BYTES)
  if (tail.readUInt32LE(tail.length - TRAILER_BYTES + 8) !== crc32(footer)) {
    throw damaged(id, 'has a damaged footer')
  }
  const entries: PackEntry[] = []
  let end = PACK_HEADER_BYTES
  for (let at = 0; at < footer.length; at += ENTRY_BYTES) {
    const entry = {
      id: Buffer.from(footer.subarray(at, at + ID_BYTES)),
      offset: footer.readUInt32LE(at + ID_BYTES),
      storedBytes: footer.readUInt32LE(at + ID_BYTES + 4),
      plainBytes: footer.readUInt32LE(at + ID_BYTES + 8),
      crc32: footer.readUInt32LE(at + ID_BYTES + 12),
    }
    if (entry.offset !== end) throw damaged(id, 'has chunks that do not follow each other')
    end += entry.storedBytes
    entries.push(entry)
  }
  if (end + footerBytes + TRAILER_BYTES !== sizeBytes) throw damaged(id, 'has bytes that belong to no chunk')
  return { domain, sizeBytes, entries }
}
