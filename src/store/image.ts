import assert from 'node:assert/strict'
import { type DiskBus, type MachineConfig, PLAIN_CONFIG } from '../image/config.ts'
import { CONSISTENCIES, type Consistency } from '../image/consistency.ts'
import { Fault } from '../image/fault.ts'
import { type Digest, type DomainId, parseHash } from '../image/ids.ts'
import type { ObjectStore } from '../objects/contract.ts'
import { type Canonical, encodeCanonical } from './canonical.ts'
import { isChunkBytes } from './chunk.ts'
import { sha256 } from './hashes.ts'
import { type DiskMap, pageCountOf } from './map.ts'
import { imageName, parseDomainId } from './names.ts'
import { SEALED_REPORT_CHARS_MAX } from './report.ts'

export interface ImageDisk extends DiskMap {
  /** 0 is the system disk. */
  readonly index: number
  readonly bus: DiskBus
}

/**
 * Everything that makes an image this image. What a region or a project adds (id, name, owner, time) is not in it,
 * so the digest is equal wherever the image is copied to (I4). Source: docs/format.md, "Image object".
 */
export interface ImageContent {
  /** 1 knows of the machine its firmware alone; 3 is 2 with a report. */
  readonly version: 1 | 2 | 3
  readonly domain: DomainId
  readonly disks: readonly ImageDisk[]
  readonly config: MachineConfig
  readonly os: { readonly type: 'linux' | 'windows' | 'other'; readonly name: string }
  readonly parent: Digest | null
  readonly consistency: Consistency
  /** What was cleaned out of it, sealed for the domain (`OpenDomain.openReport`), in base64; null where nothing was. */
  readonly report: string | null
}

export const DISK_BYTES_MAX = 64 * 2 ** 40
const IMAGE_BYTES_MAX = 64 * 1024 * 1024

export function encodeImage(image: ImageContent): { readonly digest: Digest; readonly bytes: Buffer } {
  const { config, report, ...others } = image
  assert.equal(report !== null, image.version === 3, 'version 3 is for images with a report')
  const { firmware, machineType, cpuCount, memoryBytes } = config
  const machine =
    image.version === 1 ? { firmware } : { machine: { firmware, machineType, cpuCount, memoryBytes } }
  const told = report === null ? {} : { report }
  const bytes = encodeCanonical({ ...others, ...machine, ...told } as unknown as Canonical)
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
  const { version } = value
  assert(version === 1 || version === 2 || version === 3)
  const os = value.os as Json
  const disks = value.disks as readonly Json[]
  assert(Array.isArray(disks) && disks.length > 0)
  return {
    version,
    domain: parseDomainId(String(value.domain)),
    disks: disks.map(checkDisk),
    config:
      version === 1
        ? { ...PLAIN_CONFIG, firmware: oneOf(value.firmware, ['bios', 'uefi']) }
        : checkConfig(value.machine as Json),
    os: { type: oneOf(os.type, ['linux', 'windows', 'other']), name: String(os.name) },
    parent: value.parent === null ? null : parseHash('digest', String(value.parent)),
    consistency: oneOf(value.consistency, version === 1 ? ['crash', 'filesystem'] : CONSISTENCIES),
    report: version === 3 ? checkReport(value.report) : null,
  }
}

function checkReport(value: unknown): string {
  assert(typeof value === 'string' && value.length > 0 && value.length <= SEALED_REPORT_CHARS_MAX)
  assert(/^[A-Za-z0-9+/]+={0,2}$/.test(value))
  return value
}

function checkConfig(value: Json): MachineConfig {
  const count = (number: unknown): number | null => {
    assert(number === null || (Number.isSafeInteger(number) && (number as number) > 0))
    return number as number | null
  }
  return {
    firmware: oneOf(value.firmware, ['bios', 'uefi']),
    machineType: String(value.machineType),
    cpuCount: count(value.cpuCount),
    memoryBytes: count(value.memoryBytes),
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
