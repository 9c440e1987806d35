import { Fault, type FaultKind, isFault } from '../image/fault.ts'

/** Where a call went, in words for people: never a key or a secret. */
export interface S3Where {
  readonly endpoint: string
  readonly bucket: string
}

/** What the service answered, or how the way to it failed. */
export interface S3Failure {
  /** The HTTP status; undefined if there was no answer. */
  readonly status: number | undefined
  /** The service's error code, or the operating system's. */
  readonly code: string
}

/** Undefined for what is neither an answer of the service nor a failed connection: that is a bug. */
export function findFailure(error: unknown): S3Failure | undefined {
  if (!(error instanceof Error)) return undefined
  const { $metadata, code } = error as { $metadata?: { httpStatusCode?: number }; code?: unknown }
  if ($metadata?.httpStatusCode !== undefined) {
    return { status: $metadata.httpStatusCode, code: error.name }
  }
  if (typeof code === 'string' && /^[A-Z][A-Z0-9_]*$/.test(code) && !code.startsWith('ERR_INVALID')) {
    return { status: undefined, code }
  }
  // The client's own timeouts have a name only.
  return error.name === 'TimeoutError' ? { status: undefined, code: 'timeout' } : undefined
}

export function hasStatus(error: unknown, status: number): boolean {
  return findFailure(error)?.status === status
}

const RULES: readonly (readonly [codes: RegExp, kind: FaultKind, words: (where: S3Where) => string])[] = [
  [
    /^NoSuchBucket$/,
    'invalid',
    ({ bucket, endpoint }) =>
      `There is no bucket '${bucket}' at ${endpoint}. Make it, or correct the region's settings.`,
  ],
  [
    /^(QuotaExceeded|XMinioStorageFull|XMinioAdminBucketQuotaExceeded|InsufficientStorage)$/,
    'full',
    ({ bucket }) =>
      `The bucket '${bucket}' is full or over its quota. Make room or raise the quota, then try again.`,
  ],
  [
    /^(RequestTimeTooSkewed|RequestExpired)$/,
    'denied',
    ({ endpoint }) => `The clocks of this server and of ${endpoint} differ too much. Set them right.`,
  ],
  [
    /^(InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|InvalidToken)$/,
    'denied',
    ({ bucket }) =>
      `The access key for the bucket '${bucket}' is not good. Check CALOTYPE_S3_ACCESS_KEY_ID and CALOTYPE_S3_SECRET_ACCESS_KEY, or the region's own pair.`,
  ],
  [
    /^(PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocationConstraintException|TemporaryRedirect)$/,
    'invalid',
    ({ bucket, endpoint }) =>
      `The bucket '${bucket}' is not in the region asked for at ${endpoint}. Correct endpoint and region in the settings.`,
  ],
  [
    // The bytes did not arrive as they were sent, or not in time; sending them again may help.
    /^(BadDigest|XAmzContentSHA256Mismatch|XAmzContentChecksumMismatch|RequestTimeout|IncompleteBody|ConditionalRequestConflict|OperationAborted|SlowDown|TooManyRequests)$/,
    'unavailable',
    ({ bucket }) => `The bucket '${bucket}' could not take the request just now. Try again.`,
  ],
  [
    // Certificates are checked against the system's authorities; more tries do not make one good.
    /^(CERT_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_|ERR_TLS_)/,
    'invalid',
    ({ endpoint }) =>
      `The certificate of ${endpoint} is not trusted. Give its authority in NODE_EXTRA_CA_CERTS, or correct the endpoint.`,
  ],
]

/**
 * The failure of a call as a Fault; faults and bugs pass unchanged. The cause is an error of our own making: the
 * client's holds the whole exchange, with signatures, and causes go to the log.
 */
export function translate(error: unknown, what: string, where: S3Where): unknown {
  if (isFault(error)) return error
  const failure = findFailure(error)
  if (failure === undefined) return error
  const { status, code } = failure
  const cause = new Error(`${what}: ${code}, status ${status ?? 'none'}, at ${where.endpoint}`)
  const options = { subject: 'store', cause } as const
  for (const [codes, kind, words] of RULES) {
    if (codes.test(code)) return new Fault(kind, words(where), options)
  }
  if (status === undefined) {
    return new Fault(
      'unavailable',
      `${where.endpoint} cannot be reached (${code}). Try again later.`,
      options,
    )
  }
  switch (status) {
    case 404:
      return new Fault('absent', `${what} does not exist.`, options)
    case 416:
      return new Fault('corrupt', `${what} is shorter than it should be.`, options)
    case 401:
    case 403:
      return new Fault(
        'denied',
        `The bucket '${where.bucket}' may not be used with this access key. It needs the rights to list the bucket and to read, write and remove its objects.`,
        options,
      )
    case 507:
      return new Fault(
        'full',
        `The bucket '${where.bucket}' has no space left. Make room, then try again.`,
        options,
      )
    case 409:
    case 429:
      return new Fault('unavailable', `The bucket '${where.bucket}' is busy. Try again later.`, options)
    default:
      // A status below 400 whose answer could not be read was cut, or is from something else than S3.
      return (status >= 500 && status !== 501) || status < 400
        ? new Fault('unavailable', `${where.endpoint} failed (${status}). Try again later.`, options)
        : new Fault(
            'invalid',
            `${where.endpoint} does not accept the request (${code}, status ${status}). Check that it is S3, and the region's settings.`,
            options,
          )
  }
}
