import type { Caller } from '../../app/contract.ts'
import { type Fault, type FaultKind, type FaultSubject, isFault } from '../../image/fault.ts'

/** What is known of a request when it is refused. */
export interface Refused {
  /** The operation's name in policies, once the request named a known one. */
  readonly action?: string | undefined
  readonly caller?: Caller | undefined
}

/** A refusal in this cloud's words. Key order is that of the answer. */
export interface WuyingError {
  readonly status: number
  readonly code: string
  readonly message: string
  /** The gateway's own refusals carry a pointer to the published explanation; those of the service do not. */
  readonly isGateway: boolean
  readonly accessDeniedDetail: Readonly<Record<string, string>> | undefined
}

type Wording = string | ((fault: Fault, refused: Refused) => string)

interface Row {
  readonly kind?: FaultKind
  readonly subject?: FaultSubject
  readonly reason?: string
  readonly code: Wording
  readonly status: number
  /** Absent: the fault's own message. */
  readonly message?: Wording
  readonly isGateway?: boolean
}

const gateway = (reason: string, code: Wording, status: number, message?: Wording): Row =>
  message === undefined
    ? { reason, code, status, isGateway: true }
    : { reason, code, status, message, isGateway: true }

const then =
  (published: string): Wording =>
  (fault) =>
    fault.message === '' ? published : `${published} ${fault.message}`

const fieldCode =
  (before: string, after = ''): Wording =>
  (fault) =>
    `${before}${codeName(fault.field)}${after}`

/**
 * From Fault to code and HTTP status; the first row that fits is taken. Source: wuying.md §1.7 for the gateway's rows,
 * §3 for the service's, of which most are our proposals (docs/wire-wuying.md says which).
 */
