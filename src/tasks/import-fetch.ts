import { setTimeout as delay } from 'node:timers/promises'
import { refuseFile } from '../disk/formats/contract.ts'
import { Fault, isFault } from '../image/fault.ts'
import type { RegionId } from '../image/ids.ts'
import type { RemoteFile, RemoteSource } from '../intake/contract.ts'
import { isSlow, signalUntil, steady } from './import-pace.ts'
import { blobJob, checkpointOf, type ImportInput } from './import-sources.ts'
import type { TaskParts } from './parts.ts'
import { reserve } from './quota.ts'
import { refuseWithoutRoom } from './room.ts'
import type { StepContext } from './runner.ts'
import type { BlobMap, BlobWriter } from './store-jobs.ts'

/** After so many bytes what has come is durable: a crash costs no more. */
export const CHECKPOINT_BYTES = 64 * 1024 * 1024
/** In a row without a byte more. */
const ATTEMPTS_MAX = 8
/** As long as nothing has come at all: a name that is mistyped is to be told soon. */
const FIRST_ATTEMPTS_MAX = 3
const AGAIN_MS = 500
const AGAIN_MS_MAX = 30_000
/** Without an announced length, so much is reserved at a time. */
const RESERVED_BYTES = 16 * CHECKPOINT_BYTES

/**
 * Brings a file in from its address, straight into chunks: goes on behind what came, also after a crash, as long as the
 * address says that it is the same file. Faults as of `Fetcher`; 'full'; 'invalid' 'file' 'too-large'; 'unavailable' 'file'
 * for what did not come in `fetchMs` from the first byte that was asked for, or too slowly again and again.
 */
export async function fetchFile(parts: TaskParts, context: StepContext<ImportInput>): Promise<void> {
  const { from } = context.input
  if (from.is !== 'url' || checkpointOf(context).isWhole === true) return
  const source = parts.intake.seal.open(from.sealed)
  await context.within('fetches', () => fetchAll(parts, context, source))
}

async function fetchAll(
  parts: TaskParts,
  context: StepContext<ImportInput>,
  source: RemoteSource,
): Promise<void> {
  const { intake, clock } = parts
  const fetchFromMs = checkpointOf(context).fetchFromMs ?? clock()
  await context.save({ fetchFromMs })
  const endMs = fetchFromMs + intake.fetchMs
  const haveBytes = () => checkpointOf(context).received?.sizeBytes ?? 0
  let attemptCount = 0
  let busyCount = 0
  for (;;) {
    const before = haveBytes()
    try {
      return await fetchOnce(parts, context, source, endMs)
    } catch (error) {
      context.signal.throwIfAborted()
      if (!isFault(error, 'unavailable')) throw error
      // We have our hands full: no failure of the other side.
      const isBusy = error.reason === 'busy'
      busyCount = isBusy ? busyCount + 1 : 0
      // What comes too slowly is more each time, and would hold its place for as long as it likes.
      const hasMore = haveBytes() > before && !isSlow(error)
      if (!isBusy) attemptCount = hasMore ? 0 : attemptCount + 1
      if (attemptCount >= (haveBytes() > 0 ? ATTEMPTS_MAX : FIRST_ATTEMPTS_MAX)) throw error
      await context.phase('fetch: again')
      const waitMs = Math.min(AGAIN_MS_MAX, AGAIN_MS * 2 ** (isBusy ? busyCount : attemptCount))
      if (clock() + waitMs >= endMs) throw late(error)
      await delay(waitMs, undefined, { signal: context.signal })
    }
  }
}

async function fetchOnce(
  parts: TaskParts,
  context: StepContext<ImportInput>,
  source: RemoteSource,
  endMs: number,
): Promise<void> {
  const { intake, clock } = parts
  const time = signalUntil(context.signal, endMs - clock(), late)
  try {
    const { received, etag } = checkpointOf(context)
    const from = { offset: received?.sizeBytes ?? 0, etag }
    const remote = await intake.fetcher.open(source, from, time.signal)
    try {
      await takeIn(parts, context, remote, time.signal)
    } finally {
      remote.close()
    }
  } finally {
    time.end()
  }
}

