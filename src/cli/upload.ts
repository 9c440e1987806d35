import { createHash } from 'node:crypto'
import type { ShownUpload } from '../wire/native/show-transfers.ts'
import type { ByteProgress } from './byte-progress.ts'
import { CommandFailure, EXIT, ServerRefusal } from './failure.ts'
import { exchange, isPassing, type Reply, readRefusal } from './http.ts'
import { abortable } from './interrupt.ts'
import { createPersistence } from './persistence.ts'
import type { Session } from './session.ts'
import type { UploadPlace } from './upload-notes.ts'
import type { Part, UploadSource } from './upload-source.ts'

// The sender's side of tus 1.0.0 (core, checksum, creation-defer-length, termination) as docs/api.md has it.

export interface Received {
  readonly imageId: string
  readonly taskId: string
}

export interface Sending {
  readonly uploadPlace: UploadPlace
  readonly source: UploadSource
  readonly query: { readonly region: string | undefined; readonly project: string | undefined }
  readonly progress: ByteProgress
  readonly signal: AbortSignal
  /** False for one that was made just now. */
  readonly isResumed: boolean
}

/** The server knows nothing of the upload any more: it expired, or somebody took it away. */
export class UploadGone extends CommandFailure {
  constructor() {
    super(
      EXIT.fault,
      'The server no longer has this upload: it expired or was deleted. Run the command again.',
    )
    this.name = 'UploadGone'
  }
}

const TUS = { 'tus-resumable': '1.0.0' }
/** The part did not come as its checksum says. */
export const DAMAGED = 460
/** What the server has is not what we thought: to be asked for anew. */
const STALE = [404, 409, 410, DAMAGED]

/** How far it is. */
interface Place {
  readonly offset: number
  readonly isLengthKnown: boolean
}

/**
 * Sends what is missing, part after part, each with its checksum; goes on where the server says after whatever passes.
 * Throws UploadGone, ServerRefusal, and CommandFailure of the source; the reason of `signal` once it is aborted.
 */
export async function send(session: Session, sending: Sending): Promise<Received> {
  const { source, progress, signal } = sending
  const persistence = createPersistence(session.io, signal)
  let place: Place | undefined = sending.isResumed
    ? undefined
    : { offset: 0, isLengthKnown: source.lengthBytes !== undefined }
  let damagedCount = 0
  if (place !== undefined) progress.update(0)
  for (;;) {
    try {
      if (place === undefined) {
        const received = await askReceived(session, sending)
        if (received !== undefined) return received
        place = await askPlace(session, sending)
        progress.update(place.offset)
      }
      if (place.offset === source.lengthBytes) throw notYet()
      const part = await abortable(source.read(place.offset), signal)
      const reply = await sendPart(session, sending, part, place.isLengthKnown)
      const received = receivedOf(reply)
      if (received !== undefined) return received
      place = { ...place, offset: readOffset(reply, part.offset + 1, part.offset + part.bytes.length) }
      progress.update(place.offset)
      damagedCount = 0
      persistence.reset()
    } catch (error) {
      place = undefined
      const status = error instanceof ServerRefusal ? error.status : 0
      // Once may be the line; twice is something that changes what goes over it.
      if (status === DAMAGED && ++damagedCount > 1) throw error
      await persistence.pause(error, STALE.includes(status) || isPassing(error))
    }
  }
}

/** Tells the server to drop what came. Nobody is told if that fails: it expires by itself. */
export async function abandon(session: Session, place: UploadPlace): Promise<void> {
  const url = new URL(place.path, session.connection.endpoint)
  const signal = AbortSignal.timeout(5000)
  try {
    const reply = await exchange({ url, method: 'DELETE', headers: TUS, signal })
    reply.discard()
  } catch {}
}

async function sendPart(
  session: Session,
  { uploadPlace, source, progress, signal }: Sending,
  part: Part,
  isLengthKnown: boolean,
): Promise<Reply> {
  const { offset, bytes, isLast } = part
  let sentBytes = 0
  const reply = await exchange({
    url: new URL(uploadPlace.path, session.connection.endpoint),
    method: 'PATCH',
    headers: {
      ...TUS,
      'content-type': 'application/offset+octet-stream',
      'upload-offset': String(offset),
      'upload-checksum': `sha256 ${createHash('sha256').update(bytes).digest('base64')}`,
      // Of a stream it is known only now, and may be said once.
      ...(isLast && !isLengthKnown ? { 'upload-length': String(source.lengthBytes) } : {}),
    },
    body: bytes,
    signal,
    // From its offset it is taken once.
    isRepeatable: true,
    onSent(byteCount) {
      sentBytes += byteCount
      progress.update(offset + sentBytes)
    },
  })
  await requireSuccess(reply)
  return reply
}

async function askPlace(session: Session, { uploadPlace, source, signal }: Sending): Promise<Place> {
  const url = new URL(uploadPlace.path, session.connection.endpoint)
  const reply = await exchange({ url, method: 'HEAD', headers: TUS, signal, isRepeatable: true })
  if (reply.status === 404 || reply.status === 410) throw new UploadGone()
  await requireSuccess(reply)
  return {
    offset: readOffset(reply, 0, source.lengthBytes ?? Number.MAX_SAFE_INTEGER),
    isLengthKnown: reply.headers['upload-length'] !== undefined,
  }
}

async function requireSuccess(reply: Reply): Promise<void> {
  if (reply.status >= 300) throw await readRefusal(reply)
  reply.discard()
}

function readOffset({ headers }: Reply, min: number, max: number): number {
  const text = headers['upload-offset']
  const offset = typeof text === 'string' && /^\d{1,15}$/.test(text) ? Number(text) : -1
  if (offset >= min && offset <= max) return offset
  throw new CommandFailure(
    EXIT.unreachable,
    'The server does not answer an upload as a calotype server does. Check --endpoint, and what stands before it.',
  )
}

function receivedOf({ headers }: Reply): Received | undefined {
  const { 'calotype-image-id': imageId, 'calotype-task-id': taskId } = headers
  return typeof imageId === 'string' && typeof taskId === 'string' ? { imageId, taskId } : undefined
}

/** What became of an upload that takes no more parts; undefined for one that does. Throws UploadGone, ServerRefusal. */
async function askReceived(session: Session, { uploadPlace, query }: Sending): Promise<Received | undefined> {
  const path = `/v1/uploads/${encodeURIComponent(uploadPlace.uploadId)}`
  const shown = await session.client.call<ShownUpload>('GET', path, { query }).catch((error: unknown) => {
    throw error instanceof ServerRefusal && error.kind === 'absent' ? new UploadGone() : error
  })
  const { state, imageId, taskId, reason } = shown
  if (imageId !== null && taskId !== null) return { imageId, taskId }
  if (state !== 'refused') return undefined
  throw new ServerRefusal(400, { kind: 'invalid', message: reason ?? 'The server refuses this file.' })
}

function notYet(): ServerRefusal {
  const message = 'The server has the whole file and does not take it in. Run the command again.'
  return new ServerRefusal(503, { kind: 'unavailable', message })
}
