import assert from 'node:assert/strict'
import { Fault } from '../image/fault.ts'
import { type Digest, type DomainId, parseHash } from '../image/ids.ts'
import type { ObjectStore } from '../objects/contract.ts'
import { type Canonical, encodeCanonical } from './canonical.ts'
import { isChunkBytes } from './chunk.ts'
import { sha256 } from './hashes.ts'
import { type DiskMap, pageCountOf } from './map.ts'
import { imageName, parseDomainId } from './names.ts'

export interface ImageDisk extends DiskMap {
  /** 0 is the system disk. */
  readonly index: number
  readonly bus: 'virtio-blk' | 'virtio-scsi'
}

/**
 * Everything that makes an image this image. What a region or a project adds (id, name, owner, time) is not in it,
 * so the digest is equal wherever the image is copied to (I4). Source: docs/format.md, "Image object".
 */
export interface ImageContent {
  readonly version: 1
  readonly domain: DomainId
  readonly disks: readonly ImageDisk[]
  readonly firmware: 'bios' | 'uefi'
  readonly os: { readonly type: 'linux' | 'windows' | 'other'; readonly name: string }
  readonly parent: Digest | null
  readonly consistency: 'crash' | 'filesystem'
}

export const DISK_BYTES_MAX = 64 * 2 ** 40
const IMAGE_BYTES_MAX = 64 * 1024 * 1024

export function encodeImage(image: ImageContent): { readonly digest: Digest; readonly bytes: Buffer } {
  const bytes = encodeCanonical(image as unknown as Canonical)
  assert(bytes.length <= IMAGE_BYTES_MAX)
  return { digest: sha256(bytes) as Digest, bytes }
}

/** Throws Fault 'corrupt' unless the bytes are exactly what `encodeImage` writes for some image. */
export function parseImage(bytes: Buffer): ImageContent {
  const damaged = (cause: unknown) =>
    new Fault('corrupt', 'The image object is damaged or of an unknown version.', { subject: 'image', cause })
  try {
    const image = checkImage(JSON.parse(bytes.toString('utf8')))
    assert(encodeImage(image).bytes.equals(bytes), 'the bytes are canonical')
    return image
  } catch (error) {
    throw damaged(error)
  }
}

/** Reads and checks an image object. Throws Fault 'absent' (subject 'image') or 'corrupt'. */
export async function readImage(
  objects: Pick<ObjectStore, 'size' | 'get'>,
  digest: Digest,
  signal?: AbortSignal,
): Promise<ImageContent> {
  const name = imageName(digest)
  const sizeBytes = await objects.size(name, signal)
  if (sizeBytes === undefined) {
    throw new Fault('absent', `This region holds no image with digest ${digest}.`, { subject: 'image' })
  }
  const bytes = await objects.get(name, 0, Math.min(sizeBytes, IMAGE_BYTES_MAX), signal)
  if (sha256(bytes) !== digest) {
    throw new Fault('corrupt', `The image object ${digest} is damaged.`, { subject: 'image' })
  }
  return parseImage(bytes)
}

type Json = { readonly [key: string]: unknown }

function checkImage(value: Json): ImageContent {
  assert.equal(value.version, 1)
  const os = value.os as Json
  const disks = value.disks as readonly Json[]
  assert(Array.isArray(disks) && disks.length > 0)
  return {
    version: 1,
    domain: parseDomainId(String(value.domain)),
    disks: disks.map(checkDisk),
    firmware: oneOf(value.firmware, ['bios', 'uefi']),
    os: { type: oneOf(os.type, ['linux', 'windows', 'other']), name: String(os.name) },
    parent: value.parent === null ? null : parseHash('digest', String(value.parent)),
    consistency: oneOf(value.consistency, ['crash', 'filesystem']),
  }
}

function checkDisk(value: Json, index: number): ImageDisk {
  const { sizeBytes, chunkBytes, pages } = value
  assert(typeof sizeBytes === 'number' && Number.isSafeInteger(sizeBytes))
  assert(sizeBytes > 0 && sizeBytes <= DISK_BYTES_MAX && sizeBytes % 512 === 0)
  assert(typeof chunkBytes === 'number' && isChunkBytes(chunkBytes))
  assert(Array.isArray(pages) && pages.length === pageCountOf(sizeBytes, chunkBytes))
  assert.equal(value.index, index)
  return {
    index,
    sizeBytes,
    chunkBytes,
    bus: oneOf(value.bus, ['virtio-blk', 'virtio-scsi']),
    pages: pages.map((page) => parseHash('page', String(page))),
  }
}

function oneOf<const Text extends string>(value: unknown, allowed: readonly Text[]): Text {
  const found = allowed.find((text) => text === value)
  assert(found !== undefined)
  return found
}
