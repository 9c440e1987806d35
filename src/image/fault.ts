/**
 * What the caller can do about an expected failure:
 * - invalid: mend the request · denied: get a permission · absent: name something that exists
 * - conflict: wait for, or change, the state of the thing · full: make room or raise the quota
 * - unavailable: try again later · corrupt: repair from another region, or restore
 */
export type FaultKind = 'invalid' | 'denied' | 'absent' | 'conflict' | 'full' | 'unavailable' | 'corrupt'

/** The noun a fault is about. The doors choose their error code by kind and subject. */
export type FaultSubject =
  | 'request'
  | 'region'
  | 'zone'
  | 'project'
  | 'image'
  | 'machine'
  | 'disk'
  | 'volume'
  | 'snapshot'
  | 'snapshot-policy'
  | 'bundle'
  | 'task'
  | 'user'
  | 'policy'
  | 'name'
  | 'description'
  | 'file'
  | 'upload'
  | 'peer'
  | 'event'
  | 'webhook'
  | 'replication-rule'
  | 'store'
  | 'host'

export interface FaultOptions extends ErrorOptions {
  readonly subject?: FaultSubject
  /** The parameter at fault, in the words of the caller's own request. */
  readonly field?: string
  /** A finer reason, where a cloud has a code of its own for it: 'same-region', 'not-custom', … */
  readonly reason?: string
}

/** An expected failure. `message` may be shown to a tenant and says what to do next; `cause` goes to the log alone. */
export class Fault extends Error {
  readonly kind: FaultKind
  readonly subject: FaultSubject
  readonly field: string | undefined
  readonly reason: string | undefined

  constructor(kind: FaultKind, message: string, options: FaultOptions = {}) {
    super(message, options)
    this.name = 'Fault'
    this.kind = kind
    this.subject = options.subject ?? 'request'
    this.field = options.field
    this.reason = options.reason
  }
}

/** True for the failures that ours or the world's code raised on purpose, false for bugs. */
export function isFault(error: unknown, kind?: FaultKind): error is Fault {
  return error instanceof Fault && (kind === undefined || error.kind === kind)
}
