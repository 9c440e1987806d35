import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  hkdfSync,
  type KeyObject,
  sign,
  verify,
} from 'node:crypto'
import { Fault } from '../../image/fault.ts'
import { CIPHER, KEY_BYTES, NONCE_BYTES, TAG_BYTES } from '../keys.ts'

/** What RFC 8410 puts before the 32 bytes of a key: in PKCS #8, and in a SubjectPublicKeyInfo. */
const PREFIXES = {
  ed25519: { private: '302e020100300506032b657004220420', public: '302a300506032b6570032100' },
  x25519: { private: '302e020100300506032b656e04220420', public: '302a300506032b656e032100' },
} as const

type Curve = keyof typeof PREFIXES

/** Bytes that only the holder of one X25519 key can read. Hex. */
export interface SealedBytes {
  /** The public key of the pair that was made for these bytes alone. */
  readonly ephemeral: string
  readonly sealed: string
}

/** An installation's keys for bundles. Source: docs/format.md, "Bundle". */
export interface BundleKeys {
  /** Hex of the Ed25519 key by which others know our bundles. */
  readonly signerPublic: string
  /** Hex of the X25519 key that bundles for us are made for. */
  readonly recipientPublic: string
  sign(bytes: Uint8Array): Buffer
  /**
   * The same for the same arguments: a bundle that is made twice is the same file. `context` has to be the same at
   * `open`. Throws Fault 'invalid' for a recipient that is no key.
   */
  seal(recipient: string, plain: Uint8Array, context: Uint8Array): SealedBytes
  /** Undefined unless they were sealed for us, in this context. */
  open(sealed: SealedBytes, context: Uint8Array): Buffer | undefined
}

const PUBLIC_KEY = /^[0-9a-f]{64}$/

export function isPublicKey(text: string): boolean {
  return PUBLIC_KEY.test(text)
}

/** `seed`: 32 secret bytes of the installation; other keys may be made of them in other ways. */
export function bundleKeys(seed: Uint8Array): BundleKeys {
  const signer = privateKey('ed25519', derive(seed, 'signer'))
  const recipient = privateKey('x25519', derive(seed, 'recipient'))
  const ephemerals = derive(seed, 'ephemeral')
  const recipientRaw = rawOf(recipient)
  return {
    signerPublic: rawOf(signer).toString('hex'),
    recipientPublic: recipientRaw.toString('hex'),
    sign: (bytes) => sign(null, bytes, signer),
    seal(to, plain, context) {
      const toRaw = Buffer.from(to, 'hex')
      // Made of all that goes in: no two texts share a key, so its nonce may be its own as well.
      const mark = createHmac('sha256', ephemerals).update(toRaw).update(hmac(ephemerals, context))
      const ephemeral = privateKey('x25519', mark.update(plain).digest())
      const ephemeralRaw = rawOf(ephemeral)
      const shared = isPublicKey(to) ? agree(ephemeral, toRaw) : undefined
      if (shared === undefined) {
        throw new Fault(
          'invalid',
          'The recipient of a bundle is 64 hex digits, as its inventory tells them.',
          {
            reason: 'recipient',
          },
        )
      }
      const { key, nonce } = sealingKey(shared, ephemeralRaw, toRaw)
      const cipher = createCipheriv(CIPHER, key, nonce)
      cipher.setAAD(context)
      const sealed = Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()])
      return { ephemeral: ephemeralRaw.toString('hex'), sealed: sealed.toString('hex') }
    },
    open({ ephemeral, sealed }, context) {
      const ephemeralRaw = Buffer.from(ephemeral, 'hex')
      const bytes = Buffer.from(sealed, 'hex')
      const shared = isPublicKey(ephemeral) ? agree(recipient, ephemeralRaw) : undefined
      if (shared === undefined || bytes.length < TAG_BYTES) return undefined
      const { key, nonce } = sealingKey(shared, ephemeralRaw, recipientRaw)
      const decipher = createDecipheriv(CIPHER, key, nonce)
      decipher.setAAD(context)
      decipher.setAuthTag(bytes.subarray(-TAG_BYTES))
      const plain = decipher.update(bytes.subarray(0, -TAG_BYTES))
      try {
        return Buffer.concat([plain, decipher.final()])
      } catch {
        return undefined
      }
    },
  }
}

/** Whether the holder of the Ed25519 key made the signature. `signer`: its 32 bytes. */
export function isSignedBy(signer: Uint8Array, bytes: Uint8Array, signature: Uint8Array): boolean {
  try {
    return verify(null, bytes, publicKey('ed25519', signer), signature)
  } catch {
    return false
  }
}

const derive = (seed: Uint8Array, use: string): Buffer =>
  Buffer.from(hkdfSync('sha256', seed, new Uint8Array(), `calotype bundle ${use} 1`, KEY_BYTES))

const hmac = (key: Uint8Array, bytes: Uint8Array): Buffer => createHmac('sha256', key).update(bytes).digest()

function privateKey(curve: Curve, raw: Uint8Array): KeyObject {
  const key = Buffer.concat([Buffer.from(PREFIXES[curve].private, 'hex'), raw])
  return createPrivateKey({ key, format: 'der', type: 'pkcs8' })
}

function publicKey(curve: Curve, raw: Uint8Array): KeyObject {
  const key = Buffer.concat([Buffer.from(PREFIXES[curve].public, 'hex'), raw])
  return createPublicKey({ key, format: 'der', type: 'spki' })
}

/** The 32 bytes of the public half. */
function rawOf(key: KeyObject): Buffer {
  return createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(-KEY_BYTES)
}

/** Undefined for a point with which every agreement would be the same. */
function agree(key: KeyObject, other: Uint8Array): Buffer | undefined {
  try {
    return diffieHellman({ privateKey: key, publicKey: publicKey('x25519', other) })
  } catch {
    return undefined
  }
}

function sealingKey(shared: Buffer, ephemeral: Buffer, recipient: Buffer) {
  const salt = Buffer.concat([ephemeral, recipient])
  const bytes = Buffer.from(
    hkdfSync('sha256', shared, salt, 'calotype bundle secrets 1', KEY_BYTES + NONCE_BYTES),
  )
  return { key: bytes.subarray(0, KEY_BYTES), nonce: bytes.subarray(KEY_BYTES) }
}
