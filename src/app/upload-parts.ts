import type { RefusalReason } from '../disk/formats/contract.ts'
import { Fault, isFault } from '../image/fault.ts'
import type { ProjectId, RegionId } from '../image/ids.ts'
import { domainOf } from '../tasks/image-row.ts'
import { CHECKPOINT_BYTES } from '../tasks/import-fetch.ts'
import { refuseAboveQuota } from '../tasks/quota.ts'
import { refuseWithoutRoom } from '../tasks/room.ts'
import type { BlobMap, BlobWriter } from '../tasks/store-jobs.ts'
import type { Parts } from './parts.ts'
import type { ImportWish, UploadPart } from './transfer-contract.ts'
import { noUpload, type UploadRow } from './upload-row.ts'

/** Of an upload whose length nobody told, so much is charged at a time. */
const RESERVED_BYTES = 4 * CHECKPOINT_BYTES
/**
 * A part that is not the last has at least so much: each leaves a pack and a page of the map behind, and many small ones would
 * take more room than anybody is charged for.
 */
const PART_BYTES_MIN = 256 * 1024
/** Who brings less than this, on average over so long, is not sending: the place is for another. */
const SLOW_BYTES = 2 * 1024 * 1024
const SLOW_MS = 120_000
/** So many of the places for receiving may be one project's. */
const PROJECT_SENDING_MAX = 24
/** So much tells what kind of file it is. */
const HEAD_BYTES = 1024 * 1024
/** What the first bytes of a file alone prove; the rest may be found only in what has not come. */
const CERTAIN: readonly RefusalReason[] = [
  ...([
    'backing-file',
    'data-file',
    'parent',
    'extents',
    'encrypted',
    'feature-bits',
    'version',
    'iso',
  ] as const),
]

export interface Receiver {
  /** Faults as of `Transfers.uploads.receive`. */
  receive(row: UploadRow, part: UploadPart, signal: AbortSignal): Promise<void>
  /** Ends whoever sends to it right now, and waits for the end of that. */
  stop(uploadId: string): Promise<void>
}

