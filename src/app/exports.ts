import type { Selectable } from 'kysely'
import type { Rows } from '../catalog/contract.ts'
import type { Schema } from '../catalog/schema.ts'
import { Fault, isFault } from '../image/fault.ts'
import {
  type Digest,
  type DomainId,
  type ImageId,
  newCore,
  type ProjectId,
  type RegionId,
  type TaskId,
} from '../image/ids.ts'
import type { Image } from '../image/image.ts'
import { FOREIGN_PREFIX, PUBLIC_DOMAIN } from '../store/names.ts'
import type { ExportImageInput } from '../tasks/export-image.ts'
import type { ExportJob } from '../tasks/store-jobs.ts'
import type { Caller } from './caller.ts'
import { findImage } from './find.ts'
import type { Guard, Target } from './guard.ts'
import type { Parts } from './parts.ts'
import type { ExportFile, ExportWish, Transfers } from './transfer-contract.ts'
import { hashToken, newToken } from './upload-row.ts'

type What = ExportWish['what']
type DownloadRow = Selectable<Schema['download']>
type Asked = Parameters<Transfers['exports']['open']>[1]

/** Each has a thread's share and some megabytes. */
const OPEN_COUNT_MAX = 24
/** Of one link, and of one project: so many readers of the same bytes are as good as any more. */
const LINK_OPEN_MAX = 8
const PROJECT_OPEN_MAX = 16
/** A reader that takes less than this in so long a time of waiting for it is not reading: its place is for another. */
const SLOW_BYTES = 2 * 1024 * 1024
const SLOW_MS = 120_000
const DIGEST_COUNT_MAX = 4
const RANGE_DIGEST_BYTES_MAX = 32 * 1024 * 1024
/** What the bytes of a layout are a function of, beside the image: another number for another layout. */
const LAYOUT_VERSION = 1

const noDownload = () =>
  new Fault(
    'absent',
    'There is no such download, its time is over, or its image is gone. Ask for a new one.',
    {
      subject: 'file',
    },
  )

