import { randomInt } from 'node:crypto'
import { Fault, type FaultSubject } from './fault.ts'

declare const brand: unique symbol
export type Id<Kind extends string> = string & { readonly [brand]: Kind }

export type ImageId = Id<'image'>
export type MachineId = Id<'machine'>
export type DiskId = Id<'disk'>
export type TaskId = Id<'task'>
export type SnapshotId = Id<'snapshot'>
export type SnapshotPolicyId = Id<'snapshot-policy'>
export type ProjectId = Id<'project'>
export type AccountId = Id<'account'>
export type UserId = Id<'user'>
export type RegionId = Id<'region'>
/** Keyed BLAKE3 of a chunk's plain bytes: 64 lower-case hex digits. Source: docs/format.md, "Chunk id". */
export type ChunkId = Id<'chunk'>
/** SHA-256 of a pack's bytes: 64 lower-case hex digits. Source: docs/format.md, "Pack". */
export type PackId = Id<'pack'>
/** SHA-256 of a map page's bytes: 64 lower-case hex digits. Source: docs/format.md, "Map page". */
export type PageId = Id<'page'>
/** SHA-256 of an image object's canonical JSON: 64 lower-case hex digits. Source: docs/format.md, "Image object". */
export type Digest = Id<'digest'>
/** The dedup domain that keys chunk ids: 'public' or a project's. Source: docs/format.md, "Domain". */
export type DomainId = Id<'domain'>

/**
 * The kinds of resource that both clouds name. One resource has one core (17 lower-case letters and digits);
 * each door writes it behind its own cloud's prefix, and every door reads every spelling.
 */
const PREFIXES = {
  image: ['img-', 'm-', 'uimage-'],
  machine: ['vm-', 'ecd-', 'uhost-'],
  disk: ['disk-', 'd-', 'bs-'],
  task: ['task-', 't-', 'utask-'],
  snapshot: ['snap-', 's-', 'bsSnap-'],
  'snapshot-policy': ['policy-', 'sp-', 'usp-'],
} as const

export type Dialect = 'native' | 'wuying' | 'uhost'
export type ResourceKind = keyof typeof PREFIXES
const DIALECTS: Record<Dialect, number> = { native: 0, wuying: 1, uhost: 2 }
const CORE = /^[0-9a-z]{17}$/
const ALPHABET = '0123456789abcdefghijklmnopqrstuvwxyz'

/** A new random core of 17 characters (88 bits), which is the id as we keep it. */
export function newId<Kind extends ResourceKind>(_kind: Kind): Id<Kind> {
  return newCore() as Id<Kind>
}

/** The same of what only our own door names: uploads, downloads. */
export function newCore(): string {
  let core = ''
  for (let i = 0; i < 17; i++) core += ALPHABET[randomInt(36)]
  return core
}

/**
 * The id in the words of one door: `m-…` for WUYING, `uimage-…` for UHost, `img-…` for ours. No id stays none: a
 * machine that was made of disk files has no image.
 */
export function spellId<Kind extends ResourceKind>(kind: Kind, id: Id<Kind>, dialect: Dialect): string {
  return id === '' ? '' : `${PREFIXES[kind][DIALECTS[dialect]]}${id}`
}

/** The core behind any door's spelling, or undefined if the text is no id of this kind. */
export function findId<Kind extends ResourceKind>(kind: Kind, text: string): Id<Kind> | undefined {
  for (const prefix of PREFIXES[kind]) {
    if (text.startsWith(prefix) && CORE.test(text.slice(prefix.length)))
      return text.slice(prefix.length) as Id<Kind>
  }
  return undefined
}

/** As `findId`; throws Fault 'absent', because an id nobody could have been given names nothing. */
export function parseId<Kind extends ResourceKind>(kind: Kind, text: string): Id<Kind> {
  const id = findId(kind, text)
  if (id === undefined) {
    const subject: FaultSubject = kind
    throw new Fault(
      'absent',
      `There is no ${kind} '${text.slice(0, 80)}'. List them to see the ids you may use.`,
      { subject },
    )
  }
  return id
}

/** Throws Fault 'invalid' unless `text` is 64 lower-case hex digits. */
export function parseHash<Kind extends 'chunk' | 'pack' | 'page' | 'digest'>(
  kind: Kind,
  text: string,
): Id<Kind> {
  if (!/^[0-9a-f]{64}$/.test(text)) throw new Fault('invalid', `A ${kind} id is 64 lower-case hex digits.`)
  return text as Id<Kind>
}

/** `org-` and 1 to 32 lower-case letters and digits. Throws Fault 'absent'. Source: uhost.md §5. */
export function parseProjectId(text: string): ProjectId {
  if (!/^org-[0-9a-z]{1,32}$/.test(text)) {
    throw new Fault('absent', `There is no project '${text.slice(0, 80)}'. Ask for the list of projects.`, {
      subject: 'project',
    })
  }
  return text as ProjectId
}
