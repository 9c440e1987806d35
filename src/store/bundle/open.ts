import { Fault, isFault } from '../../image/fault.ts'
import type { DomainId } from '../../image/ids.ts'
import type { ObjectName } from '../../objects/names.ts'
import { type ImageContent, readImage } from '../image.ts'
import { FOREIGN_PREFIX, imageName, signatureName } from '../names.ts'
import { type DomainSecrets, OpenDomain } from '../open-domain.ts'
import { checkSignature, readSignature } from '../signature.ts'
import { damagedBundle, refuseBundle } from './fault.ts'
import { type BundleKeys, isSignedBy } from './keys.ts'
import {
  type BundleRecord,
  beginDigest,
  checkHead,
  cutShort,
  HEAD_BYTES,
  nameOf,
  type PlacedRecord,
  parseRecords,
  parseTrailer,
  recordsBytesOf,
  signedBytes,
  TRAILER_BYTES,
} from './layout.ts'
import { BundleObjects, type BundleSource, readAll } from './objects.ts'
import { OpenBundle } from './opened.ts'
import { openSecrets, parseStatement, type Statement } from './statement.ts'

/**
 * Opens a bundle for the holder of `keys`, and believes nothing in it before its signature was checked. `signers`: hex of
 * the Ed25519 keys that are believed beside the holder's own. What is read later is checked when it is read. Faults: 'invalid'
 * 'file' for what is no bundle, is damaged or for somebody else; 'denied' 'file' reason 'signer'; those of the source.
 */
export async function openBundle(
  source: BundleSource,
  keys: BundleKeys,
  signers: readonly string[],
  signal?: AbortSignal,
): Promise<OpenBundle> {
  const { sizeBytes } = source
  if (sizeBytes < HEAD_BYTES + TRAILER_BYTES) throw cutShort()
  const head = await source.read(0, HEAD_BYTES, signal)
  checkHead(head)
  const end = await source.read(sizeBytes - TRAILER_BYTES, TRAILER_BYTES, signal)
  const trailer = parseTrailer(end, sizeBytes)
  const indexBytes = recordsBytesOf(trailer.recordCount)
  const indexAt = sizeBytes - TRAILER_BYTES - indexBytes
  const statementAt = indexAt - trailer.statementBytes
  const statementBytes = await readAll(source, statementAt, trailer.statementBytes, signal)
  const index = await readAll(source, indexAt, indexBytes, signal)
  const digest = beginDigest(head).update(statementBytes).update(index)
  if (!isSignedBy(trailer.signerRaw, signedBytes(digest, end), trailer.signature)) throw damagedBundle()
  if (trailer.signer !== keys.signerPublic && !signers.includes(trailer.signer)) {
    throw new Fault(
      'denied',
      `The bundle is signed with key ${trailer.signer}, which is not believed here. Compare it with the key that its maker tells you, and name it as a signer.`,
      { subject: 'file', reason: 'signer' },
    )
  }
  const statement = parseStatement(statementBytes)
  if (statement.recipient !== keys.recipientPublic) {
    throw refuseBundle(
      'recipient',
      'The bundle was made for another installation. Have it made with an inventory of this one.',
    )
  }
  const records = placeRecords(parseRecords(index), statement, statementAt)
  const secrets = openSecrets(statement, trailer.signer, keys)
  const objects = new BundleObjects(source, records)
  const image = await openImage(objects, statement, secrets, signal)
  return new OpenBundle(source, objects, statement, secrets, image, trailer.signer)
}

/** Objects follow each other from the head to the statement, each name once, and one image with its signature among them. */
function placeRecords(
  records: readonly BundleRecord[],
  { digest }: Statement,
  endAt: number,
): ReadonlyMap<ObjectName, PlacedRecord> {
  const placed = new Map<ObjectName, PlacedRecord>()
  let offset = HEAD_BYTES
  for (const record of records) {
    const name = nameOf(record)
    const isOfImage = record.kind === 'page' || record.kind === 'pack' || record.id === digest
    if (!isOfImage || placed.has(name) || offset + record.lengthBytes > endAt) throw damagedBundle()
    placed.set(name, { ...record, offset })
    offset += record.lengthBytes
  }
  const isWhole = placed.has(imageName(digest)) && placed.has(signatureName(digest))
  if (!isWhole || offset !== endAt) throw damagedBundle()
  return placed
}

async function openImage(
  objects: BundleObjects,
  { digest, dataBytes }: Statement,
  secrets: ReadonlyMap<DomainId, DomainSecrets>,
  signal: AbortSignal | undefined,
): Promise<ImageContent> {
  try {
    const image = await readImage(objects, digest, signal)
    const own = secrets.get(image.domain)
    // Nothing is ever captured in a foreign domain.
    if (own === undefined || image.domain.startsWith(FOREIGN_PREFIX)) throw damagedBundle()
    if (image.disks.length !== dataBytes.length) throw damagedBundle()
    checkSignature(new OpenDomain(image.domain, own), image, await readSignature(objects, digest, signal))
    return image
  } catch (error) {
    if (isFault(error, 'corrupt')) throw damagedBundle(error)
    throw error
  }
}