/** Handing images out as files: a link first, then the bytes to whoever has it. */
export function createExports(parts: Parts, guard: Guard): Transfers['exports'] {
  const { catalog, clock, jobs, runner, transfers } = parts
  /** Who is read right now. */
  const open = new Set<{ readonly id: string; readonly projectId: string }>()

  async function refuseWhat(image: Image, { what, withDigest }: ExportWish): Promise<void> {
    if (what.is === 'bundle') {
      await transfers.readInventory(what.inventory)
    } else if (image.disks[what.diskIndex] === undefined) {
      const message = `The image has disks 0 to ${image.disks.length - 1}. Name one of them.`
      throw new Fault('absent', message, { subject: 'disk', field: 'disk' })
    }
    if (withDigest && (what.is === 'bundle' || what.compress !== undefined)) {
      const message =
        'A file that is packed or a bundle has no digest before it is made. Ask for it without one.'
      throw new Fault('invalid', message, { field: 'digest' })
    }
  }

  /**
   * The right to bundles has to hold in the project whose keys a bundle gives away too, which is another one for an image
   * that was granted from there: a policy that denies it there is heard. Fault 'denied' 'bundle'.
   */
  async function refuseKeys(
    caller: Caller,
    projectId: ProjectId,
    domain: DomainId,
    { regionId, resource }: Pick<Target, 'regionId' | 'resource'>,
  ): Promise<void> {
    const isOthers =
      domain !== PUBLIC_DOMAIN && !domain.startsWith(FOREIGN_PREFIX) && String(domain) !== projectId
    const owner = isOthers ? (String(domain) as ProjectId) : projectId
    await guard.admit(caller, 'exports.bundle', { regionId, resource, projectId: owner }).catch((error) => {
      if (!isOthers || !isFault(error)) throw error
      // Of a project that was deleted nobody has rights but those who own the account.
      if (error.kind === 'absent' && caller.isRoot) return
      throw new Fault(
        'denied',
        `A bundle of this image would give away the keys of project ${owner}, where you may not make bundles. ` +
          'Copy it with --rekey first, and make a bundle of the copy.',
        { subject: 'bundle', cause: error },
      )
    })
  }

  async function rowOf(token: string): Promise<DownloadRow> {
    const row = await catalog.rows
      .selectFrom('download')
      .innerJoin('image', 'image.id', 'download.imageId')
      .selectAll('download')
      .where('tokenHash', '=', hashToken(token))
      .where('download.expiresAtMs', '>', clock())
      // A link is no longer good than its image.
      .where('image.state', '=', 'available')
      .executeTakeFirst()
    if (row === undefined) throw noDownload()
    return row
  }

  /** Its SHA-256, where one was asked for. */
  async function digestOf(row: DownloadRow): Promise<Buffer | undefined> {
    if (row.sha256 !== null) return Buffer.from(row.sha256, 'hex')
    if (row.taskId === null) return undefined
    const task = await catalog.rows
      .selectFrom('task')
      .select(['state', 'reason'])
      .where('id', '=', row.taskId)
      .executeTakeFirst()
    const isOver = task === undefined || task.state === 'failed' || task.state === 'cancelled'
    const message = isOver
      ? `The digest of this file could not be made. ${task?.reason ?? ''} Ask for a new download.`
      : 'The digest of this file is being made: wait for the end of its task.'
    throw new Fault('conflict', message, { subject: 'file' })
  }

  /** Another link to the same bytes, whose digest is known or being made. */
  async function findDigest(rows: Rows, { id, projectId, digest, regionId, what }: DownloadRow) {
    const found = await rows
      .selectFrom('download')
      .leftJoin('task', 'task.id', 'download.taskId')
      .select(['download.sha256', 'download.taskId', 'task.endedAtMs'])
      .where('download.id', '!=', id)
      .where('download.digest', '=', digest)
      .where('download.regionId', '=', regionId)
      .where('download.what', '=', what)
      .where('download.projectId', '=', projectId)
      .execute()
    return (
      found.find(({ sha256 }) => sha256 !== null) ??
      found.find(({ taskId, endedAtMs }) => taskId !== null && endedAtMs === null)
    )
  }

  async function addDigest(rows: Rows, row: DownloadRow, job: ExportJob): Promise<TaskId> {
    const projectId = row.projectId as ProjectId
    const live = await rows
      .selectFrom('task')
      .select((q) => q.fn.countAll<number>().as('count'))
      .where('kind', '=', 'export-image')
      .where('projectId', '=', projectId)
      .where('endedAtMs', 'is', null)
      .executeTakeFirstOrThrow()
    if (Number(live.count) >= DIGEST_COUNT_MAX) {
      const message = `Project ${projectId} has ${DIGEST_COUNT_MAX} digests of exports being made. Wait for one, or cancel it.`
      throw new Fault('conflict', message, { subject: 'file' })
    }
    const input: ExportImageInput = { job, what: row.what }
    const task = { kind: 'export-image', projectId, regionId: job.regionId, input } as const
    return runner.add(rows, { ...task, imageId: row.imageId as ImageId, totalBytes: row.sizeBytes ?? 0 })
  }

  /** Counts a download until it is read, left, or its request is over. Fault 'unavailable' reason 'busy'. */
  function enter({ id, projectId }: DownloadRow, signal: AbortSignal): () => void {
    const held = [...open.values()]
    const isBusy =
      held.length >= OPEN_COUNT_MAX ||
      held.filter((one) => one.id === id).length >= LINK_OPEN_MAX ||
      held.filter((one) => one.projectId === projectId).length >= PROJECT_OPEN_MAX
    if (isBusy) {
      throw new Fault('unavailable', 'Too many downloads run at once. Try again in a minute.', {
        ...{ subject: 'file', reason: 'busy' },
      })
    }
    const one = { id, projectId }
    open.add(one)
    const leave = () => void open.delete(one)
    signal.addEventListener('abort', leave, { once: true })
    return leave
  }

  async function openBytes(
    row: DownloadRow,
    what: What,
    range: { offset: number; lengthBytes: number } | undefined,
    wantsDigest: boolean,
    signal: AbortSignal,
  ): Promise<Pick<ExportFile, 'rangeSha256' | 'body'>> {
    const leave = enter(row, signal)
    try {
      const regionId = row.regionId as RegionId
      const digest = row.digest as Digest
      if (what.is === 'bundle') {
        const { pages: heldPages, recipient } = await transfers.readInventory(what.inventory)
        const label = JSON.stringify({ name: row.fileName })
        const body = jobs.bundle({ regionId, digest, heldPages, recipient, label }, signal)
        return { rangeSha256: undefined, body: until(body, leave, clock) }
      }
      const made = await jobs.exportBytes(
        { regionId, digest, diskIndex: what.diskIndex, format: what.format },
        range === undefined ? { is: 'packed' } : { is: 'range', ...range, sha256: wantsDigest },
        signal,
      )
      return { rangeSha256: made.sha256, body: until(made.body, leave, clock) }
    } catch (error) {
      leave()
      throw error
    }
  }

  return {
    create(caller, wish) {
      const { regionId, what } = wish
      // A bundle carries the keys of all that its project ever stored: that is nobody's to give who has one project alone.
      const [useCase, reach] =
        what.is === 'bundle'
          ? (['exports.bundle', 'account'] as const)
          : (['exports.create', 'project'] as const)
      const target = { regionId, projectId: wish.projectId, resource: `image/${wish.imageId}`, reach }
      return guard.change(caller, useCase, target, async (projectId) => {
        const image = await findImage(catalog.rows, { ...wish, projectId })
        if (image.state.at !== 'available') {
          throw new Fault(
            'conflict',
            `Image '${image.name}' is ${image.state.at}; it can be exported once it is available.`,
            {
              subject: 'image',
            },
          )
        }
        await refuseWhat(image, wish)
        const { digest } = image.state
        if (what.is === 'bundle') {
          await refuseKeys(caller, projectId, await jobs.domainOf(regionId, digest), target)
        }
        const job: ExportJob | undefined =
          what.is === 'disk'
            ? { regionId, digest, diskIndex: what.diskIndex, format: what.format }
            : undefined
        // Also refuses what the format cannot hold, whatever is asked for.
        const wholeBytes = job && (await jobs.exportSize(job, AbortSignal.timeout(60_000)))
        const sizeBytes = what.is === 'disk' && what.compress === undefined ? wholeBytes : undefined
        const { token, tokenHash } = newToken()
        const nowMs = clock()
        const id = newCore()
        const row: DownloadRow = {
          ...{ id, tokenHash, projectId, regionId, imageId: image.id, digest, what: JSON.stringify(what) },
          ...{ fileName: fileNameOf(image, what), sizeBytes: sizeBytes ?? null, sha256: null, taskId: null },
          ...{ createdAtMs: nowMs, expiresAtMs: nowMs + transfers.linkMs },
        }
        const taskId = await catalog.transaction(async (rows) => {
          await rows.insertInto('download').values(row).execute()
          if (!wish.withDigest || job === undefined) return undefined
          const known = await findDigest(rows, row)
          if (known?.sha256 != null) {
            await rows.updateTable('download').set({ sha256: known.sha256 }).where('id', '=', id).execute()
            return undefined
          }
          const added = (known?.taskId as TaskId | undefined) ?? (await addDigest(rows, row, job))
          await rows.updateTable('download').set({ taskId: added }).where('id', '=', id).execute()
          return added
        })
        if (taskId !== undefined) runner.kick(taskId)
        const signer = what.is === 'bundle' ? await transfers.signer() : undefined
        return { token, fileName: row.fileName, sizeBytes, expiresAtMs: row.expiresAtMs, signer, taskId }
      })
    },

    async open(token, asked, signal) {
      const row = await rowOf(token)
      const what = JSON.parse(row.what) as What
      const sizeBytes = row.sizeBytes ?? undefined
      const range = sizeBytes === undefined ? undefined : rangeOf(asked, sizeBytes)
      const wantsDigest =
        asked.wantsRangeDigest && range !== undefined && range.lengthBytes <= RANGE_DIGEST_BYTES_MAX
      const told = {
        ...{ fileName: row.fileName, sizeBytes, range, etag: etagOf(row, what) },
        sha256: await digestOf(row),
      }
      if (asked.headOnly) return { ...told, rangeSha256: undefined, body: nothing() }
      return { ...told, ...(await openBytes(row, what, range, wantsDigest, signal)) }
    },

    async inventory(caller, where) {
      const projectId = await guard.admit(caller, 'exports.inventory', { ...where, resource: 'image/*' })
      const rows = await catalog.rows
        .selectFrom('image')
        .select('digest')
        .where('regionId', '=', where.regionId)
        .where('state', '=', 'available')
        .where((is) => is.or([is('projectId', '=', projectId), is('kind', '=', 'base')]))
        .execute()
      const digests = [...new Set(rows.map(({ digest }) => digest as Digest))]
      return transfers.describeSelf(where.regionId, await jobs.pagesOf(where.regionId, digests))
    },
  }
}

