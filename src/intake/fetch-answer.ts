import type { IncomingHttpHeaders } from 'node:http'
import { Fault } from '../image/fault.ts'
import { refuseUrl } from './fetch-url.ts'
import { failed } from './fetch-wait.ts'

/** Where a download goes on: only with a strong validator, or bytes of two files might be joined. */
export interface Resume {
  readonly offset: number
  readonly etag: string
}

/** What the head of an answer says, all of it checked. */
export type Head =
  | {
      readonly is: 'body'
      /** Of the whole file. */
      readonly sizeBytes: number | undefined
      readonly etag: string | undefined
      readonly offset: number
      /** That this answer announces; undefined where its end is the only sign of it. */
      readonly lengthBytes: number | undefined
    }
  | { readonly is: 'redirect'; readonly location: string }
  /** Nothing of this answer can be used: ask for the whole file. */
  | { readonly is: 'again' }

/**
 * Reads the head of an answer to a request for the whole file, or for what is behind `resume.offset`. Of validators only
 * a strong ETag counts: Last-Modified has seconds, and a file may change twice in one. Source: RFC 9110, 8.8, 13, 14, 15.
 * Faults: 'absent', 'denied', 'unavailable' 'file'; 'invalid' 'request' reason 'url' for a packed answer.
 */
export function readHead(status: number, headers: IncomingHttpHeaders, resume: Resume | undefined): Head {
  const etag = parseEtag(headers.etag)
  switch (status) {
    case 301:
    case 302:
    case 303:
    case 307:
    case 308:
      if (headers.location === undefined) throw strange(status)
      return { is: 'redirect', location: headers.location }
    case 200: {
      requirePlain(headers)
      const lengthBytes = parseLength(headers)
      return { is: 'body', sizeBytes: lengthBytes, etag, offset: 0, lengthBytes }
    }
    case 206:
      if (resume === undefined) throw strange(status)
      requirePlain(headers)
      return readPart(headers, etag, resume)
    case 412:
    case 416: {
      if (resume === undefined) throw strange(status)
      const total = /^bytes \*\/(\d{1,16})$/.exec(headers['content-range'] ?? '')?.[1]
      const isWhole = status === 416 && total !== undefined && Number(total) === resume.offset
      if (!isWhole || (etag !== undefined && etag !== resume.etag)) return { is: 'again' }
      return {
        ...{ is: 'body', sizeBytes: resume.offset, etag: resume.etag },
        ...{ offset: resume.offset, lengthBytes: 0 },
      }
    }
    case 401:
    case 403:
      throw new Fault(
        'denied',
        'The server does not give us this file. Check the address and its permissions.',
        {
          subject: 'file',
        },
      )
    case 404:
    case 410:
      throw new Fault('absent', 'There is no file at this address. Check the address.', { subject: 'file' })
    default:
      throw strange(status)
  }
}

/** Undefined for a weak one, and for what is none. */
export function parseEtag(text: string | undefined): string | undefined {
  return text !== undefined && /^"[\x21\x23-\x7e]{0,254}"$/.test(text) ? text : undefined
}

/** A part that is not the one asked for is no fault of the file: some servers cannot do better. */
function readPart(headers: IncomingHttpHeaders, etag: string | undefined, resume: Resume): Head {
  const match = /^bytes (\d{1,16})-(\d{1,16})\/(\d{1,16})$/.exec(headers['content-range'] ?? '')
  const [first = 0, last = 0, sizeBytes = 0] = (match ?? []).slice(1).map(Number)
  const isPart = match !== null && Number.isSafeInteger(sizeBytes) && first <= last && last < sizeBytes
  if (!isPart || first !== resume.offset) return { is: 'again' }
  if (etag !== undefined && etag !== resume.etag) return { is: 'again' }
  const lengthBytes = last - first + 1
  const announced = parseLength(headers)
  if (announced !== undefined && announced !== lengthBytes) return { is: 'again' }
  return { is: 'body', sizeBytes, etag: resume.etag, offset: first, lengthBytes }
}

function requirePlain(headers: IncomingHttpHeaders): void {
  const coding = headers['content-encoding'] ?? 'identity'
  const transfer = headers['transfer-encoding'] ?? 'chunked'
  if (coding.toLowerCase() !== 'identity' || transfer.toLowerCase() !== 'chunked') {
    throw refuseUrl(
      'The server packs its answer for the way (Content-Encoding) though we asked it not to; switch that off for this file.',
    )
  }
}

function parseLength(headers: IncomingHttpHeaders): number | undefined {
  const text = headers['content-length']
  if (text === undefined) return undefined
  const lengthBytes = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN
  if (!Number.isSafeInteger(lengthBytes)) throw failed('The server announces a length that no file has.')
  return lengthBytes
}

function strange(status: number): Fault {
  return failed(`The server answered with status ${status}. Check the address, or try again later.`)
}
