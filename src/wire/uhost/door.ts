import type { App, Caller, Keyring } from '../../app/contract.ts'
import { Fault } from '../../image/fault.ts'
import type { Door, WireAnswer, WireRequest } from '../gateway-contract.ts'
import { refusalOf } from './errors.ts'
import type { Operation } from './operation.ts'
import { OPERATIONS } from './operations/index.ts'
import { missing } from './parameter.ts'
import { type ParameterMap, parseRequest, scalarText } from './request.ts'
import { isSignedBy } from './signature.ts'
import { growTree } from './tree.ts'

export interface UhostDoorSettings {
  readonly app: App
  readonly keyring: Keyring
  /** Milliseconds since 1970. */
  readonly nowMs: () => number
  /** For the log: bugs, and the causes of faults, which callers never see. */
  readonly report: (error: unknown, requestId: string) => void
  /**
   * Requires a `U-Timestamp-Ms` at most this far from now. Off when absent. The header is not signed: this stops
   * repeats by accident and bytes replayed as they are, but nobody who writes a new header. Many clients never send it.
   */
  readonly strictReplayWindowMs?: number | undefined
}

/** HTTP status is always 200: the cloud's clients drop the body of any other. `handle` never rejects. */
export function createUhostDoor(settings: UhostDoorSettings): Required<Pick<Door, 'handle' | 'refuse'>> {
  const refuse = (error: unknown, operation: Operation | undefined, requestId: string): WireAnswer => {
    if (!(error instanceof Fault) || error.cause !== undefined) settings.report(error, requestId)
    const { retCode, message } = refusalOf(error, operation)
    // The real gateway sends no Action either with the refusals that come before it knows the operation.
    const action = operation === undefined ? {} : { Action: `${operation.name}Response` }
    return answer(requestId, { RetCode: retCode, ...action, Message: message })
  }
  return {
    async handle(request) {
      const { requestId } = request
      let operation: Operation | undefined
      try {
        const parameters = parseRequest(request)
        const action = parameters.flat.get('Action') ?? ''
        if (action === '') throw actionMissing()
        const caller = await authenticate(settings, request, parameters)
        operation = OPERATIONS.find((candidate) => candidate.name === action)
        if (operation === undefined) throw actionUnknown(action)
        const root = growTree(parameters.flat)
        const members = await operation.perform({ app: settings.app, caller }, root)
        return answer(requestId, { RetCode: 0, Action: `${operation.name}Response`, ...members })
      } catch (error) {
        return refuse(error, operation, requestId)
      }
    },
    refuse: (fault, { requestId }) => refuse(fault, undefined, requestId),
  }
}

/** 174 before 170, 172, 171: a token that nobody gave out is wrong whatever else the request holds. */
async function authenticate(
  settings: UhostDoorSettings,
  { headers, requestId, sourceIp, secureTransport }: WireRequest,
  { signed, flat }: ParameterMap,
): Promise<Caller> {
  const signature = textOf(signed, 'Signature')
  const keyId = textOf(signed, 'PublicKey')
  if (/^bearer\b/i.test(headers.authorization ?? '')) {
    if (signature !== '') throw denied('signature-wrong', 'Send the signature or a Bearer token, never both.')
    throw denied('token-unknown', 'This service gives out no tokens. Sign with PublicKey and private key.')
  }
  if (flat.get('SecurityToken')) {
    throw denied(
      'token-unknown',
      'This service gives out no SecurityToken. Sign with a lasting key, without one.',
    )
  }
  if (signature === '') throw denied('signature-missing', 'Send PublicKey and Signature with every request.')
  if (keyId === '') throw missing('PublicKey')
  const key = await settings.keyring.find(keyId)
  if (key === undefined || !key.isActive) {
    throw denied('key-unknown', `There is no active key '${keyId.slice(0, 80)}'. Check PublicKey.`)
  }
  if (!isSignedBy(signed, key.secret, signature)) {
    throw denied(
      'signature-wrong',
      'Check the private key. Sign the lower-case hex SHA-1 of all parameters but Signature, sorted by name, ' +
        'names and values without separators, with the private key behind.',
    )
  }
  requireTimestamp(settings, headers['u-timestamp-ms'])
  return settings.keyring.caller(key.userId, 'uhost', { requestId, sourceIp, secureTransport })
}

function requireTimestamp(settings: UhostDoorSettings, header: string | string[] | undefined): void {
  const windowMs = settings.strictReplayWindowMs
  if (windowMs === undefined) return
  // Else leaving the header out would be the way around it.
  if (header === undefined) throw missing('U-Timestamp-Ms')
  const sentMs = typeof header === 'string' && /^\d{1,15}$/.test(header) ? Number(header) : Number.NaN
  const offMs = Math.abs(settings.nowMs() - sentMs)
  if (offMs <= windowMs) return
  const how = Number.isNaN(offMs)
    ? 'is no count of milliseconds'
    : `is ${Math.round(offMs / 1000)} s from our clock`
  throw denied('signature-wrong', `U-Timestamp-Ms ${how}; at most ${windowMs / 1000} s are allowed.`)
}

function textOf(signed: ParameterMap['signed'], name: string): string {
  const node = signed.get(name)
  return node === undefined ? '' : (scalarText(node) ?? '')
}

function denied(reason: string, message: string): Fault {
  return new Fault('denied', message, { reason })
}

function actionMissing(): Fault {
  return new Fault('invalid', 'Name the operation in the parameter Action.', { reason: 'action-missing' })
}

function actionUnknown(action: string): Fault {
  const known = OPERATIONS.map((operation) => operation.name).join(', ')
  const message = `Action [${action.slice(0, 80)}] not found. This service knows ${known}.`
  return new Fault('absent', message, { reason: 'action-unknown' })
}

function answer(requestId: string, members: Readonly<Record<string, unknown>>): WireAnswer {
  return {
    status: 200,
    headers: {
      'Content-Type': 'application/json',
      'X-UCLOUD-REQUEST-UUID': requestId,
    },
    body: JSON.stringify(members),
  }
}
