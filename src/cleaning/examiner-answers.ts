import type { CleaningPlan } from '../guest/contract.ts'
import { type DiskFinding, plainName } from '../guest/found-system.ts'
import { ALL_OPERATIONS } from '../image/cleaning.ts'
import { Fault, type FaultKind } from '../image/fault.ts'
import type { Edit, FoundVolume, RefusalReason, VolumeKind } from '../volume/contract.ts'
import { refuse } from '../volume/refuse.ts'
import type {
  CheckAnswer,
  Failure,
  Look,
  Planned,
  RefusedVolume,
  ScrubAnswer,
  SeenVolume,
} from './examiner-words.ts'
import { count, flag, list, object, oneOf, path, text } from './shape.ts'

/**
 * What an examiner answers, taken apart with distrust: a hostile disk may have taken it over, and then it may lie about the
 * disk, but do nothing else. Everything here throws Fault 'unavailable', reason 'examiner', for what has another shape.
 */

const DISK_COUNT_MAX = 256
const VOLUME_COUNT_MAX = 1024
const EDIT_COUNT_MAX = 1_000_000
/** Of what goes into the report. A plan has no more than a thousand for each operation and volume. */
const ITEM_COUNT_MAX = 50_000
const MESSAGE_LENGTH_MAX = 1000
const TEXT_LENGTH_MAX = 4096
const PARTS_COUNT_MAX = 1000

const KINDS = [
  'ntfs',
  'ext4',
  'vfat',
  'swap',
  'empty',
  'boot-code',
  'other',
] as const satisfies readonly VolumeKind[]
const REASONS = [
  'hibernated',
  'fast-startup',
  'dirty',
  'encrypted',
  'unsupported',
  'damaged',
  'full',
  'too-large',
] as const satisfies readonly RefusalReason[]
const FAULT_KINDS = ['conflict', 'full', 'unavailable', 'corrupt'] as const satisfies readonly FaultKind[]
const HOWS = ['removed', 'emptied', 'blanked', 'written', 'unregistered'] as const

export function parseLook(value: unknown): Look {
  return {
    disks: list(object(value).disks, DISK_COUNT_MAX, (one) => {
      const disk = object(one)
      return {
        scheme: oneOf(disk.scheme, ['gpt', 'mbr', 'none']),
        volumes: list(disk.volumes, VOLUME_COUNT_MAX, parseSeen),
      }
    }),
  }
}

function parseSeen(value: unknown): SeenVolume {
  const { opened, refusal, reason, ...rest } = object(value)
  const found: FoundVolume = {
    partition: count(rest.partition),
    offset: count(rest.offset),
    lengthBytes: count(rest.lengthBytes),
    kind: oneOf(rest.kind, KINDS),
    title: text(rest.title, 100),
    ...(reason !== undefined && { reason: oneOf(reason, REASONS) }),
  }
  return {
    ...found,
    ...(opened !== undefined && {
      opened: { label: text(object(opened).label, 300), needsReplay: flag(object(opened).needsReplay) },
    }),
    ...(refusal !== undefined && {
      refusal: {
        reason: oneOf(object(refusal).reason, REASONS),
        message: text(object(refusal).message, MESSAGE_LENGTH_MAX),
      },
    }),
  }
}

export function parsePlanned(value: unknown): Planned {
  const { plan, refused } = object(value)
  return {
    refused: list(refused, VOLUME_COUNT_MAX, parseRefused),
    ...(plan !== undefined && { plan: parsePlan(plan) }),
  }
}

function parseRefused(value: unknown): RefusedVolume {
  const { volume, reason, message } = object(value)
  return {
    volume: count(volume),
    reason: oneOf(reason, REASONS),
    message: text(message, MESSAGE_LENGTH_MAX),
  }
}

