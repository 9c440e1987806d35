import { type Fault, type FaultKind, isFault } from '../../image/fault.ts'
import { jsonAnswer } from '../gateway-answer.ts'
import type { WireAnswer } from '../gateway-contract.ts'

/** The one table from what went wrong to an HTTP status. */
export const STATUS: Readonly<Record<FaultKind, number>> = {
  invalid: 400,
  denied: 403,
  absent: 404,
  conflict: 409,
  full: 507,
  unavailable: 503,
  corrupt: 500,
}

/** Faults whose reason says more about HTTP than their kind does. */
const STATUS_OF_REASON: Readonly<Record<string, number>> = {
  'too-large': 413,
  'method-unsupported': 405,
  internal: 500,
}

/** The shape of every error of the native door; `field` and `reason` only where there is one. */
export interface ShownError {
  readonly kind: FaultKind | 'bug'
  readonly subject: string
  readonly field?: string
  readonly reason?: string
  readonly message: string
  readonly requestId: string
}

/** `status`: where the request's own protocol has another number for it. */
export function faultAnswer(fault: Fault, requestId: string, status?: number): WireAnswer {
  const { kind, subject, field, reason, message } = fault
  // What a file is refused for says nothing of the request.
  const ofReason = subject === 'file' ? undefined : STATUS_OF_REASON[reason ?? '']
  const shown: ShownError = {
    kind,
    subject,
    ...(field === undefined ? {} : { field }),
    ...(reason === undefined ? {} : { reason }),
    message,
    requestId,
  }
  return jsonAnswer(status ?? ofReason ?? STATUS[kind], { error: shown })
}

/** A bug says nothing of itself on the wire: the log has it, under the request id. */
export function errorAnswer(error: unknown, requestId: string): WireAnswer {
  if (isFault(error)) return faultAnswer(error, requestId)
  const message = 'The server failed at this request. Its log says why, under the request id.'
  const shown: ShownError = { kind: 'bug', subject: 'request', message, requestId }
  return jsonAnswer(500, { error: shown })
}
