import { createHash, type Hash } from 'node:crypto'
import type { ObjectName } from '../../objects/names.ts'
import { ID_BYTES } from '../hashes.ts'
import { PAGE_BYTES } from '../map.ts'
import { imageName, packName, pageName, signatureName } from '../names.ts'
import { PACK_ENTRIES_MAX, PACK_HEADER_BYTES } from '../pack.ts'
import { damagedBundle, refuseBundle } from './fault.ts'

/** Source of everything here: docs/format.md, "Bundle". */
export const BUNDLE_MARK = Buffer.from('CALOBNDL', 'latin1')
const MARK_END = Buffer.from('CALOBEND', 'latin1')
const VERSION = 1
export const HEAD_BYTES = 16
export const TRAILER_BYTES = 120
/** What of the trailer is signed: all before the signature. */
const SIGNED_TRAILER_BYTES = 48
const RECORD_BYTES = 80

export const STATEMENT_BYTES_MAX = 1024 * 1024
/** 4 TiB of packs of the size that we make, and 40 MiB of index. */
const RECORDS_MAX = 512 * 1024
/** A bundle's packs are small: both sides keep them in memory, one of each domain. */
export const BUNDLE_PACK_BYTES = 8 * 1024 * 1024
const PACK_BYTES_MAX = 64 * 1024 * 1024
const IMAGE_BYTES_MAX = 64 * 1024 * 1024
const SIGNATURE_BYTES_MAX = 4096

const KINDS = ['image', 'signature', 'page', 'pack'] as const
export type RecordKind = (typeof KINDS)[number]

/** One object in a bundle. */
export interface BundleRecord {
  readonly kind: RecordKind
  /** Hex: digest of the image (of its signature, too), page id, pack id. */
  readonly id: string
  /** Of a pack: how many chunks it holds. */
  readonly entryCount: number
  readonly lengthBytes: number
  /** Hex: SHA-256 of the object; of a pack, of its header and what stands behind its chunks. */
  readonly check: string
}

export interface PlacedRecord extends BundleRecord {
  /** From the file's first byte. */
  readonly offset: number
}

export interface Trailer {
  readonly totalBytes: number
  readonly statementBytes: number
  readonly recordCount: number
  /** Hex of an Ed25519 key. */
  readonly signer: string
}

export function encodeHead(): Buffer {
  const head = Buffer.alloc(HEAD_BYTES)
  BUNDLE_MARK.copy(head)
  head.writeUInt32LE(VERSION, 8)
  return head
}

/** Throws Fault 'invalid' unless a bundle of a version that we know begins so. */
export function checkHead(head: Buffer): void {
  if (!head.subarray(0, 8).equals(BUNDLE_MARK)) throw damagedBundle()
  if (head.readUInt32LE(8) !== VERSION) {
    throw refuseBundle('version', 'The bundle is of a later version. Update this installation first.')
  }
  if (!head.equals(encodeHead())) throw damagedBundle()
}

export function encodeRecords(records: readonly BundleRecord[]): Buffer {
  const bytes = Buffer.alloc(records.length * RECORD_BYTES)
  for (const [i, { kind, id, entryCount, lengthBytes, check }] of records.entries()) {
    const at = i * RECORD_BYTES
    bytes[at] = KINDS.indexOf(kind) + 1
    bytes.writeUInt32LE(entryCount, at + 4)
    bytes.writeBigUInt64LE(BigInt(lengthBytes), at + 8)
    bytes.write(id, at + 16, 'hex')
    bytes.write(check, at + 16 + ID_BYTES, 'hex')
  }
  return bytes
}

/** Throws Fault 'invalid' for what no writer writes: of any of them a reader has to know how long it may be. */
export function parseRecords(bytes: Buffer): BundleRecord[] {
  const records: BundleRecord[] = []
  for (let at = 0; at < bytes.length; at += RECORD_BYTES) {
    const kind = KINDS[(bytes[at] as number) - 1]
    const lengthBytes = Number(bytes.readBigUInt64LE(at + 8))
    const entryCount = bytes.readUInt32LE(at + 4)
    if (kind === undefined || bytes.readUIntLE(at + 1, 3) !== 0) throw damagedBundle()
    if (!isPossible(kind, lengthBytes, entryCount)) throw damagedBundle()
    const id = bytes.toString('hex', at + 16, at + 16 + ID_BYTES)
    const check = bytes.toString('hex', at + 16 + ID_BYTES, at + RECORD_BYTES)
    if ((kind === 'image' || kind === 'page') && check !== id) throw damagedBundle()
    records.push({ kind, id, entryCount, lengthBytes, check })
  }
  return records
}

