import { timingSafeEqual } from 'node:crypto'
import { Fault } from '../image/fault.ts'
import type { Digest } from '../image/ids.ts'
import type { ObjectStore } from '../objects/contract.ts'
import { encodeCanonical } from './canonical.ts'
import { encodeImage, type ImageContent } from './image.ts'
import { signatureName } from './names.ts'
import type { OpenDomain } from './open-domain.ts'

const SIGNATURE_BYTES_MAX = 4096

/** The bytes of object `signatures/<digest>`. Source: docs/format.md, "Signature". */
export function encodeSignature(mac: Buffer): Buffer {
  return encodeCanonical({ algorithm: 'hmac-sha-256', mac: mac.toString('hex'), version: 1 })
}

/** The object's bytes, of the right form. Needs no key. Throws Fault 'corrupt' if it is missing or malformed. */
export async function readSignature(
  objects: Pick<ObjectStore, 'size' | 'get'>,
  digest: Digest,
  signal?: AbortSignal,
): Promise<Buffer> {
  const name = signatureName(digest)
  const sizeBytes = await objects.size(name, signal)
  if (sizeBytes === undefined) throw unsigned(digest, 'missing')
  const bytes = await objects.get(name, 0, Math.min(sizeBytes, SIGNATURE_BYTES_MAX), signal)
  const found = /"mac":"([0-9a-f]{64})"/.exec(bytes.toString('latin1'))
  if (!encodeSignature(Buffer.from(found?.[1] ?? '', 'hex')).equals(bytes)) throw unsigned(digest, 'damaged')
  return bytes
}

/** Throws Fault 'corrupt' unless the object's bytes sign this image. */
export function checkSignature(domain: OpenDomain, image: ImageContent, bytes: Buffer): void {
  const { digest, bytes: imageBytes } = encodeImage(image)
  const right = encodeSignature(domain.sign(imageBytes))
  if (bytes.length !== right.length || !timingSafeEqual(right, bytes)) throw unsigned(digest, 'wrong')
}

function unsigned(digest: Digest, how: 'missing' | 'damaged' | 'wrong'): Fault {
  return new Fault('corrupt', `The signature of image ${digest} is ${how}.`, { subject: 'image' })
}
