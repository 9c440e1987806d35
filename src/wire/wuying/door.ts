import type { App, Caller, Keyring } from '../../app/contract.ts'
import { Fault, isFault } from '../../image/fault.ts'
import type { Door, WireAnswer, WireRequest } from '../gateway-contract.ts'
import { authenticate } from './authenticate.ts'
import { envelope, type Format } from './envelope.ts'
import { wuyingError } from './errors.ts'
import type { Operation } from './operation.ts'
import { OPERATIONS } from './operations/index.ts'
import { pageKeyOf } from './page.ts'
import { answerFormat, unpack } from './request.ts'
import { growTree } from './tree.ts'

export const API_VERSION = '2020-09-30'
const CLOCK_WINDOW_MS = 15 * 60_000

export interface WuyingDoorOptions {
  readonly app: App
  readonly keyring: Keyring
  /** Milliseconds since 1970. */
  readonly clock: () => number
  /** How far a request's timestamp may lie from our clock, before or after it. Absent: 15 minutes. */
  readonly clockWindowMs?: number | undefined
  /** For the log: bugs, and the faults of our side that carry a cause, which callers never see. */
  readonly onBug: (error: unknown, requestId: string) => void
}

/** What became known of a request on its way, for the form of a refusal. */
interface Visit {
  readonly requestId: string
  readonly host: string
  format: Format
  operation: Operation | undefined
  caller: Caller | undefined
}

/** The door that speaks WUYING Workspace: `ecd`, version 2020-09-30, RPC style. `handle` never rejects. */
export function createWuyingDoor(options: WuyingDoorOptions): Required<Pick<Door, 'handle' | 'refuse'>> {
  const windowMs = options.clockWindowMs ?? CLOCK_WINDOW_MS
  const operations = new Map(OPERATIONS.map((operation) => [operation.name, operation]))

  async function answer(raw: WireRequest, visit: Visit): Promise<WireAnswer> {
    const unpacked = unpack(raw)
    visit.format = answerFormat(unpacked)
    if (unpacked.version !== API_VERSION)
      throw new Fault('invalid', `It takes ${API_VERSION}.`, { reason: 'version-unknown' })
    const operation = unpacked.path === '/' ? operations.get(unpacked.action) : undefined
    if (operation === undefined) throw new Fault('absent', '', { reason: 'action-unknown' })
    visit.operation = operation
    const nowMs = options.clock()
    const { userId, secret } = await authenticate(unpacked, options.keyring, nowMs, windowMs)
    const { requestId, sourceIp, secureTransport } = raw
    const caller = await options.keyring.caller(userId, 'wuying', { requestId, sourceIp, secureTransport })
    visit.caller = caller
    const content = await operation.call(
      { app: options.app, caller, host: visit.host, pageKey: pageKeyOf(secret), nowMs },
      growTree(unpacked.parameters),
    )
    return envelope(visit.format, 200, `${operation.name}Response`, { ...content, RequestId: requestId })
  }

  function refuse(error: unknown, { requestId, host, format, operation, caller }: Visit): WireAnswer {
    if (isOurs(error)) options.onBug(error, requestId)
    const { status, code, message, isGateway, accessDeniedDetail } = wuyingError(error, {
      action: operation?.action,
      caller,
    })
    return envelope(format, status, 'Error', {
      RequestId: requestId,
      HostId: host,
      Code: code,
      Message: message,
      Recommend: isGateway
        ? `https://api.aliyun.com/troubleshoot?q=${encodeURIComponent(code)}&product=ecd&requestId=${requestId}`
        : undefined,
      AccessDeniedDetail: accessDeniedDetail,
    })
  }

  return {
    async handle(raw) {
      const visit = visitOf(raw, 'json')
      try {
        return await answer(raw, visit)
      } catch (error) {
        return refuse(error, visit)
      }
    },
    refuse: (fault, raw) => refuse(fault, visitOf(raw, formatOf(raw))),
  }
}

function visitOf({ requestId, headers }: WireRequest, format: Format): Visit {
  return { requestId, host: headers.host ?? 'localhost', format, operation: undefined, caller: undefined }
}

/** The format that a request asks for as far as it can be read: it may be cut short. */
function formatOf(raw: WireRequest): Format {
  try {
    return answerFormat(unpack(raw))
  } catch {
    return 'json'
  }
}

function isOurs(error: unknown): boolean {
  if (!isFault(error)) return true
  const isOfOurSide = error.kind === 'unavailable' || error.kind === 'corrupt' || error.kind === 'full'
  return isOfOurSide && error.cause !== undefined
}
