import { createHash, createPrivateKey, createPublicKey, type KeyObject, sign, verify } from 'node:crypto'
import type { CleaningReport, SignedReport } from '../image/cleaning.ts'
import { type Canonical, encodeCanonical } from '../store/canonical.ts'

export const SIGNING_KEY_BYTES = 32

// What RFC 8410 puts before the 32 bytes of an Ed25519 key in PKCS #8 and in a SubjectPublicKeyInfo.
const PRIVATE_PREFIX = Buffer.from('302e020100300506032b657004220420', 'hex')
const PUBLIC_PREFIX = Buffer.from('302a300506032b6570032100', 'hex')

const publicKeyOf = (raw: Buffer): KeyObject =>
  createPublicKey({ key: Buffer.concat([PUBLIC_PREFIX, raw]), format: 'der', type: 'spki' })

/** Every text well-formed and every number whole, as canonical JSON wants them. */
function plain(value: unknown): Canonical {
  if (typeof value === 'string') return value.toWellFormed()
  if (typeof value === 'number') return Math.round(value) + 0
  if (value === null || typeof value === 'boolean') return value
  if (Array.isArray(value)) return value.map(plain)
  const members = Object.entries(value as object).filter(([, member]) => member !== undefined)
  return Object.fromEntries(members.map(([name, member]) => [name, plain(member)]))
}

/** Signs reports with the installation's key: 32 bytes, an Ed25519 seed. Source: docs/cleaning.md, "Signature". */
export function createSigner(seed: Uint8Array): (report: CleaningReport) => SignedReport {
  const key = createPrivateKey({ key: Buffer.concat([PRIVATE_PREFIX, seed]), format: 'der', type: 'pkcs8' })
  const raw = createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(PUBLIC_PREFIX.length)
  const publicKey = raw.toString('hex')
  return (report) => {
    const told = plain(report)
    const value = sign(null, encodeCanonical(told), key).toString('hex')
    return {
      report: told as unknown as CleaningReport,
      signature: { algorithm: 'ed25519', keyId: keyIdOf(raw), publicKey, value },
    }
  }
}

function keyIdOf(raw: Buffer): string {
  return createHash('sha256').update(raw).digest('hex').slice(0, 16)
}

/** Whether the report is as it was when the holder of the key it names signed it. Whose key that is, the reader must know. */
export function isSignedReport({ report, signature }: SignedReport): boolean {
  try {
    const { algorithm, keyId, publicKey, value } = signature
    const raw = Buffer.from(publicKey, 'hex')
    if (algorithm !== 'ed25519' || raw.length !== SIGNING_KEY_BYTES || keyId !== keyIdOf(raw)) return false
    const bytes = encodeCanonical(report as unknown as Canonical)
    return verify(null, bytes, publicKeyOf(raw), Buffer.from(value, 'hex'))
  } catch {
    return false
  }
}