const TABLE: readonly Row[] = [
  // Before the gateway's own: a file may be refused for being too large, which says nothing of the request.
  { kind: 'absent', subject: 'file', code: 'InvalidOssObjectPath.NotFound', status: 404 },
  { kind: 'denied', subject: 'file', code: 'InvalidOssObjectPath.AccessDenied', status: 400 },
  { kind: 'invalid', subject: 'file', code: 'InvalidOssObjectPath.NotSupported', status: 400 },
  { kind: 'invalid', reason: 'address', code: 'InvalidOssObjectPath.Forbidden', status: 400 },
  { kind: 'invalid', reason: 'url', code: 'InvalidOssObjectPath.Malformed', status: 400 },
  gateway('signature-mismatch', 'SignatureDoesNotMatch', 400),
  gateway('key-unknown', 'InvalidAccessKeyId.NotFound', 404, 'Specified access key is not found.'),
  gateway('key-inactive', 'InvalidAccessKeyId.Inactive', 400, 'Specified access key is disabled.'),
  gateway('clock', 'InvalidTimeStamp.Expired', 400, then('Specified time stamp or date value is expired.')),
  gateway(
    'clock-malformed',
    'InvalidTimeStamp.Format',
    400,
    then('Specified time stamp or date value is not well formatted.'),
  ),
  gateway('nonce-used', 'SignatureNonceUsed', 400, 'Specified signature nonce was used already.'),
  gateway(
    'token-mismatch',
    'InvalidSecurityToken.MismatchWithAccessKey',
    400,
    'Specified SecurityToken does not belong to the access key. Sign without a token.',
  ),
  gateway('bearer', 'InvalidBearerToken', 400),
  gateway('missing', fieldCode('Missing'), 400, (fault) =>
    `${fault.field ?? 'A parameter'} is mandatory for this action. ${fault.message}`.trim(),
  ),
  gateway('format-unknown', 'InvalidParameter.Format', 400, then('Specified parameter format is not valid.')),
  gateway('method-unknown', 'InvalidSignatureMethod', 400, then('Specified signature method is not valid.')),
  gateway('authorization-malformed', 'InvalidAuthorization', 400),
  gateway(
    'action-unknown',
    'InvalidAction.NotFound',
    404,
    then('Specified api is not found, please check your url and method.'),
  ),
  gateway('version-unknown', 'InvalidVersion', 400, then('Specified parameter Version is not valid.')),
  gateway('method-unsupported', 'UnsupportedHTTPMethod', 400),
  gateway('malformed', 'MalformedRequest', 400),
  gateway('too-large', 'RequestBodyTooLarge', 413),

  { kind: 'denied', subject: 'user', code: 'InvalidAccessKeyId.Inactive', status: 400 },
  { kind: 'denied', code: 'NoPermission', status: 403, message: noPermission },

  { reason: 'unsupported', code: fieldCode('Invalid', '.Unsupported'), status: 400 },
  { kind: 'invalid', reason: 'not-custom', code: 'SystemImageNotSupported', status: 403 },
  { kind: 'invalid', reason: 'same-place', code: 'InvalidDestinationRegionId.Same', status: 400 },
  { kind: 'invalid', reason: 'not-a-copy', code: 'ImageCreatedNotFromCopy', status: 400 },
  { kind: 'invalid', reason: 'disk-below-image', code: 'InvalidSystemDiskSize', status: 400 },
  { kind: 'invalid', reason: 'disk-twice', code: 'InvalidSnapshotIds.DiskTwice', status: 400 },
  { kind: 'invalid', reason: 'several-machines', code: 'InvalidSnapshotIds.SeveralDesktops', status: 400 },
  { kind: 'invalid', reason: 'no-system-disk', code: 'InvalidSnapshotIds.NoSystemDisk', status: 400 },
  { kind: 'invalid', reason: 'disk-missing', code: 'InvalidSnapshotIds.DiskMissing', status: 400 },
  { kind: 'invalid', reason: 'not-system', code: 'InvalidSnapshotId.NotSystemDisk', status: 400 },
  { kind: 'invalid', reason: 'not-data', code: 'InvalidDataSnapshotIds.NotDataDisk', status: 400 },
  {
    kind: 'invalid',
    reason: 'several-disks',
    code: 'InvalidSourceDiskType.SeveralDisks',
    status: 400,
    message:
      'This API takes the system disk, or the data disk of a computer that has one data disk; use the calotype API for the others.',
  },
  { kind: 'invalid', subject: 'name', code: nameCode, status: 400 },
  { kind: 'invalid', subject: 'description', code: descriptionCode, status: 400 },
  {
    kind: 'invalid',
    reason: 'bad-form',
    code: fieldCode('Invalid', '.Malformed'),
    status: 400,
    message: notValid,
  },
  { kind: 'invalid', code: fieldCode('Invalid'), status: 400, message: notValid },

  { kind: 'absent', subject: 'image', code: 'InvalidImageId.NotFound', status: 404 },
  { kind: 'absent', subject: 'machine', code: 'InvalidDesktopId.NotFound', status: 404 },
  { kind: 'absent', subject: 'region', code: 'InvalidRegionId.NotFound', status: 404 },
  { kind: 'absent', subject: 'zone', code: 'InvalidZoneId.NotFound', status: 404 },
  { kind: 'absent', subject: 'snapshot', code: 'InvalidSnapshotId.NotFound', status: 404 },
  { kind: 'absent', subject: 'disk', code: diskCode, status: 404 },
  { kind: 'absent', subject: 'bundle', code: 'InvalidBundleId.NotFound', status: 404 },
  {
    kind: 'absent',
    code: (fault) => `Invalid${fault.field ?? capital(fault.subject)}.NotFound`,
    status: 404,
  },

  { kind: 'conflict', subject: 'machine', code: 'IncorrectDesktopStatus', status: 400 },
  { kind: 'conflict', subject: 'image', code: 'IncorrectImageStatus', status: 400 },
  { kind: 'conflict', subject: 'snapshot', reason: 'linked', code: 'SnapshotUsedByImage', status: 400 },
  { kind: 'conflict', subject: 'snapshot', code: 'IncorrectSnapshotStatus', status: 400 },
  { kind: 'conflict', subject: 'name', code: 'InvalidImageName.Duplicated', status: 400 },
  { kind: 'conflict', code: 'OperationConflict', status: 400 },

  { kind: 'full', subject: 'image', code: 'QuotaExceeded.Image', status: 400 },
  { kind: 'full', subject: 'snapshot', code: 'QuotaExceeded.Snapshot', status: 400 },
  { kind: 'full', subject: 'machine', code: 'QuotaExceeded.Desktop', status: 400 },
  { kind: 'full', subject: 'host', code: 'OperationDenied.NoStock', status: 403 },
  { kind: 'full', code: 'QuotaExceeded.Storage', status: 400 },

  // Not a 5xx: clients repeat those, and no repetition heals a damaged image.
  { kind: 'corrupt', subject: 'image', code: 'IncorrectImageStatus', status: 400 },
  { kind: 'corrupt', subject: 'snapshot', code: 'IncorrectSnapshotStatus', status: 400 },
  { kind: 'unavailable', code: 'ServiceUnavailable', status: 503 },
  { kind: 'corrupt', code: 'InternalError', status: 500 },
]

