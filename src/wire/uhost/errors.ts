import { Fault, type FaultKind, type FaultSubject } from '../../image/fault.ts'
import type { Operation } from './operation.ts'

/** One line of the table; the first that fits a fault is the answer. */
export interface ErrorRow {
  readonly kind: FaultKind
  readonly subject?: FaultSubject
  readonly reason?: string
  /** The operation it is for; absent for all. */
  readonly operation?: string
  readonly retCode: number
  /** `{field}` and `{message}` are the fault's; a form with `{field}` falls back to the message without one. */
  readonly form: string
}

const NOT_AVAILABLE = 'Params [{field}] not available: {message}'

/** Sources: uhost.md §2.3 for codes up to 299 and their texts, §2.4 for the 8 000s and the 17 000s. */
export const ERRORS: readonly ErrorRow[] = [
  // A file that cannot be brought in, whatever its reason is called.
  { kind: 'invalid', subject: 'file', retCode: 8301, form: '{message}' },
  { kind: 'absent', subject: 'file', retCode: 8301, form: '{message}' },
  { kind: 'denied', subject: 'file', retCode: 8301, form: '{message}' },
  { kind: 'unavailable', subject: 'file', retCode: 8301, form: '{message}' },
  { kind: 'invalid', reason: 'address', retCode: 8301, form: '{message}' },
  { kind: 'invalid', reason: 'url', retCode: 8301, form: '{message}' },

  // The gateway's own.
  { kind: 'invalid', reason: 'action-missing', retCode: 160, form: 'Missing Action: {message}' },
  { kind: 'absent', reason: 'action-unknown', retCode: 161, form: '{message}' },
  { kind: 'denied', reason: 'signature-missing', retCode: 170, form: 'Missing signature: {message}' },
  { kind: 'denied', reason: 'signature-wrong', retCode: 171, form: 'Signature VerifyAC Error: {message}' },
  { kind: 'denied', reason: 'key-unknown', retCode: 172, form: 'User Not Exists: {message}' },
  { kind: 'denied', subject: 'user', retCode: 172, form: 'User Not Exists: {message}' },
  { kind: 'denied', reason: 'token-unknown', retCode: 174, form: 'Token Not Exists: {message}' },
  { kind: 'invalid', reason: 'missing', retCode: 220, form: 'Missing params [{field}]' },
  { kind: 'invalid', reason: 'too-large', retCode: 240, form: 'Params [{field}] too large: {message}' },
  { kind: 'absent', subject: 'project', retCode: 292, form: 'Project not exists: {message}' },
  { kind: 'denied', retCode: 299, form: '{message}' },
  { kind: 'absent', subject: 'region', retCode: 230, form: NOT_AVAILABLE },
  { kind: 'absent', subject: 'zone', retCode: 230, form: NOT_AVAILABLE },

  { kind: 'unavailable', reason: 'internal', retCode: 150, form: 'Service unavailable: {message}' },

  // Images.
  { kind: 'invalid', reason: 'not-custom', retCode: 8956, form: '{message}' },
  { kind: 'invalid', reason: 'same-place', retCode: 8962, form: '{message}' },
  { kind: 'invalid', reason: 'not-a-copy', retCode: 8971, form: '{message}' },
  { kind: 'invalid', reason: 'disk-below-image', retCode: 8315, form: '{message}' },
  {
    kind: 'absent',
    subject: 'image',
    operation: 'CreateUHostInstance',
    retCode: 8846,
    form: '{message}',
  },
  {
    kind: 'conflict',
    subject: 'image',
    operation: 'CreateUHostInstance',
    retCode: 8846,
    form: '{message}',
  },
  {
    kind: 'absent',
    subject: 'image',
    operation: 'GetImageCopyProgress',
    retCode: 8971,
    form: '{message}',
  },
  {
    kind: 'conflict',
    subject: 'image',
    operation: 'GetImageCopyProgress',
    retCode: 8971,
    form: '{message}',
  },
  // Disks and their snapshots: UDisk's codes, where the table of hosts has none.
  { kind: 'absent', subject: 'disk', retCode: 17041, form: '{message}' },
  { kind: 'absent', subject: 'snapshot', retCode: 17045, form: '{message}' },
  { kind: 'conflict', subject: 'snapshot', retCode: 17020, form: '{message}' },
  { kind: 'corrupt', subject: 'snapshot', retCode: 17020, form: '{message}' },
  { kind: 'full', subject: 'snapshot', retCode: 8978, form: '{message}' },
  { kind: 'absent', subject: 'image', retCode: 8956, form: '{message}' },
  { kind: 'conflict', subject: 'image', retCode: 8961, form: '{message}' },
  { kind: 'corrupt', operation: 'CopyCustomImage', retCode: 8960, form: '{message}' },
  { kind: 'corrupt', retCode: 8874, form: '{message}' },

  // Hosts.
  {
    kind: 'conflict',
    subject: 'machine',
    operation: 'TerminateUHostInstance',
    retCode: 8856,
    form: '{message}',
  },
  {
    kind: 'conflict',
    subject: 'machine',
    operation: 'CreateCustomImage',
    retCode: 8010,
    form: '{message}',
  },
  { kind: 'conflict', subject: 'machine', retCode: 8905, form: '{message}' },

  // The rest, by what the caller can do.
  { kind: 'absent', retCode: 8039, form: '{message}' },
  { kind: 'full', subject: 'store', retCode: 8320, form: '{message}' },
  { kind: 'full', subject: 'host', retCode: 8320, form: '{message}' },
  { kind: 'full', subject: 'disk', retCode: 8320, form: '{message}' },
  { kind: 'full', retCode: 8095, form: '{message}' },
  // 2 000 and above: the Go client tries again by itself, which is what 'unavailable' asks for.
  { kind: 'unavailable', retCode: 8024, form: '{message}' },
  { kind: 'conflict', retCode: 230, form: NOT_AVAILABLE },
  { kind: 'invalid', retCode: 230, form: NOT_AVAILABLE },
]

