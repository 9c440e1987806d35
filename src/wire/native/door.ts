import type { App, Keyring } from '../../app/contract.ts'
import { Fault, isFault } from '../../image/fault.ts'
import { splitUrl } from '../acs3.ts'
import { jsonAnswer } from '../gateway-answer.ts'
import type { Door, WireAnswer, WireHead, WireRequest } from '../gateway-contract.ts'
import { authenticate, callerAgain } from './authenticate.ts'
import { answerDownload, withRetry } from './downloads.ts'
import { errorAnswer, faultAnswer } from './errors.ts'
import { parseFields } from './fields.ts'
import { createFollowers, type FollowOptions, isFollowed } from './followers.ts'
import { type Match, matchRoute } from './match.ts'
import { readParameters } from './read-parameters.ts'
import { routes } from './routes/index.ts'
import { answerUpload, asTus, creationLength, isTus, requireVersion, tusError, tusOptions } from './tus.ts'
import { readMetadata } from './tus-metadata.ts'
import { findTokenPath, meantMethod, type TokenPath } from './upload-path.ts'

export interface NativeDoorOptions {
  readonly app: App
  readonly keyring: Keyring
  readonly clock: () => number
  /** How far a request's date may lie from our clock, either way. */
  readonly clockWindowMs: number
  /** Told of every bug, with the request it happened in. */
  readonly onBug: (error: unknown, requestId: string) => void
  readonly follow?: FollowOptions | undefined
}

/**
 * Our own door: JSON under /v1, one route a use case (docs/api.md). Every request is signed, but for those to a path that
 * is a right in itself: parts of an upload, and downloads.
 */
export function createNativeDoor(options: NativeDoorOptions): Door {
  const { app, keyring, clock, clockWindowMs } = options
  const followers = createFollowers(options.follow)

  async function answerRoute(request: WireRequest, path: string, queryText: string): Promise<WireAnswer> {
    // First who asks: a stranger does not learn which paths and parameters there are.
    const caller = await authenticate(request, keyring, clock(), clockWindowMs)
    const match = matchRoute(routes, request.method, path)
    const isCreation = isTus(request) && match.route.useCase === 'uploads.create'
    const given = isCreation
      ? creationParameters(request, match, queryText)
      : readParameters(match, queryText, request.body)
    const parameters = parseFields(match.route.fields, given)
    const region = (name: string | undefined) =>
      name === undefined ? app.regions.default().regionId : app.regions.get(name).id
    const origin = originOf(request)
    const again = () => callerAgain(request, keyring)
    const told = { signal: request.signal, headers: request.headers }
    const shown = await match.route.run(
      { app, caller, region, origin, again, followers, ...told },
      parameters,
    )
    const stream = match.route.stream?.(shown)
    if (stream !== undefined) {
      const headers = { ...match.route.headers?.(shown, origin) }
      return { status: match.route.status, headers, body: '', stream }
    }
    const answer = jsonAnswer(match.route.status, shown)
    const headers = { ...answer.headers, ...match.route.headers?.(shown, origin) }
    return isCreation ? asTus({ ...answer, headers }) : { ...answer, headers }
  }

  return {
    streams: (head) => {
      if (isFollowed(head)) return true
      const open = findTokenPath(head.url)
      return open?.of === 'download' || (open?.of === 'upload' && meantMethod(head) === 'PATCH')
    },
    async handle(request) {
      const open = findTokenPath(request.url)
      try {
        if (open?.of === 'upload') return await answerUpload(app, request, open.token)
        if (open?.of === 'download') return await answerDownload(app, request, open.token)
        const { path, queryText } = splitUrl(request.url)
        if (request.method === 'OPTIONS' && path === '/v1/uploads') return tusOptions()
        return await answerRoute(request, path, queryText)
      } catch (caught) {
        const error = isAbort(caught, request) ? closing() : caught
        if (!isFault(error)) options.onBug(error, request.requestId)
        return refusal(error, request, open)
      }
    },
    refuse: (fault, request) => refusal(fault, request, findTokenPath(request.url)),
  }
}

/** True for work that ended because the caller has left or the server is closing. */
function isAbort(error: unknown, { signal }: WireHead): boolean {
  return (
    signal.aborted && (error === signal.reason || (error instanceof Error && error.name === 'AbortError'))
  )
}

function closing(): Fault {
  return new Fault('unavailable', 'The server is closing. Go on in a moment, where it broke off.')
}

/** In the shape of all errors here, with the number and headers that the request's protocol has for it. */
function refusal(error: unknown, request: WireHead, open: TokenPath | undefined): WireAnswer {
  const { requestId } = request
  if (open?.of === 'upload' || isTus(request)) return tusError(error, requestId)
  const answer = isFault(error) ? faultAnswer(error, requestId) : errorAnswer(error, requestId)
  return open?.of === 'download' ? withRetry(answer) : answer
}

/** A tus creation says in headers what JSON says in the body. */
function creationParameters(request: WireRequest, match: Match, queryText: string): Record<string, unknown> {
  requireVersion(request)
  if (request.body.length > 0) {
    const message = 'Begin an upload without a body; send parts to its location with PATCH.'
    throw new Fault('invalid', message, { reason: 'malformed' })
  }
  const given = readParameters(match, queryText, request.body)
  const told = { ...readMetadata(String(request.headers['upload-metadata'] ?? '')) }
  const lengthBytes = creationLength(request)
  if (lengthBytes !== undefined) told.lengthBytes = lengthBytes
  for (const [name, value] of Object.entries(told)) {
    if (Object.hasOwn(given, name))
      throw new Fault('invalid', `'${name}' is given twice. Send it once.`, { field: name })
    given[name] = value
  }
  return given
}

/** Scheme and host as the caller wrote them, to begin links with; '' where they cannot be told, for links without. */
function originOf({ headers, secureTransport }: WireHead): string {
  const { host = '' } = headers
  if (!/^[A-Za-z0-9._:[\]-]{1,255}$/.test(host)) return ''
  // Believed of anybody: it changes nothing but the caller's own answer.
  const isSecure = secureTransport || headers['x-forwarded-proto'] === 'https'
  return `${isSecure ? 'https' : 'http'}://${host}`
}
