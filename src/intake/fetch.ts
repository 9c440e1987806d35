import assert from 'node:assert/strict'
import type { IncomingMessage } from 'node:http'
import type { Fetcher, RemoteFile, RemoteSource } from './contract.ts'
import { type Head, parseEtag, type Resume, readHead } from './fetch-answer.ts'
import { readBody } from './fetch-body.ts'
import { parseRedirect, parseTarget, refuseUrl, showUrl, type Target } from './fetch-url.ts'
import { failed } from './fetch-wait.ts'
import { checkTarget, createGuard, type Guard, type GuardOptions, guardedRequest } from './guard.ts'
import { bucketElsewhere, parseS3, showS3, signS3 } from './s3-source.ts'

export interface FetcherOptions extends GuardOptions {
  /** From `open` to the end of the body. A caller that resumes has a limit of its own for the whole. */
  readonly totalMs?: number | undefined
  readonly redirectsMax?: number | undefined
}

const TOTAL_MS_DEFAULT = 24 * 60 * 60 * 1000
const REDIRECTS_MAX_DEFAULT = 5

/** An answer whose body is yet to be read. */
interface Opened {
  readonly answer: IncomingMessage
  readonly head: Extract<Head, { is: 'body' }>
}

/** Fetches through the guard. Nothing is tried twice but the one case in which a part cannot be had. */
export function createFetcher(options: FetcherOptions): Fetcher {
  const guard = createGuard(options)
  const { totalMs = TOTAL_MS_DEFAULT, redirectsMax = REDIRECTS_MAX_DEFAULT } = options

  return {
    check(source) {
      if (isS3(source)) {
        const object = parseS3(source)
        checkTarget(guard, object.endpoint)
        return showS3(object)
      }
      requireNoKeys(source)
      const target = parseTarget(source.url)
      checkTarget(guard, target)
      return showUrl(target.url)
    },

    async open(source, from, signal) {
      signal.throwIfAborted()
      const life = lifetime(totalMs, signal)
      try {
        const ask = (resume: Resume | undefined) =>
          isS3(source)
            ? askS3(source, guard, resume, life.signal)
            : askHttp(source, guard, resume, redirectsMax, life.signal)
        const opened = (await ask(resumeOf(from))) ?? (await ask(undefined))
        if (opened === undefined) throw failed('The server did not give the file. Try again later.')
        return fileOf(opened, guard.idleMs, life)
      } catch (error) {
        life.end()
        throw error
      }
    },
  }
}

/** Undefined where nothing of the answer can be used. */
async function askHttp(
  source: RemoteSource,
  guard: Guard,
  resume: Resume | undefined,
  redirectsMax: number,
  signal: AbortSignal,
): Promise<Opened | undefined> {
  requireNoKeys(source)
  const headers = {
    Accept: '*/*',
    'User-Agent': 'calotype',
    ...(resume === undefined ? {} : { Range: `bytes=${resume.offset}-`, 'If-Range': resume.etag }),
  }
  let target = parseTarget(source.url)
  for (let redirectCount = 0; redirectCount <= redirectsMax; redirectCount++) {
    const { answer, head } = await askOnce(guard, target, headers, resume, signal)
    if (head.is === 'body') return { answer, head }
    if (head.is === 'again') return undefined
    target = parseRedirect(head.location, target.url)
  }
  throw refuseUrl('It sends us on too often. Give the address where the file really is.')
}

/** As `askHttp`, but a redirect is an answer of the wrong region, and what was signed goes nowhere else. */
async function askS3(
  source: RemoteSource,
  guard: Guard,
  resume: Resume | undefined,
  signal: AbortSignal,
): Promise<Opened | undefined> {
  const { target, headers } = await signS3(parseS3(source), resume)
  const { answer, head } = await askOnce(guard, target, headers, resume, signal)
  if (head.is === 'redirect') throw bucketElsewhere()
  return head.is === 'body' ? { answer, head } : undefined
}

async function askOnce(
  guard: Guard,
  target: Target,
  headers: Readonly<Record<string, string>>,
  resume: Resume | undefined,
  signal: AbortSignal,
): Promise<{ readonly answer: IncomingMessage; readonly head: Head }> {
  const answer = await guardedRequest(guard, { target, method: 'GET', headers }, signal)
  let isBody = false
  try {
    const head = readHead(answer.statusCode ?? 0, answer.headers, resume)
    isBody = head.is === 'body'
    return { answer, head }
  } finally {
    if (!isBody) answer.destroy()
  }
}

function fileOf({ answer, head }: Opened, idleMs: number, life: Lifetime): RemoteFile {
  const { sizeBytes, etag, offset, lengthBytes } = head
  // What the reader is not waiting for would otherwise stay open after the end.
  life.signal.addEventListener('abort', () => answer.destroy(), { once: true })
  // 416 has a body too, of words.
  const isEmpty = lengthBytes === 0
  if (isEmpty) {
    answer.destroy()
    life.end()
  }
  return {
    ...{ sizeBytes, etag, offset },
    body: isEmpty
      ? nothing()
      : readBody(answer, {
          ...{ lengthBytes, idleMs, signal: life.signal, onEnd: life.end },
          restBytes: sizeBytes === undefined ? undefined : sizeBytes - offset,
        }),
    close() {
      answer.destroy()
      life.end()
    },
  }
}

async function* nothing(): AsyncGenerator<Uint8Array> {}

/** The time that all of one `open` and its body have. */
interface Lifetime {
  readonly signal: AbortSignal
  readonly end: () => void
}

function lifetime(totalMs: number, outer: AbortSignal): Lifetime {
  const life = new AbortController()
  const stop = () => life.abort(outer.reason)
  const timer = setTimeout(() => life.abort(failed('The download took too long.')), totalMs)
  const end = () => {
    clearTimeout(timer)
    outer.removeEventListener('abort', stop)
  }
  outer.addEventListener('abort', stop, { once: true })
  // Nobody else ends what is stopped before anybody reads.
  life.signal.addEventListener('abort', end, { once: true })
  return { signal: life.signal, end }
}

/** Without a strong validator a download begins again. */
function resumeOf({ offset, etag }: { readonly offset: number; readonly etag: string | undefined }) {
  assert(Number.isSafeInteger(offset) && offset >= 0)
  const strong = parseEtag(etag)
  return offset > 0 && strong !== undefined ? { offset, etag: strong } : undefined
}

function isS3({ url }: RemoteSource): boolean {
  return /^s3:/i.test(url)
}

function requireNoKeys({ s3 }: RemoteSource): void {
  if (s3 !== undefined) throw refuseUrl('Keys go with s3://BUCKET/KEY only.')
}
