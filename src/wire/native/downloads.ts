import type { App } from '../../app/contract.ts'
import type { ExportFile } from '../../app/transfer-contract.ts'
import { Fault, isFault } from '../../image/fault.ts'
import { percentEncode } from '../acs3.ts'
import type { WireAnswer, WireRequest } from '../gateway-contract.ts'
import { faultAnswer } from './errors.ts'
import { type AskedRange, namesEtag, parseRange, wantsSha256 } from './range.ts'

const RETRY_AFTER_S = '5'

/** As a header may hold it, quoted, whatever alphabet it was made in. */
const quoted = (etag: string) => `"${etag.replace(/^"|"$/g, '').replace(/[^\x21\x23-\x7e]/g, '_')}"`

/** How to name the file, for tools old and new. Nothing in a name can begin another header. Source: RFC 6266. */
function disposition(fileName: string): string {
  const plain = fileName.replace(/[^\x20-\x7e]|["\\%/]/gu, '_')
  return `attachment; filename="${plain}"; filename*=UTF-8''${percentEncode(fileName.toWellFormed())}`
}

const digest = (sha256: Buffer) => `sha-256=:${sha256.toString('base64')}:`

/** Lets go of what stands behind a file that nobody will read. */
async function leave({ body }: ExportFile): Promise<void> {
  await body[Symbol.asyncIterator]().return?.()
}

/** With the first piece made already: what keeps a file from being read is then answered, not a broken connection. */
async function begun(body: AsyncIterable<Uint8Array>): Promise<AsyncIterable<Uint8Array>> {
  const iterator = body[Symbol.asyncIterator]()
  let first: IteratorResult<Uint8Array> | undefined = await iterator.next()
  return {
    [Symbol.asyncIterator]: () => ({
      async next() {
        const next = first ?? (await iterator.next())
        first = undefined
        return next
      },
      async return() {
        await iterator.return?.()
        return { done: true, value: undefined }
      },
    }),
  }
}

function headersOf(file: ExportFile): Record<string, string> {
  return {
    'content-type': 'application/octet-stream',
    'content-disposition': disposition(file.fileName),
    etag: quoted(file.etag),
    'accept-ranges': file.sizeBytes === undefined ? 'none' : 'bytes',
    ...(file.sha256 === undefined ? {} : { 'repr-digest': digest(file.sha256) }),
  }
}

/** A request to `/v1/downloads/TOKEN/FILENAME`: whoever has the token may read. Throws Fault. */
export async function answerDownload(
  { exports }: Pick<App, 'exports'>,
  request: WireRequest,
  token: string,
): Promise<WireAnswer> {
  const { method, headers, signal, requestId } = request
  if (method !== 'GET' && method !== 'HEAD')
    throw new Fault('invalid', 'A download takes GET and HEAD.', { reason: 'method-unsupported' })
  if (token === '')
    throw new Fault('absent', 'There is no such download. Ask for a new link.', { subject: 'file' })
  const headOnly = method === 'HEAD'
  const wantsRangeDigest = !headOnly && wantsSha256(String(headers['want-content-digest'] ?? ''))
  const open = (range: AskedRange | undefined, headOnly: boolean) =>
    exports.open(token, { range, wantsRangeDigest: wantsRangeDigest && !headOnly, headOnly }, signal)
  const look = async () => {
    const file = await open(undefined, true)
    await leave(file)
    return file
  }

  let range = headOnly ? undefined : parseRange(headers.range)
  const ifMatch = headers['if-match']
  const ifNoneMatch = headers['if-none-match']
  const ifRange = range === undefined ? undefined : headers['if-range']
  if (ifMatch !== undefined || ifNoneMatch !== undefined || ifRange !== undefined) {
    const file = await look()
    const etag = quoted(file.etag)
    if (ifMatch !== undefined && !namesEtag(ifMatch, etag, false)) {
      const message = 'The file is another by now. Begin the download again.'
      const fault = new Fault('conflict', message, { subject: 'file', reason: 'etag' })
      return faultAnswer(fault, requestId, 412)
    }
    if (ifNoneMatch !== undefined && namesEtag(ifNoneMatch, etag, true))
      return {
        status: 304,
        headers: { etag, 'accept-ranges': headersOf(file)['accept-ranges'] ?? '' },
        body: '',
      }
    // A date says less than a tag, and there is none here: whoever asks by date gets the whole.
    if (ifRange !== undefined && ifRange !== etag) range = undefined
  }

  try {
    const file = await open(range, headOnly)
    const shown = headersOf(file)
    const isPart = range !== undefined && file.range !== undefined && file.sizeBytes !== undefined
    if (file.range !== undefined) {
      const { offset, lengthBytes } = file.range
      shown['content-length'] = String(lengthBytes)
      if (isPart) shown['content-range'] = `bytes ${offset}-${offset + lengthBytes - 1}/${file.sizeBytes}`
    }
    if (file.rangeSha256 !== undefined) shown['content-digest'] = digest(file.rangeSha256)
    if (headOnly) {
      await leave(file)
      return { status: 200, headers: shown, body: '' }
    }
    return { status: isPart ? 206 : 200, headers: shown, body: '', stream: await begun(file.body) }
  } catch (error) {
    if (!isFault(error, 'invalid') || error.reason !== 'range') throw error
    const { sizeBytes } = await look()
    const answer = faultAnswer(error, requestId, 416)
    return { ...answer, headers: { ...answer.headers, 'content-range': `bytes */${sizeBytes ?? '*'}` } }
  }
}

/** What a client may do about a download that is refused, beside reading why. */
export function withRetry(answer: WireAnswer): WireAnswer {
  const isSoon = answer.status === 409 || answer.status === 503
  return isSoon ? { ...answer, headers: { ...answer.headers, 'retry-after': RETRY_AFTER_S } } : answer
}
