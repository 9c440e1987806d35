import { type FaultKind, isFault } from '../image/fault.ts'

/** What both ends of a talk between installations agree on. Source: docs/copies.md, "Peers". */
export const PATH = '/peer/v1'

/** Of one answer of an object: a chunk of the largest size with its seal fits. */
export const OBJECT_BYTES_MAX = 8 * 1024 * 1024
/** Ids of one question where chunks are. */
export const LOCATE_IDS_MAX = 64 * 1024
/** Of lists, secrets and what an image is called. */
export const WORDS_BYTES_MAX = 1024 * 1024

export const TLS = {
  minVersion: 'TLSv1.3',
  maxVersion: 'TLSv1.3',
  ciphers: 'TLS_AES_128_GCM_SHA256',
} as const

/** Tells in an answer's head what went wrong: `KIND SUBJECT`, in our own words and without any text. */
export const FAULT_HEADER = 'calotype-fault'

export const STATUS: Readonly<Record<FaultKind, number>> = {
  invalid: 400,
  denied: 403,
  absent: 404,
  conflict: 409,
  full: 507,
  unavailable: 503,
  corrupt: 500,
}

const SUBJECTS = ['image', 'region', 'store', 'peer'] as const
export type ToldSubject = (typeof SUBJECTS)[number]
export interface ToldFault {
  readonly kind: FaultKind
  readonly subject: ToldSubject
}

/** What a peer is told of a failure. What is no fault is a bug of ours, of which it is told no more than that. */
export function faultWords(error: unknown): ToldFault {
  if (!isFault(error)) return { kind: 'unavailable', subject: 'peer' }
  return { kind: error.kind, subject: SUBJECTS.find((one) => one === error.subject) ?? 'peer' }
}

/** Undefined for what no end of ours says. */
export function readFaultWords(text: string): ToldFault | undefined {
  const [kind = '', subject = '', ...others] = text.split(' ')
  const told = SUBJECTS.find((one) => one === subject)
  const known = (Object.keys(STATUS) as FaultKind[]).find((one) => one === kind)
  return told === undefined || known === undefined || others.length > 0
    ? undefined
    : { kind: known, subject: told }
}