/** The parts of uploads, one at a time for each. `finish` is called when all of one is here. */
export function createReceiver(
  parts: Parts,
  { finish }: { readonly finish: (row: UploadRow) => Promise<void> },
): Receiver {
  const { catalog, clock, jobs, transfers } = parts
  /** Who is sending. */
  const busy = new Map<
    string,
    { readonly projectId: string; readonly abort: AbortController; readonly ended: Promise<void> }
  >()

  const update = (row: UploadRow, values: Partial<UploadRow>) =>
    catalog.rows
      .updateTable('upload')
      .set({ ...values, expiresAtMs: clock() + transfers.uploadMs })
      .where('id', '=', row.id)
      .where('state', '=', 'receiving')
      .executeTakeFirst()

  /** Throws Fault 'full' where the project or the region has no room for the upload up to there. */
  async function charge(row: UploadRow, reservedBytes: number): Promise<void> {
    if (reservedBytes <= row.reservedBytes) return
    await refuseWithoutRoom(parts, row.regionId as RegionId, reservedBytes - row.offsetBytes, row.id)
    await catalog.transaction(async (rows) => {
      await refuseAboveQuota(rows, row.projectId, reservedBytes, row.id)
      await rows.updateTable('upload').set({ reservedBytes }).where('id', '=', row.id).execute()
    })
  }

  /** What can be seen of the file is looked at as soon as it is there: nobody sends a hundred gigabytes to be refused. */
  async function inspectHead(
    row: UploadRow,
    map: BlobMap,
    wholeBytes: number,
    signal: AbortSignal,
  ): Promise<void> {
    const { format } = JSON.parse(row.wish) as ImportWish
    const place = {
      is: 'blob',
      regionId: row.regionId as RegionId,
      sessionId: row.id,
      map,
      wholeBytes,
    } as const
    try {
      const options = { declared: format, virtualBytesMax: transfers.diskBytesMax }
      await (await jobs.openFile(place, options, signal)).close()
    } catch (error) {
      if (!isFault(error, 'invalid') || !CERTAIN.some((reason) => reason === error.reason)) return
      await refuse(row, error)
      throw error
    }
  }

  async function refuse(row: UploadRow, fault: Fault): Promise<void> {
    await update(row, { state: 'refused', reason: fault.message, reservedBytes: 0 })
    await jobs.abort(row.regionId as RegionId, row.id)
  }

  async function takePart(row: UploadRow, part: UploadPart, signal: AbortSignal): Promise<void> {
    const lengthBytes = await lengthOf(row, part)
    const bytesMax = lengthBytes ?? transfers.diskBytesMax
    if (row.offsetBytes + (part.partBytes ?? 0) > bytesMax) throw tooLong(bytesMax)
    let reservedBytes = Math.max(
      row.reservedBytes,
      lengthBytes ?? row.offsetBytes + (part.partBytes ?? RESERVED_BYTES),
    )
    await charge(row, reservedBytes)
    const { kind } = JSON.parse(row.wish) as ImportWish
    const writer = await jobs.openBlob(
      {
        ...{ regionId: row.regionId as RegionId, sessionId: row.id },
        domain: domainOf(kind, row.projectId as ProjectId),
        map: row.map === null ? undefined : (JSON.parse(row.map) as BlobMap),
        hash: part.checksum?.algorithm,
      },
      signal,
    )
    let offsetBytes = row.offsetBytes
    let keptBytes = offsetBytes
    const keep = async (): Promise<BlobMap | undefined> => {
      if (offsetBytes === keptBytes) return undefined
      const map = await writer.checkpoint()
      keptBytes = map.sizeBytes
      const kept = await update(row, { offsetBytes: keptBytes, map: JSON.stringify(map) })
      if (kept.numUpdatedRows === 0n) throw noUpload()
      return map
    }
    let isSeen = row.offsetBytes >= HEAD_BYTES
    const lookAtHead = async (): Promise<boolean> => {
      if (isSeen || offsetBytes < HEAD_BYTES || offsetBytes === lengthBytes) return false
      isSeen = true
      const map = await keep()
      if (map !== undefined) await inspectHead(row, map, lengthBytes ?? transfers.diskBytesMax, signal)
      return true
    }
    const pace = createPace(clock)
    try {
      for await (const piece of piecesOf(part, signal)) {
        pace.took(piece.length)
        offsetBytes += piece.length
        if (offsetBytes > bytesMax) throw tooLong(bytesMax)
        if (offsetBytes > reservedBytes) {
          reservedBytes = offsetBytes + RESERVED_BYTES
          await charge(row, reservedBytes)
        }
        await writer.write(piece)
        if (
          part.checksum === undefined &&
          !(await lookAtHead()) &&
          offsetBytes - keptBytes >= CHECKPOINT_BYTES
        ) {
          await keep()
        }
        pace.asks()
      }
      await checkPart(writer, part)
      if (offsetBytes !== lengthBytes && offsetBytes - row.offsetBytes < PART_BYTES_MIN) throw tooSmall()
      if (!(await lookAtHead())) await keep()
    } catch (error) {
      // What came before the line broke is not sent again; of a part with a checksum nothing is known to be right.
      const isWorthIt = part.checksum === undefined && offsetBytes - keptBytes >= PART_BYTES_MIN
      if (isFault(error, 'unavailable') && isWorthIt) await keep().catch(() => {})
      throw error
    } finally {
      await writer.close()
    }
  }

  /** The length of the whole, where it is known by now. */
  async function lengthOf(row: UploadRow, { lengthBytes }: UploadPart): Promise<number | undefined> {
    const known = row.lengthBytes ?? undefined
    if (lengthBytes === undefined || lengthBytes === known) return known
    if (known !== undefined)
      throw badPart('length', `The upload's length is ${known} bytes; it cannot be changed.`)
    if (lengthBytes < Math.max(1, row.offsetBytes)) {
      throw badPart(
        'length',
        `${row.offsetBytes} bytes have come already; its length cannot be ${lengthBytes}.`,
      )
    }
    if (lengthBytes > transfers.diskBytesMax) {
      throw badPart('length', `An upload has at most ${transfers.diskBytesMax} bytes here.`)
    }
    await charge(row, lengthBytes)
    await update(row, { lengthBytes })
    return lengthBytes
  }

  async function receiveNow(row: UploadRow, part: UploadPart, signal: AbortSignal): Promise<void> {
    const fresh = await catalog.rows
      .selectFrom('upload')
      .selectAll()
      .where('id', '=', row.id)
      .executeTakeFirst()
    if (fresh === undefined) throw noUpload()
    if (fresh.state === 'refused') throw new Fault('invalid', fresh.reason ?? '', { subject: 'file' })
    if (fresh.offsetBytes !== part.offsetBytes) {
      throw new Fault('conflict', `The upload is at byte ${fresh.offsetBytes}: go on from there.`, {
        ...{ subject: 'upload', reason: 'offset' },
      })
    }
    if (fresh.state === 'receiving') await takePart(fresh, part, signal)
    const after = await catalog.rows
      .selectFrom('upload')
      .selectAll()
      .where('id', '=', row.id)
      .executeTakeFirst()
    // Also for a part of no bytes: the way to try again what could not be begun when the last one came.
    if (after?.state === 'receiving' && after.lengthBytes === after.offsetBytes) await finish(after)
  }

  return {
    async receive(row, part, signal) {
      if (busy.has(row.id)) {
        throw new Fault('conflict', 'Another request is sending to this upload. Wait for its end.', {
          ...{ subject: 'upload', reason: 'busy' },
        })
      }
      if ([...busy.values()].filter((one) => one.projectId === row.projectId).length >= PROJECT_SENDING_MAX) {
        const message =
          'Too many files of this project are being received at once. Go on with this one in a minute.'
        throw new Fault('unavailable', message, { subject: 'upload', reason: 'busy' })
      }
      const abort = new AbortController()
      const done = Promise.withResolvers<void>()
      busy.set(row.id, { projectId: row.projectId, abort, ended: done.promise })
      try {
        await receiveNow(row, part, AbortSignal.any([signal, abort.signal]))
      } finally {
        busy.delete(row.id)
        done.resolve()
      }
    },
    async stop(uploadId) {
      const sending = busy.get(uploadId)
      sending?.abort.abort(noUpload())
      await sending?.ended
    },
  }
}

