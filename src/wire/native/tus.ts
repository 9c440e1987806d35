import type { App } from '../../app/contract.ts'
import type { Upload, UploadPart } from '../../app/transfer-contract.ts'
import { Fault, isFault } from '../../image/fault.ts'
import { spellId } from '../../image/ids.ts'
import type { WireAnswer, WireHead, WireRequest } from '../gateway-contract.ts'
import { errorAnswer, faultAnswer } from './errors.ts'
import { meantMethod, UPLOAD_BYTES_MAX } from './upload-path.ts'

// tus 1.0.0 (tus.io/protocols/resumable-upload): core, creation, creation-defer-length, expiration, checksum, termination.

const VERSION = '1.0.0'
const RESUMABLE = { 'tus-resumable': VERSION }
const DIGEST_BYTES = { sha256: 32, sha1: 20, md5: 16 } as const
type PartAlgorithm = keyof typeof DIGEST_BYTES

const bad = (message: string, reason = 'malformed') => new Fault('invalid', message, { reason })

/** True for a request that speaks tus: its creation comes in headers, and its errors have the protocol's numbers. */
export function isTus({ headers }: WireHead): boolean {
  return headers['tus-resumable'] !== undefined
}

/** What there is here, for a client that asks before it begins. No signature. */
export function tusOptions(): WireAnswer {
  const headers = {
    ...RESUMABLE,
    'tus-version': VERSION,
    'tus-extension': 'creation,creation-defer-length,expiration,checksum,termination',
    'tus-max-size': String(UPLOAD_BYTES_MAX),
    'tus-checksum-algorithm': Object.keys(DIGEST_BYTES).join(','),
  }
  return { status: 204, headers, body: '' }
}

/** Puts the protocol's own header into an answer of the door. */
export function asTus(answer: WireAnswer): WireAnswer {
  return { ...answer, headers: { ...answer.headers, ...RESUMABLE } }
}

export function requireVersion({ headers }: WireHead): void {
  if (headers['tus-resumable'] === VERSION) return
  throw bad(`Send the header Tus-Resumable: ${VERSION}.`, 'tus-version')
}

function statusOf({ kind, subject, reason }: Fault): number | undefined {
  if (reason === 'tus-version') return 412
  if (reason === 'media-type') return 415
  if (reason === 'stalled') return 408
  if (reason === 'expired') return 410
  // 507 would have clients send it all again.
  if (kind === 'full') return 413
  if (subject !== 'upload') return undefined
  if (reason === 'busy') return 423
  return reason === 'checksum' ? 460 : undefined
}

/** Any error in our own shape, under the protocol's number where it has one. */
export function tusError(error: unknown, requestId: string): WireAnswer {
  const answer = isFault(error)
    ? faultAnswer(error, requestId, statusOf(error))
    : errorAnswer(error, requestId)
  return asTus({ ...answer, headers: { ...answer.headers, 'tus-version': VERSION } })
}

/** Only `name` of a header: a list of several would leave open which is meant. */
function header({ headers }: WireHead, name: string): string | undefined {
  const value = headers[name]
  return Array.isArray(value) ? value.join(',') : value
}

function countOf(request: WireHead, name: string): number | undefined {
  const text = header(request, name)
  if (text === undefined) return undefined
  const count = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN
  if (!Number.isSafeInteger(count)) throw bad(`The header ${name} takes a count of bytes.`)
  return count
}

function tooLarge(): Fault {
  return bad(`A file may have up to ${UPLOAD_BYTES_MAX} bytes.`, 'too-large')
}

/** The length that a creation tells; undefined where it will be told later. Throws Fault 'invalid'. */
export function creationLength(request: WireHead): number | undefined {
  const lengthBytes = countOf(request, 'upload-length')
  const later = header(request, 'upload-defer-length')
  if ((lengthBytes === undefined) === (later === undefined))
    throw bad('Send the header Upload-Length, or Upload-Defer-Length: 1.')
  if (later !== undefined && later !== '1') throw bad('The header Upload-Defer-Length takes 1.')
  if (lengthBytes !== undefined && lengthBytes > UPLOAD_BYTES_MAX) throw tooLarge()
  return lengthBytes
}

