import { join } from 'node:path'
import type { DeclaredFormat } from '../disk/formats/contract.ts'
import type { DiskBus, Firmware } from '../image/config.ts'
import type { DomainId, ImageId, ProjectId, RegionId } from '../image/ids.ts'
import type { ImageKind, OsType } from '../image/image.ts'
import type { Checksum } from '../image/imported.ts'
import { identityOf, openPlain } from './file-identity.ts'
import { domainOf } from './image-row.ts'
import type { TaskParts } from './parts.ts'
import type { StepContext } from './runner.ts'
import type { BlobJob, BlobMap, FilePlace } from './store-jobs.ts'

export interface ImportInput {
  readonly imageId: ImageId
  readonly kind: ImageKind
  readonly from: /** A plain name in the import folder. */
    | { readonly is: 'file'; readonly fileName: string }
    /** `shown`: without anything secret. */
    | { readonly is: 'url'; readonly shown: string; readonly sealed: string }
    /** A whole blob of that session. */
    | { readonly is: 'upload'; readonly sessionId: string; readonly map: BlobMap }
  readonly declared?: DeclaredFormat | undefined
  readonly checksum?: Checksum | undefined
  readonly signer?: string | undefined
  /** What its maker says of it; the rest is as found. */
  readonly said: {
    readonly osType?: OsType | undefined
    readonly osName?: string | undefined
    readonly firmware?: Firmware | undefined
    readonly bus?: DiskBus | undefined
  }
}

/** What of an import is durable. */
export interface ImportCheckpoint {
  /** From an address: how far it is, of which file, and whether that is all. */
  readonly received?: BlobMap
  readonly etag?: string
  readonly isWhole?: boolean
  /** When the first byte was asked for. */
  readonly fetchFromMs?: number
  /** Of a file of the import folder: as of `identityOf`, and its size. */
  readonly identity?: string
  readonly fileBytes?: number
  readonly sha256?: string
  readonly unpacked?: BlobMap
  /** The most that `unpacked` holds that is not zero. */
  readonly unpackedBytes?: number
  readonly packing?: string
  /** The region has room for what is read of it. */
  readonly hasRoom?: boolean
}

export const checkpointOf = (context: StepContext<ImportInput>): ImportCheckpoint => context.checkpoint()

/** Sessions of an import: what came, what was unpacked of it; the image's own has the task's id. */
const receivedSession = ({ input, id }: Pick<StepContext<ImportInput>, 'input' | 'id'>) =>
  input.from.is === 'upload' ? input.from.sessionId : `${id}-received`
const unpackedSession = ({ id }: { readonly id: string }) => `${id}-unpacked`

export const sessionsOf = (context: Pick<StepContext<ImportInput>, 'input' | 'id'>): readonly string[] => [
  ...(context.input.from.is === 'file' ? [] : [receivedSession(context)]),
  unpackedSession(context),
  context.id,
]

export function importDomain({ input, row }: StepContext<ImportInput>): DomainId {
  return domainOf(input.kind, row.projectId as ProjectId)
}

/** Where a blob of the import goes on. */
export function blobJob(context: StepContext<ImportInput>, what: 'received' | 'unpacked'): BlobJob {
  return {
    regionId: context.row.regionId as RegionId,
    sessionId: what === 'received' ? receivedSession(context) : unpackedSession(context),
    domain: importDomain(context),
  }
}

export const importPath = ({ importDirectory }: TaskParts, fileName: string): string =>
  join(importDirectory, fileName)

/**
 * From the first look on a file of the import folder is this one and no other, unchanged: each step opens it anew by its
 * name. Faults as of `openPlain`.
 */
export async function keepIdentity(parts: TaskParts, context: StepContext<ImportInput>): Promise<void> {
  const { from } = context.input
  if (from.is !== 'file' || checkpointOf(context).identity !== undefined) return
  const { file, status } = await openPlain(importPath(parts, from.fileName), undefined)
  await file.close()
  await context.save({ identity: identityOf(status), fileBytes: Number(status.size) })
}

/** What came, where it is a blob of the region: `unpacked` takes its place. */
export async function dropReceived({ jobs }: TaskParts, context: StepContext<ImportInput>): Promise<void> {
  if (context.input.from.is === 'file') return
  await jobs.abort(context.row.regionId as RegionId, receivedSession(context))
}

/** The file as it came. */
export function receivedPlace(parts: TaskParts, context: StepContext<ImportInput>): FilePlace {
  const { from } = context.input
  if (from.is === 'file') {
    const { identity } = checkpointOf(context)
    return { is: 'file', path: importPath(parts, from.fileName), identity }
  }
  const map = from.is === 'upload' ? from.map : checkpointOf(context).received
  if (map === undefined) throw new Error('a file is read once all of it has come')
  return blobPlace(context, receivedSession(context), map)
}

/** What was in it, or the file itself. */
export function unpackedPlace(parts: TaskParts, context: StepContext<ImportInput>): FilePlace {
  const map = checkpointOf(context).unpacked
  return map === undefined ? receivedPlace(parts, context) : blobPlace(context, unpackedSession(context), map)
}

function blobPlace({ row }: StepContext<ImportInput>, sessionId: string, map: BlobMap): FilePlace {
  return { is: 'blob', regionId: row.regionId as RegionId, sessionId, map }
}