export interface Refusal {
  readonly retCode: number
  readonly message: string
}

/** The cloud's code and text for an expected failure; anything else is a bug and tells nothing of our inside. */
export function refusalOf(error: unknown, operation: Operation | undefined): Refusal {
  if (!(error instanceof Fault)) {
    return { retCode: 150, message: 'Service unavailable: the request failed on our side. Try again later.' }
  }
  const row = ERRORS.find(
    (candidate) =>
      candidate.kind === error.kind &&
      (candidate.subject === undefined || candidate.subject === error.subject) &&
      (candidate.reason === undefined || candidate.reason === error.reason) &&
      (candidate.operation === undefined || candidate.operation === operation?.name),
  )
  // Every kind has a row without conditions; 230 is the gateway's word for "mend the request".
  const { retCode, form } = row ?? { retCode: 230, form: '{message}' }
  const field = fieldOf(error, operation)
  const used = field === undefined && form.includes('{field}') ? '{message}' : form
  // Functions, so that a `$&` inside a message stays what it is.
  const message = used.replace('{field}', () => field ?? '').replace('{message}', () => error.message)
  return { retCode, message }
}

/**
 * A fault of this door names the parameter. One from inside may name its subject only, or a field of ours, which
 * means nothing to this cloud's callers.
 */
function fieldOf(fault: Fault, operation: Operation | undefined): string | undefined {
  // The gateway refuses a body without knowing what this cloud calls it.
  if (operation === undefined) return fault.field ?? (fault.reason === 'too-large' ? 'Body' : undefined)
  const top = fault.field?.split('.')[0]
  if (top !== undefined && Object.hasOwn(operation.parameters, top)) return fault.field
  return operation.words[fault.subject]
}