const late = (cause?: unknown) =>
  new Fault(
    'unavailable',
    'The file did not come in the time that imports have. Try again, or raise imports.fetchHours.',
    { subject: 'file', cause },
  )

async function takeIn(
  parts: TaskParts,
  context: StepContext<ImportInput>,
  remote: RemoteFile,
  signal: AbortSignal,
): Promise<void> {
  const job = blobJob(context, 'received')
  const bytesMax = await reserveFor(parts, context, remote.sizeBytes)
  let map = checkpointOf(context).received
  if (remote.offset !== (map?.sizeBytes ?? 0)) {
    // The file is another one than what came before.
    await parts.jobs.abort(job.regionId, job.sessionId)
    await context.save({ received: undefined, etag: undefined })
    map = undefined
  }
  const writer = await parts.jobs.openBlob({ ...job, map }, signal)
  const keep = async (isWhole: boolean): Promise<BlobMap> => {
    const received = await writer.checkpoint()
    await context.save({ received, etag: remote.etag, isWhole })
    return received
  }
  try {
    const received = await copyIn(parts, context, remote, writer, { map, bytesMax, keep, signal })
    if (remote.sizeBytes !== undefined && received.sizeBytes !== remote.sizeBytes) {
      throw new Fault('unavailable', 'The other side ended the file early.', { subject: 'file' })
    }
    await keep(true)
  } catch (error) {
    // Without a mark that says which file it is of, nobody goes on behind it.
    if (isFault(error, 'unavailable') && remote.etag !== undefined) await keep(false).catch(() => {})
    throw error
  } finally {
    await writer.close()
  }
}

async function copyIn(
  parts: TaskParts,
  context: StepContext<ImportInput>,
  remote: RemoteFile,
  writer: BlobWriter,
  options: {
    readonly map: BlobMap | undefined
    readonly bytesMax: number
    readonly keep: (isWhole: boolean) => Promise<BlobMap>
    readonly signal: AbortSignal
  },
): Promise<{ readonly sizeBytes: number }> {
  let sizeBytes = options.map?.sizeBytes ?? 0
  let keptBytes = sizeBytes
  let reservedBytes = remote.sizeBytes ?? RESERVED_BYTES
  for await (const piece of steady(remote.body, parts.clock)) {
    options.signal.throwIfAborted()
    sizeBytes += piece.length
    if (sizeBytes > options.bytesMax) throw tooLarge(options.bytesMax)
    if (remote.sizeBytes === undefined && sizeBytes > reservedBytes) {
      reservedBytes = sizeBytes + RESERVED_BYTES
      await reserveFor(parts, context, reservedBytes)
    }
    await writer.write(piece)
    if (sizeBytes - keptBytes < CHECKPOINT_BYTES) continue
    await options.keep(false)
    keptBytes = sizeBytes
    // Reading it afterwards is the other half.
    context.progress({
      doneBytes: keptBytes,
      totalBytes: 2 * Math.max(keptBytes, remote.sizeBytes ?? 0),
      movedBytes: keptBytes,
    })
  }
  return { sizeBytes }
}

const tooLarge = (bytesMax: number) =>
  refuseFile('too-large', `The file is larger than ${bytesMax} bytes, the most that is taken in.`)

/** Charges the file to the project before the first byte comes. Answers how large it may be. */
async function reserveFor(
  parts: TaskParts,
  context: StepContext<ImportInput>,
  sizeBytes: number | undefined,
): Promise<number> {
  const { diskBytesMax } = parts.intake
  if (sizeBytes !== undefined && sizeBytes > diskBytesMax) throw tooLarge(diskBytesMax)
  const { row, input } = context
  const neededBytes = sizeBytes ?? RESERVED_BYTES
  const haveBytes = checkpointOf(context).received?.sizeBytes ?? 0
  await refuseWithoutRoom(parts, row.regionId as RegionId, neededBytes - haveBytes)
  await parts.catalog.transaction((rows) => reserve(rows, { is: 'image', id: input.imageId }, neededBytes))
  return diskBytesMax
}