function parsePlan(value: unknown): CleaningPlan {
  const plan = object(value)
  const placed = (one: Record<string, unknown>) => ({
    volume: count(one.volume),
    path: text(one.path, TEXT_LENGTH_MAX),
  })
  return {
    edits: list(plan.edits, EDIT_COUNT_MAX, (each) => {
      const one = object(each)
      return {
        volume: count(one.volume),
        operation: oneOf(one.operation, ALL_OPERATIONS),
        edit: parseEdit(one.edit),
      }
    }),
    removed: list(plan.removed, ITEM_COUNT_MAX, (each) => {
      const one = object(each)
      return {
        ...placed(one),
        operation: oneOf(one.operation, ALL_OPERATIONS),
        how: oneOf(one.how, HOWS),
        fileCount: count(one.fileCount),
        directoryCount: count(one.directoryCount),
        bytes: count(one.bytes),
        parts: list(one.parts, PARTS_COUNT_MAX, (part) => {
          const { name, fileCount, bytes } = object(part)
          return { name: text(name, 300), fileCount: count(fileCount), bytes: count(bytes) }
        }),
      }
    }),
    kept: list(plan.kept, ITEM_COUNT_MAX, (each) => {
      const one = object(each)
      return { ...placed(one), why: text(one.why, MESSAGE_LENGTH_MAX) }
    }),
    secrets: list(plan.secrets, ITEM_COUNT_MAX, (each) => {
      const one = object(each)
      return { ...placed(one), kind: text(one.kind, 100) }
    }),
    warnings: list(plan.warnings, 1000, (one) => text(one, MESSAGE_LENGTH_MAX)),
    mountPoints: Object.fromEntries(
      Object.entries(object(plan.mountPoints)).map(([volume, at]) => [
        count(Number(volume)),
        text(at, TEXT_LENGTH_MAX),
      ]),
    ),
    refusals: list(plan.refusals, VOLUME_COUNT_MAX, (each) => {
      const { volume, message } = object(each)
      return { volume: count(volume), message: text(message, MESSAGE_LENGTH_MAX) }
    }),
  }
}

/** Names and contents are taken as they are: they go to the appliance, which expects anything in them. */
function parseEdit(value: unknown): Edit {
  const one = object(value)
  const at = path(one.path)
  const is = oneOf(one.is, ['remove', 'empty', 'write', 'link'])
  switch (is) {
    case 'remove':
    case 'empty':
      return { is, path: at }
    case 'write':
      return { is, path: at, content: text(one.content, 65_536, 'raw'), mode: count(one.mode) & 0o7777 }
    case 'link':
      return { is, path: at, target: text(one.target, TEXT_LENGTH_MAX, 'raw') }
    default:
      return is satisfies never
  }
}

export function parseScrubAnswer(value: unknown): ScrubAnswer {
  const { volumes, gapBytes } = object(value)
  return {
    gapBytes: count(gapBytes),
    volumes: list(volumes, VOLUME_COUNT_MAX, (each) => {
      const one = object(each)
      return {
        volume: count(one.volume),
        places: list(one.places, 1000, (place) => {
          const { what, count: places, bytes } = object(place)
          return { what: text(what, 100), count: count(places), bytes: count(bytes) }
        }),
      }
    }),
  }
}

export function parseCheckAnswer(value: unknown): CheckAnswer {
  const { differenceCount, leftCount } = object(value)
  return { differenceCount: count(differenceCount), leftCount: count(leftCount) }
}

export function parseFinding(value: unknown): DiskFinding {
  const { osType, osName, firmware, isSystem } = object(value)
  const name = osName === undefined ? undefined : plainName(text(osName, TEXT_LENGTH_MAX, 'raw'))
  return {
    ...(osType !== undefined && { osType: oneOf(osType, ['Linux', 'Windows']) }),
    ...(name !== undefined && { osName: name }),
    ...(firmware !== undefined && { firmware: oneOf(firmware, ['bios', 'uefi']) }),
    isSystem: flag(isSystem),
  }
}

export function parseNothing(): void {}

/** The fault behind a failure, and the volume that it is about, or -1. */
export function parseFailure(value: unknown): { readonly fault: Fault; readonly volume: number } {
  const failure = object(value) as unknown as Failure
  const volume = Number.isSafeInteger(failure.volume) ? failure.volume : -1
  if (failure.is === 'bug') {
    const places = list(failure.places, 100, (one) => text(one, 200))
    const cause = new Error(`${text(failure.name, 100)} at ${places.join(', ')}`)
    const message =
      'The disks could not be understood. Check their file systems inside the machine, then try again.'
    return { fault: refuse('damaged', message, cause), volume }
  }
  const kind = oneOf(failure.kind, FAULT_KINDS)
  const message = text(failure.message, MESSAGE_LENGTH_MAX)
  if (kind === 'conflict') return { fault: refuse(oneOf(failure.reason, REASONS), message), volume }
  const options = typeof failure.reason === 'string' ? { reason: text(failure.reason, 100) } : {}
  return { fault: new Fault(kind, message, { subject: 'disk', ...options }), volume }
}