function checksumOf(request: WireHead): UploadPart['checksum'] {
  const text = header(request, 'upload-checksum')
  if (text === undefined) return undefined
  const [, word = '', base64 = ''] = /^([a-z0-9]{1,10}) ([A-Za-z0-9+/]{1,128}={0,2})$/.exec(text) ?? []
  const bytes = Buffer.from(base64, 'base64')
  if (!Object.hasOwn(DIGEST_BYTES, word) || bytes.length !== DIGEST_BYTES[word as PartAlgorithm])
    throw bad(`The header Upload-Checksum takes one of ${Object.keys(DIGEST_BYTES).join(', ')} and base64.`)
  return { algorithm: word as PartAlgorithm, bytes }
}

function partOf(request: WireRequest): UploadPart {
  if (header(request, 'content-type') !== 'application/offset+octet-stream')
    throw bad('Send parts with the header Content-Type: application/offset+octet-stream.', 'media-type')
  if (!/^(identity)?$/i.test(header(request, 'content-encoding') ?? ''))
    throw bad('Send parts without Content-Encoding; a packed file is sent as it is.', 'media-type')
  const offsetBytes = countOf(request, 'upload-offset')
  if (offsetBytes === undefined) throw bad('Send the header Upload-Offset.')
  const partBytes = countOf(request, 'content-length')
  const lengthBytes = countOf(request, 'upload-length')
  if (Math.max(offsetBytes + (partBytes ?? 0), lengthBytes ?? 0) > UPLOAD_BYTES_MAX) throw tooLarge()
  const { stream } = request
  if (stream === undefined) throw new Error('The gateway gives a part as a stream.')
  return { offsetBytes, partBytes, lengthBytes, checksum: checksumOf(request), body: stream }
}

/** What is told of an upload with every answer about it. */
function headersOf({ offsetBytes, lengthBytes, state, expiresAtMs }: Upload): Record<string, string> {
  return {
    'upload-offset': String(offsetBytes),
    ...(lengthBytes === undefined
      ? { 'upload-defer-length': '1' }
      : { 'upload-length': String(lengthBytes) }),
    ...(state.at === 'receiving' ? { 'upload-expires': new Date(expiresAtMs).toUTCString() } : {}),
    ...(state.at === 'received'
      ? {
          'calotype-image-id': spellId('image', state.imageId, 'native'),
          'calotype-task-id': spellId('task', state.taskId, 'native'),
        }
      : {}),
  }
}

/** A request to `/v1/uploads/TOKEN`: whoever has the token may ask, send and give up. Throws Fault. */
export async function answerUpload(
  { uploads }: Pick<App, 'uploads'>,
  request: WireRequest,
  token: string,
): Promise<WireAnswer> {
  const method = meantMethod(request)
  if (method === 'OPTIONS') return tusOptions()
  requireVersion(request)
  if (method !== 'HEAD' && method !== 'PATCH' && method !== 'DELETE')
    throw bad('A place to upload to takes HEAD, PATCH and DELETE.', 'method-unsupported')
  if (token === '')
    throw new Fault('absent', 'There is no such upload. Begin it again.', { subject: 'upload' })
  if (method === 'DELETE') {
    await uploads.abandon(token)
    return asTus({ status: 204, headers: {}, body: '' })
  }
  if (method === 'HEAD') {
    const headers = headersOf(await uploads.find(token))
    return asTus({ status: 200, headers, body: '' })
  }
  const upload = await uploads.receive(token, partOf(request), request.signal)
  // Whoever sends it learns why, not only whoever asks for it later.
  if (upload.state.at === 'refused') throw new Fault('invalid', upload.state.reason, { subject: 'file' })
  return asTus({ status: 204, headers: headersOf(upload), body: '' })
}
