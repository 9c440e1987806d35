import assert from 'node:assert/strict'
import { type Digest, type DomainId, parseHash } from '../../image/ids.ts'
import { encodeCanonical } from '../canonical.ts'
import { KEY_BYTES } from '../keys.ts'
import { findDomainId } from '../names.ts'
import type { DomainSecrets } from '../open-domain.ts'
import { damagedBundle } from './fault.ts'
import { type BundleKeys, isPublicKey, type SealedBytes } from './keys.ts'
import { STATEMENT_BYTES_MAX } from './layout.ts'

/** What a bundle says of itself. Source: docs/format.md, "Bundle". */
export interface Statement extends SealedBytes {
  readonly digest: Digest
  /** What its maker says of the image that is no content: JSON, for whoever makes its row. */
  readonly label: string
  /** Not zero, of each disk. */
  readonly dataBytes: readonly number[]
  /** Whose keys are sealed in it, rising, each once. */
  readonly domains: readonly DomainId[]
  /** Hex of the X25519 key that it is for. */
  readonly recipient: string
}

/** UTF-16 units; the worst of them take six bytes each. */
export const LABEL_CHARS_MAX = 64 * 1024
/** Its maker's own, the public one, and those of bundles that it had taken in. */
export const DOMAINS_MAX = 64
const DISKS_MAX = 1024

export function encodeStatement(statement: Statement): Buffer {
  const { dataBytes, digest, domains, ephemeral, label, recipient, sealed } = statement
  const bytes = encodeCanonical({ dataBytes, digest, domains, ephemeral, label, recipient, sealed })
  assert(bytes.length <= STATEMENT_BYTES_MAX, 'a statement is bounded')
  return bytes
}

/** Throws Fault 'invalid' unless the bytes are exactly what `encodeStatement` writes for some statement. */
export function parseStatement(bytes: Buffer): Statement {
  try {
    const statement = checkStatement(JSON.parse(bytes.toString('utf8')))
    assert(encodeStatement(statement).equals(bytes), 'the bytes are canonical')
    return statement
  } catch (error) {
    throw damagedBundle(error)
  }
}

/** Every member by itself, so that nothing that was not looked at is ever written again. */
function checkStatement(value: { readonly [key: string]: unknown }): Statement {
  const { dataBytes, digest, domains, ephemeral, label, recipient, sealed } = value
  assert(Array.isArray(dataBytes) && dataBytes.length > 0 && dataBytes.length <= DISKS_MAX)
  assert(dataBytes.every((bytes) => Number.isSafeInteger(bytes) && bytes >= 0))
  assert(Array.isArray(domains) && domains.length > 0 && domains.length <= DOMAINS_MAX)
  assert(typeof label === 'string' && label.length <= LABEL_CHARS_MAX && label.isWellFormed())
  assert(typeof digest === 'string' && typeof recipient === 'string' && isPublicKey(recipient))
  assert(typeof ephemeral === 'string' && isPublicKey(ephemeral))
  assert(typeof sealed === 'string' && /^([0-9a-f]{2})+$/.test(sealed))
  const names = domains.map((name) => {
    const domain = typeof name === 'string' ? findDomainId(name) : undefined
    assert(domain !== undefined)
    return domain
  })
  assert(names.every((name, i) => i === 0 || (names[i - 1] as string) < name))
  return {
    dataBytes,
    digest: parseHash('digest', digest),
    domains: names,
    ephemeral,
    label,
    recipient,
    sealed,
  }
}

type Sealing = Pick<Statement, 'digest' | 'domains' | 'recipient'>

/** What was sealed for one bundle opens in no other. */
function contextOf({ digest, domains, recipient }: Sealing, signer: string): Buffer {
  return encodeCanonical({ digest, domains, recipient, signer })
}

/** `secrets`: of `domains`, in their order. */
export function sealSecrets(
  sealing: Sealing,
  secrets: readonly DomainSecrets[],
  keys: BundleKeys,
): SealedBytes {
  assert(secrets.length === sealing.domains.length)
  const plain = Buffer.concat(secrets.flatMap(({ idKey, dataKey }) => [idKey, dataKey]))
  return keys.seal(sealing.recipient, plain, contextOf(sealing, keys.signerPublic))
}

/** Throws Fault 'invalid' if they were not sealed for these keys, in this statement. */
export function openSecrets(
  statement: Statement,
  signer: string,
  keys: BundleKeys,
): ReadonlyMap<DomainId, DomainSecrets> {
  const plain = keys.open(statement, contextOf(statement, signer))
  if (plain?.length !== statement.domains.length * 2 * KEY_BYTES) throw damagedBundle()
  const partAt = (n: number) => plain.subarray(n * KEY_BYTES, (n + 1) * KEY_BYTES)
  return new Map(
    statement.domains.map((domain, i) => [domain, { idKey: partAt(2 * i), dataKey: partAt(2 * i + 1) }]),
  )
}
