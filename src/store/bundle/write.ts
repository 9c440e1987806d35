import assert from 'node:assert/strict'
import { isFault } from '../../image/fault.ts'
import type { Digest, PageId } from '../../image/ids.ts'
import { boundOf } from '../bound.ts'
import { ClaimTable, newClaims } from '../claims.ts'
import { ID_BYTES, isZeroId, sha256 } from '../hashes.ts'
import { encodeImage, type ImageContent } from '../image.ts'
import { inOrder } from '../in-order.ts'
import { PAGE_IDS, readPage, ZERO_PAGE } from '../map.ts'
import { pageName } from '../names.ts'
import { OpenDomain } from '../open-domain.ts'
import { PACK_HEADER_BYTES, type PackBuffer } from '../pack.ts'
import type { RegionStore } from '../region.ts'
import { checkSignature, readSignature } from '../signature.ts'
import { DiskData } from './disk-data.ts'
import type { BundleKeys } from './keys.ts'
import {
  BUNDLE_PACK_BYTES,
  type BundleRecord,
  beginDigest,
  encodeHead,
  encodeRecords,
  encodeTrailer,
  isTooMany,
  putSignature,
  signedBytes,
  TRAILER_BYTES,
  tableBytesOf,
  tooLarge,
} from './layout.ts'
import { ChunkPacker } from './missing-chunks.ts'
import { encodeStatement, LABEL_CHARS_MAX, sealSecrets } from './statement.ts'

export interface BundleOptions {
  readonly region: RegionStore
  readonly digest: Digest
  /** Map pages that the other side holds with all their chunks. Those that this region does not know tell it nothing. */
  readonly heldPages: readonly PageId[]
  /** Hex of the X25519 key that it is for: its holder learns the keys of the image's domains. */
  readonly recipient: string
  readonly label: string
  readonly keys: BundleKeys
  readonly packBytes?: number
  readonly signal?: AbortSignal
}

const PIECE_BYTES = 1024 * 1024

/**
 * A bundle of an image, in one pass and in pieces of at most 1 MiB that belong to the caller; the same bytes whenever it is
 * made of the same packs. Memory does not grow with the image, but for 128 MiB at most that tell which chunks are in it.
 * Faults: 'absent' (subject 'image'); 'invalid' for a recipient that is no key; 'corrupt' naming what the region has lost.
 */
export async function* writeBundle(options: BundleOptions): AsyncGenerator<Buffer> {
  const { region, digest, recipient, label, keys, signal } = options
  assert(label.length <= LABEL_CHARS_MAX && label.isWellFormed(), 'a label is bounded')
  const image = await region.getImage(digest, signal)
  const signature = await readSignature(region.objects, digest, signal)
  const own = await region.getSecrets(image.domain, signal)
  checkSignature(new OpenDomain(image.domain, own), image, signature)
  const records: BundleRecord[] = []
  const head = encodeHead()
  let totalBytes = head.length
  function* put(
    kind: BundleRecord['kind'],
    id: string,
    bytes: Buffer,
    check = sha256(bytes),
    entryCount = 0,
  ) {
    records.push({ kind, id, entryCount, lengthBytes: bytes.length, check })
    if (isTooMany(records.length)) throw tooLarge()
    totalBytes += bytes.length
    yield* piecesOf(bytes)
  }
  yield Buffer.from(head)
  yield* put('image', digest, encodeImage(image).bytes)
  yield* put('signature', digest, signature)

  const data = new DiskData()
  const packer = new ChunkPacker(region, options.packBytes ?? BUNDLE_PACK_BYTES, signal)
  const putPack = (buffer: PackBuffer) => {
    const bytes = buffer.seal()
    const { length } = buffer.entries
    return put('pack', sha256(bytes), bytes, packCheck(bytes, length), length)
  }
  const held = new Set(options.heldPages)
  const pages = pagesOf(image)
  const claims = new ClaimTable(newClaims((held.size + pages.length) * PAGE_IDS))
  await claimHeld(region, held, claims, signal)
  const read = (id: PageId) => readPage(region.objects, id, signal)
  for await (const [id, page] of inOrder(pages, region.objects.traits.callsMax, read)) {
    signal?.throwIfAborted()
    const ids = data.add(id, page)
    if (held.has(id)) continue
    yield* put('page', id, page, id)
    const missing = ids.filter((one) => claims.claim(one))
    if (missing.length === 0) continue
    for await (const buffer of packer.add(missing)) yield* putPack(buffer)
  }
  for (const buffer of packer.finish()) yield* putPack(buffer)

  // Those of chunks that are left out as well: who names a chunk has to show that he has its domain's keys.
  const domains = [...new Set([image.domain, ...boundOf(region, digest).domains(), ...packer.domains])].sort()
  const secrets = await Promise.all(domains.map((domain) => region.getSecrets(domain, signal)))
  const sealed = sealSecrets({ digest, domains, recipient }, secrets, keys)
  const dataBytes = image.disks.map((disk) => data.bytesOf(disk))
  const statement = encodeStatement({ digest, label, dataBytes, domains, recipient, ...sealed })
  const index = encodeRecords(records)
  totalBytes += statement.length + index.length + TRAILER_BYTES
  const { signerPublic: signer } = keys
  const recordCount = records.length
  const trailer = encodeTrailer({ totalBytes, statementBytes: statement.length, recordCount, signer })
  putSignature(trailer, keys.sign(signedBytes(beginDigest(head).update(statement).update(index), trailer)))
  for (const bytes of [statement, index, trailer]) yield* piecesOf(bytes)
}

/** The pages of an image, each once, in disk order; without that of zeroes. */
export function pagesOf({ disks }: ImageContent): PageId[] {
  const pages = new Set(disks.flatMap((disk) => disk.pages))
  pages.delete(ZERO_PAGE)
  return [...pages]
}

/** SHA-256 of a pack's header and of what stands behind its chunks: all that says where a chunk is. */
export function packCheck(bytes: Buffer, entryCount: number): string {
  const table = bytes.subarray(bytes.length - tableBytesOf(entryCount))
  return sha256(Buffer.concat([bytes.subarray(0, PACK_HEADER_BYTES), table]))
}

/** Copies: a pack's memory is used for the next one. */
function* piecesOf(bytes: Buffer): Generator<Buffer> {
  for (let at = 0; at < bytes.length; at += PIECE_BYTES)
    yield Buffer.from(bytes.subarray(at, at + PIECE_BYTES))
}

/** Claims the chunks of pages that the other side holds. A page that cannot be read here tells nothing. */
async function claimHeld(
  region: RegionStore,
  held: ReadonlySet<PageId>,
  claims: ClaimTable,
  signal: AbortSignal | undefined,
): Promise<void> {
  const known = [...held].filter((id) => id !== ZERO_PAGE && region.journal.isCommitted(pageName(id)))
  const read = async (id: PageId) => {
    try {
      return await readPage(region.objects, id, signal)
    } catch (error) {
      if (isFault(error, 'corrupt')) return undefined
      throw error
    }
  }
  for await (const [, page] of inOrder(known, region.objects.traits.callsMax, read)) {
    for (let at = 0; page !== undefined && at < page.length; at += ID_BYTES) {
      if (!isZeroId(page, at)) claims.claim(page.subarray(at, at + ID_BYTES))
    }
    await new Promise(setImmediate)
  }
}