const BUG: WuyingError = {
  status: 500,
  code: 'InternalError',
  message: 'The request failed for an unknown reason. Give the operator the RequestId.',
  isGateway: false,
  accessDeniedDetail: undefined,
}

/** Any error as this cloud says it. What is not a Fault is a bug, of which the caller learns nothing. */
export function wuyingError(error: unknown, refused: Refused = {}): WuyingError {
  if (!isFault(error)) return BUG
  if (error.reason === 'internal') return BUG
  const row = TABLE.find(
    ({ kind, subject, reason }) =>
      (kind ?? error.kind) === error.kind &&
      (subject ?? error.subject) === error.subject &&
      (reason ?? error.reason) === error.reason,
  )
  if (row === undefined) return BUG
  const say = (wording: Wording): string => (typeof wording === 'string' ? wording : wording(error, refused))
  return {
    status: row.status,
    code: say(row.code),
    message: say(row.message ?? error.message),
    isGateway: row.isGateway ?? false,
    accessDeniedDetail: row.code === 'NoPermission' ? accessDeniedDetail(error, refused) : undefined,
  }
}

/** `Tag.2.Key` is `Tag.Key` in a code, and a field of a JSON object stands for itself. */
function codeName(field: string | undefined): string {
  if (field === undefined) return 'Parameter'
  const name = field.replace(/\.\d+(?=\.|$)/g, '').replace(/^(DesktopAttachment|PurchaseOptions)\./, '')
  return /^[A-Za-z][A-Za-z0-9.-]*$/.test(name) ? name : 'Parameter'
}

function nameCode(_fault: Fault, refused: Refused): string {
  // The inside names its own field, which is none of this cloud's words.
  switch (refused.action) {
    case 'ecd:CreateDesktops':
      return 'InvalidDesktopName.Malformed'
    case 'ecd:CreateSnapshot':
      return 'InvalidSnapshotName.Malformed'
    case 'ecd:CopyImage':
      return 'InvalidDestinationImageName.Malformed'
    default:
      return 'InvalidImageName.Malformed'
  }
}

function descriptionCode(_fault: Fault, refused: Refused): string {
  return refused.action === 'ecd:CopyImage'
    ? 'InvalidDestinationDescription.Malformed'
    : 'InvalidDescription.Malformed'
}

/** CreateSnapshot names no disk but a kind of disk, of which the computer may have none. */
function diskCode(_fault: Fault, refused: Refused): string {
  return refused.action === 'ecd:CreateSnapshot' ? 'InvalidSourceDiskType.NotFound' : 'InvalidDiskId.NotFound'
}

function notValid(fault: Fault): string {
  return fault.field === undefined
    ? fault.message
    : `Specified parameter ${fault.field} is not valid. ${fault.message}`
}

function noPermission(_fault: Fault, { action }: Refused): string {
  return `You are not authorized to do this action. Resource: * Action: ${action ?? 'unknown'}`
}

/** Source: wuying.md §6.4. There is nothing to decode later, so no EncodedDiagnosticMessage. */
function accessDeniedDetail(fault: Fault, { action, caller }: Refused): Readonly<Record<string, string>> {
  return {
    AuthAction: action ?? 'unknown',
    AuthPrincipalType: 'SubUser',
    AuthPrincipalOwnerId: caller?.accountId ?? '',
    AuthPrincipalDisplayName: caller?.userId ?? '',
    NoPermissionType: fault.reason === 'explicit' ? 'ExplicitDeny' : 'ImplicitDeny',
    PolicyType: 'AccountLevelIdentityBasedPolicy',
  }
}

function capital(word: string): string {
  return word.charAt(0).toUpperCase() + word.slice(1)
}
