import { CONSISTENCIES } from '../image/consistency.ts'
import { Fault } from '../image/fault.ts'
import { type ImageId, parseHash } from '../image/ids.ts'
import type { PeerImage } from './contract.ts'

type Json = { readonly [key: string]: unknown }

const TEXT_CHARS_MAX = 4096
const LABEL_COUNT_MAX = 256
const DISK_COUNT_MAX = 64
/** More than any disk, and exact. */
const BYTES_MAX = 2 ** 52

/**
 * What a peer tells of an image, every word of it checked: it becomes a row of ours, and what doors show. Words that we do
 * not know are dropped. Undefined for anything else than such an image.
 */
export function parsePeerImage(value: Json, id: ImageId): PeerImage | undefined {
  try {
    const facts = record(value.facts)
    return {
      id: oneOf(value.id, [id]),
      digest: parseHash('digest', text(value.digest)),
      facts: {
        name: text(facts.name),
        description: text(facts.description),
        tag: text(facts.tag),
        labels: list(facts.labels, LABEL_COUNT_MAX).map((label) => ({
          key: text(record(label).key),
          value: text(record(label).value),
        })),
        osType: oneOf(facts.osType, ['Linux', 'Windows']),
        osName: text(facts.osName),
        disks: readDisks(facts.disks),
        config: readConfig(record(facts.config)),
        consistency: maybe(facts.consistency, (one) => oneOf(one, CONSISTENCIES)),
        parent: maybe(facts.parent, (one) => parseHash('digest', text(one))),
        imported: maybe(facts.imported, (one) => readImported(record(one))),
        cleaning: maybe(facts.cleaning, (one) => readCleaning(record(one))),
        dataBytes: count(facts.dataBytes),
        storedBytes: count(facts.storedBytes),
      },
    }
  } catch (error) {
    if (error instanceof Fault) return undefined
    throw error
  }
}

type Facts = PeerImage['facts']

function readDisks(value: unknown): Facts['disks'] {
  const disks = list(value, DISK_COUNT_MAX).map((one, index) => ({
    index: oneOf(record(one).index, [index]),
    sizeBytes: count(record(one).sizeBytes),
    bus: oneOf(record(one).bus, ['virtio-blk', 'virtio-scsi']),
  }))
  if (disks.length === 0) throw wrong()
  return disks
}

function readConfig({ firmware, machineType, cpuCount, memoryBytes }: Json): Facts['config'] {
  return {
    firmware: oneOf(firmware, ['bios', 'uefi']),
    machineType: text(machineType),
    cpuCount: cpuCount === null ? null : count(cpuCount),
    memoryBytes: memoryBytes === null ? null : count(memoryBytes),
  }
}

function readImported(facts: Json): Facts['imported'] {
  return {
    format: text(facts.format),
    fileBytes: count(facts.fileBytes),
    sha256: maybe(facts.sha256, text),
    osType: maybe(facts.osType, (one) => oneOf(one, ['Linux', 'Windows'])),
    osName: maybe(facts.osName, text),
    firmware: maybe(facts.firmware, (one) => oneOf(one, ['bios', 'uefi'])),
  }
}

function readCleaning(summary: Json): Facts['cleaning'] {
  return {
    removedFileCount: count(summary.removedFileCount),
    removedBytes: count(summary.removedBytes),
    scrubbedBytes: count(summary.scrubbedBytes),
    leftVolumeCount: count(summary.leftVolumeCount),
    secretCount: count(summary.secretCount),
    isPartial: oneOf(summary.isPartial, [true, false]),
  }
}

function maybe<Value>(value: unknown, read: (value: unknown) => Value): Value | undefined {
  return value === undefined ? undefined : read(value)
}

function record(value: unknown): Json {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Json
  throw wrong()
}

function list(value: unknown, countMax: number): readonly unknown[] {
  if (Array.isArray(value) && value.length <= countMax) return value
  throw wrong()
}

function text(value: unknown): string {
  if (typeof value === 'string' && value.length <= TEXT_CHARS_MAX && value.isWellFormed()) return value
  throw wrong()
}

function count(value: unknown): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= BYTES_MAX) return value
  throw wrong()
}

function oneOf<const Value>(value: unknown, allowed: readonly Value[]): Value {
  const found = allowed.find((one) => one === value)
  if (found === undefined) throw wrong()
  return found
}

function wrong(): Fault {
  return new Fault('invalid', 'The words of a peer are none of ours.', { subject: 'peer' })
}