/**
 * Ends with `end`, however it ends. Only the time in which the reader takes nothing counts against it: making the next piece
 * may take long, and there may be little to send of much that is zero.
 */
async function* until(
  body: AsyncIterable<Uint8Array>,
  end: () => void,
  clock: () => number,
): AsyncGenerator<Uint8Array> {
  let waitedMs = 0
  let takenBytes = 0
  try {
    for await (const piece of body) {
      const handedOutMs = clock()
      yield piece
      waitedMs += clock() - handedOutMs
      takenBytes += piece.length
      if (waitedMs < SLOW_MS) continue
      if (takenBytes < SLOW_BYTES)
        throw new Fault('unavailable', 'The download was too slow.', { subject: 'file' })
      waitedMs = 0
      takenBytes = 0
    }
  } finally {
    end()
  }
}

async function* nothing(): AsyncGenerator<Uint8Array> {}

/** Fault 'invalid' reason 'range' for one that begins behind the end. */
function rangeOf({ range }: Asked, sizeBytes: number): { offset: number; lengthBytes: number } {
  if (range === undefined) return { offset: 0, lengthBytes: sizeBytes }
  if ('suffixBytes' in range) {
    const lengthBytes = Math.min(range.suffixBytes, sizeBytes)
    if (lengthBytes > 0) return { offset: sizeBytes - lengthBytes, lengthBytes }
  } else if (range.first < sizeBytes) {
    const last = Math.min(range.last ?? sizeBytes - 1, sizeBytes - 1)
    if (last >= range.first) return { offset: range.first, lengthBytes: last - range.first + 1 }
  }
  throw new Fault('invalid', `The file has ${sizeBytes} bytes; the range asked for is not in it.`, {
    reason: 'range',
  })
}

/** The bytes are a function of these: a packed file's of the packer too, so that no two processes promise the same. */
function etagOf(row: DownloadRow, what: What): string {
  if (what.is === 'bundle') return `"bundle-${row.id}"`
  const packed = what.compress === undefined ? '' : `-${what.compress}-${process.versions.zstd ?? row.id}`
  return `"${row.digest}-${what.diskIndex}-${what.format}-${LAYOUT_VERSION}${packed}"`
}

/** Of letters and digits that no file system or header minds. */
function fileNameOf({ name, disks }: Image, what: What): string {
  const plain =
    name
      .normalize('NFKD')
      .replace(/[^A-Za-z0-9._-]+/g, '-')
      .replace(/^[-.]+|[-.]+$/g, '')
      .slice(0, 80) || 'image'
  if (what.is === 'bundle') return `${plain}.calotype`
  const disk = disks.length === 1 ? '' : `-disk${what.diskIndex}`
  return `${plain}${disk}.${what.format}${what.compress === undefined ? '' : '.zst'}`
}