function isPossible(kind: RecordKind, lengthBytes: number, entryCount: number): boolean {
  if (kind === 'pack') {
    const overheadBytes = PACK_HEADER_BYTES + tableBytesOf(entryCount)
    const isCounted = entryCount > 0 && entryCount <= PACK_ENTRIES_MAX
    return isCounted && lengthBytes > overheadBytes && lengthBytes <= PACK_BYTES_MAX
  }
  if (entryCount !== 0 || lengthBytes === 0) return false
  if (kind === 'page') return lengthBytes === PAGE_BYTES
  return lengthBytes <= (kind === 'image' ? IMAGE_BYTES_MAX : SIGNATURE_BYTES_MAX)
}

/** What stands behind the chunks of a pack: its footer and trailer. Source: docs/format.md, "Pack". */
export function tableBytesOf(entryCount: number): number {
  return entryCount * (ID_BYTES + 16) + 24
}

export function recordsBytesOf(recordCount: number): number {
  return recordCount * RECORD_BYTES
}

export function nameOf({ kind, id }: BundleRecord): ObjectName {
  switch (kind) {
    case 'image':
      return imageName(id as Parameters<typeof imageName>[0])
    case 'signature':
      return signatureName(id as Parameters<typeof signatureName>[0])
    case 'page':
      return pageName(id as Parameters<typeof pageName>[0])
    case 'pack':
      return packName(id as Parameters<typeof packName>[0])
    default:
      return kind satisfies never
  }
}

/** Begins the digest that is signed, which goes on with statement, index and trailer. */
export function beginDigest(head: Buffer): Hash {
  return createHash('sha256').update(head)
}

/** The bytes under a signature. `trailer`: whole, or at least its signed part. */
export function signedBytes(digest: Hash, trailer: Buffer): Buffer {
  const whole = digest.update(trailer.subarray(0, SIGNED_TRAILER_BYTES)).digest()
  return Buffer.concat([Buffer.from('calotype bundle 1'), whole])
}

/** The trailer without its signature, whose place is empty. */
export function encodeTrailer({ totalBytes, statementBytes, recordCount, signer }: Trailer): Buffer {
  const trailer = Buffer.alloc(TRAILER_BYTES)
  trailer.writeBigUInt64LE(BigInt(totalBytes))
  trailer.writeUInt32LE(statementBytes, 8)
  trailer.writeUInt32LE(recordCount, 12)
  trailer.write(signer, 16, 'hex')
  MARK_END.copy(trailer, TRAILER_BYTES - MARK_END.length)
  return trailer
}

export function putSignature(trailer: Buffer, signature: Buffer): void {
  signature.copy(trailer, SIGNED_TRAILER_BYTES)
}

/** Throws Fault 'invalid' unless it ends a bundle of `sizeBytes` that can be what it says. */
export function parseTrailer(
  bytes: Buffer,
  sizeBytes: number,
): Trailer & { readonly signature: Buffer; readonly signerRaw: Buffer } {
  if (!bytes.subarray(TRAILER_BYTES - MARK_END.length).equals(MARK_END)) throw cutShort()
  const total = bytes.readBigUInt64LE()
  if (total !== BigInt(sizeBytes)) throw cutShort()
  const statementBytes = bytes.readUInt32LE(8)
  const recordCount = bytes.readUInt32LE(12)
  if (statementBytes === 0 || statementBytes > STATEMENT_BYTES_MAX) throw damagedBundle()
  if (recordCount < 2) throw damagedBundle()
  if (recordCount > RECORDS_MAX) throw tooLarge()
  if (HEAD_BYTES + statementBytes + recordsBytesOf(recordCount) + TRAILER_BYTES > sizeBytes) {
    throw damagedBundle()
  }
  const signerRaw = bytes.subarray(16, 16 + 32)
  const signature = bytes.subarray(SIGNED_TRAILER_BYTES, SIGNED_TRAILER_BYTES + 64)
  const signer = signerRaw.toString('hex')
  return { totalBytes: sizeBytes, statementBytes, recordCount, signer, signerRaw, signature }
}

/** True where one more object would make a file that no reader takes. */
export function isTooMany(recordCount: number): boolean {
  return recordCount > RECORDS_MAX
}

export function tooLarge() {
  return refuseBundle(
    'too-large',
    'The bundle holds more than one bundle may. Carry the image over in steps: its parent images first, then it with a new inventory.',
  )
}

export function cutShort() {
  return refuseBundle(
    'truncated',
    'The bundle is not whole: its end is missing or something was added. Copy the file again.',
  )
}
