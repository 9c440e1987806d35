import { createByteProgress } from './byte-progress.ts'
import { CommandFailure, EXIT, ServerRefusal } from './failure.ts'
import { formatBytes } from './format.ts'
import type { ImportSource } from './import-source.ts'
import { abortable, interruptible } from './interrupt.ts'
import type { Session } from './session.ts'
import { abandon, DAMAGED, type Received, send, UploadGone } from './upload.ts'
import { NO_NOTES, openUploadNotes, type UploadNotes, type UploadPlace } from './upload-notes.ts'
import { openUploadFile, openUploadStream, SourceLost } from './upload-source.ts'

export interface UploadWish {
  /** As the body of the request has it, without the length. */
  readonly wish: object
  readonly query: { readonly region: string | undefined; readonly project: string | undefined }
  readonly partBytes: number
  /** Whatever an earlier try has left. */
  readonly isFromStart: boolean
}

export type Uploaded = Received & { readonly uploadId: string }

/**
 * Sends a file, or what comes through the pipe, and answers what the server makes of it. What was begun by the same command
 * before is gone on with. Throws CommandFailure.
 */
export async function uploadImage(
  session: Session,
  from: Extract<ImportSource, { is: 'local' | 'pipe' }>,
  { wish, query, partBytes, isFromStart }: UploadWish,
): Promise<Uploaded> {
  const { io, connection } = session
  const file = from.is === 'local' ? await openUploadFile(from.path, partBytes) : undefined
  const source = file ?? openUploadStream(io.stdin, partBytes)
  const notes = file === undefined ? NO_NOTES : openUploadNotes(io, connection, file, wish)
  const progress = createByteProgress(io, `upload ${source.name}`, source.lengthBytes)
  let doneBytes = 0
  const attempt = async (place: UploadPlace, isResumed: boolean, signal: AbortSignal): Promise<Uploaded> => {
    const update = (now: number) => {
      doneBytes = now
      progress.update(now)
    }
    const sending = {
      uploadPlace: place,
      source,
      query,
      signal,
      isResumed,
      progress: { ...progress, update },
    }
    try {
      return { ...(await send(session, sending)), uploadId: place.uploadId }
    } catch (error) {
      throw await settle(session, error, place, file === undefined ? undefined : notes)
    }
  }
  const begin = async (): Promise<UploadPlace> => {
    const body = { ...wish, lengthBytes: source.lengthBytes }
    const made = await session.client.call<{ uploadId: string; location: string }>('POST', '/v1/uploads', {
      body,
    })
    // The server names itself as it was asked for, which need not be how it is reached from here.
    const { pathname } = new URL(made.location, connection.endpoint)
    const place = { uploadId: made.uploadId, path: pathname }
    await notes.keep(place)
    return place
  }
  const describe = () => `Stopped at ${formatBytes(doneBytes)}. ${file === undefined ? FROM_PIPE : FROM_FILE}`
  try {
    const sent = await interruptible(io, describe, async (signal) => {
      const earlier = await notes.find()
      if (earlier !== undefined && isFromStart) {
        await abandon(session, earlier)
        await notes.forget()
      } else if (earlier !== undefined) {
        io.stderr.write(`Going on with upload ${earlier.uploadId}.\n`)
        try {
          return await attempt(earlier, true, signal)
        } catch (error) {
          if (!(error instanceof UploadGone)) throw error
          io.stderr.write('The server no longer has it: it begins again.\n')
        }
      }
      // Before anything is made for it: an empty pipe leaves nothing behind, a short one has its length known.
      if (file === undefined) await abortable(source.read(0), signal)
      return attempt(await begin(), false, signal)
    })
    await notes.forget()
    return sent
  } finally {
    progress.end()
    await source.close()
  }
}

const FROM_PIPE = 'What came through the pipe is dropped.'
const FROM_FILE =
  'What came is kept on the server: run the same command again to go on, or see: calotype image upload list'

/** After a failure: drops what nobody can go on with, and says of the rest that it is kept. `notes` undefined: of a pipe. */
async function settle(
  session: Session,
  error: unknown,
  place: UploadPlace,
  notes: UploadNotes | undefined,
): Promise<unknown> {
  if (notes === undefined || error instanceof SourceLost) await abandon(session, place)
  if (error instanceof UploadGone || error instanceof SourceLost) await notes?.forget()
  if (notes === undefined || !(error instanceof CommandFailure) || error instanceof UploadGone) return error
  const isRefused = error instanceof ServerRefusal && error.kind === 'invalid' && error.status !== DAMAGED
  if (isRefused) await notes.forget()
  if (isRefused || error instanceof SourceLost || error.exitCode === EXIT.interrupted) return error
  const message = `${error.message} What came is kept on the server: run the same command again to go on.`
  return new CommandFailure(error.exitCode, message, { cause: error })
}