const badPart = (reason: 'length' | 'checksum', message: string) =>
  new Fault('invalid', message, { subject: 'upload', reason })

const tooSmall = () =>
  badPart(
    'length',
    `A part that is not the last has at least ${PART_BYTES_MIN} bytes. Send larger ones, or say the length with the last.`,
  )

/** Throws Fault 'unavailable' 'upload' for a line that brings next to nothing. */
function createPace(clock: () => number) {
  let askedMs = clock()
  let waitedMs = 0
  let tookBytes = 0
  return {
    /** A piece has come. */
    took(lengthBytes: number): void {
      waitedMs += clock() - askedMs
      tookBytes += lengthBytes
      if (waitedMs < SLOW_MS) return
      if (tookBytes < SLOW_BYTES) {
        throw new Fault(
          'unavailable',
          'The part came too slowly. Ask for the offset, and go on from there.',
          {
            subject: 'upload',
          },
        )
      }
      waitedMs = 0
      tookBytes = 0
    },
    /** The next one is asked for: what we did in between is not the sender's time. */
    asks(): void {
      askedMs = clock()
    },
  }
}

const tooLong = (bytesMax: number) =>
  badPart('length', `More was sent than the ${bytesMax} bytes that the upload has at most.`)

async function checkPart(writer: BlobWriter, { checksum }: UploadPart): Promise<void> {
  if (checksum === undefined) return
  if (checksum.bytes.equals(await writer.digest())) return
  throw badPart(
    'checksum',
    `The part's ${checksum.algorithm} is another than the one sent with it. Send it again.`,
  )
}

/** The part as it comes. A line that breaks, or ends early, is Fault 'unavailable' 'upload'. */
async function* piecesOf({ body, partBytes }: UploadPart, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const broken = (cause?: unknown) =>
    new Fault('unavailable', 'The part broke off. Ask for the offset, and go on from there.', {
      ...{ subject: 'upload', cause },
    })
  let sizeBytes = 0
  // Who is told to stop does not wait for a line that is silent. One listener for all pieces: there may be millions.
  let stop: ((reason: unknown) => void) | undefined
  const onAbort = () => stop?.(signal.reason)
  signal.addEventListener('abort', onAbort, { once: true })
  const pieces = body[Symbol.asyncIterator]()
  const nextPiece = () =>
    new Promise<IteratorResult<Uint8Array>>((resolve, reject) => {
      stop = reject
      pieces.next().then(resolve, (cause: unknown) => reject(isFault(cause) ? cause : broken(cause)))
    })
  try {
    for (;;) {
      signal.throwIfAborted()
      const next = await nextPiece()
      if (next.done === true) break
      sizeBytes += next.value.length
      yield next.value
    }
  } finally {
    signal.removeEventListener('abort', onAbort)
    // Not waited for: it may itself wait for the silent line.
    void pieces.return?.()
  }
  if (partBytes !== undefined && sizeBytes < partBytes) throw broken()
}
