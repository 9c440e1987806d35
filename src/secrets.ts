import { randomBytes } from 'node:crypto'
import { mkdir, open, readFile, rename, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { Fault, isFault } from './image/fault.ts'
import type { RegionId } from './image/ids.ts'
import { type ObjectsPlace, openObjects } from './objects/open.ts'
import type { PeerIdentity } from './peers/identity.ts'
import { wrongRegionKey } from './store/domain.ts'
import { LocalWrapper } from './store/keys.ts'
import { checkRegionKey, listKeys, rewrapKeys } from './store/rewrap.ts'

const KEY_BYTES = 32

/** Written whole or not at all, readable by its owner alone, there after a power cut. */
export async function writePrivate(path: string, text: string | Uint8Array): Promise<void> {
  await writeFile(`${path}.new`, text, { mode: 0o600, flush: true })
  await rename(`${path}.new`, path)
  const folder = await open(dirname(path), 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}

/** The secret that the keys of all domains are derived from, made at the first start. */
export async function ensureDomainsKey(data: string): Promise<Uint8Array> {
  return await ensureKeyFile(join(data, 'domains.key'))
}

/** What cleaning reports are signed with, an Ed25519 seed, made at the first start. */
export async function ensureReportKey(data: string): Promise<Uint8Array> {
  return await ensureKeyFile(join(data, 'reports.key'))
}

/** What addresses of imports are sealed and bundles are signed and opened with, made at the first start. */
export async function ensureTransfersKey(data: string): Promise<Uint8Array> {
  return await ensureKeyFile(join(data, 'transfers.key'))
}

/** What this installation shows to its peers: key and certificate in one file, made when it is first needed. */
export async function ensurePeerIdentity(data: string): Promise<PeerIdentity> {
  const path = join(data, 'peer.pem')
  const found = await findFile(path)
  const { makeIdentity } = await import('./peers/identity.ts')
  if (found === undefined) {
    const { key, certificate } = makeIdentity()
    await writePrivate(path, `${key.trim()}\n${certificate.trim()}\n`)
    return { key, certificate }
  }
  const text = found.toString()
  const part = (what: string) =>
    new RegExp(`-----BEGIN ${what}-----[^-]+-----END ${what}-----\\n?`).exec(text)?.[0]
  const [key, certificate] = [part('PRIVATE KEY'), part('CERTIFICATE')]
  if (key !== undefined && certificate !== undefined) return { key, certificate }
  const message = `${path} is damaged: it has to hold a key and a certificate. Restore it, or remove it: then peers have to be told the new fingerprint.`
  throw new Fault('corrupt', message, { subject: 'peer' })
}

async function ensureKeyFile(path: string): Promise<Uint8Array> {
  const found = await findFile(path)
  if (found === undefined) {
    const fresh = newKey()
    await writePrivate(path, fresh)
    return fresh
  }
  if (found.length === KEY_BYTES) return new Uint8Array(found)
  throw new Fault('corrupt', `${path} is damaged: it has to hold 32 bytes. Restore it from a backup.`)
}

export interface RegionKeyOptions {
  readonly data: string
  readonly regionId: RegionId
  readonly objects: ObjectsPlace
  /** As the environment gives it, 64 hex digits; else it is in `DATA/keys/<region>.key`. */
  readonly given: string | undefined
  /** The key before, as the environment gives it: what it wraps is wrapped again. */
  readonly old: string | undefined
}

/**
 * The key of a region: given, or kept in a file that the first start makes. A region whose objects tell of another key
 * is refused before anything is written: Fault 'denied'. Fault 'corrupt' for a file that holds no key. A region whose
 * objects cannot be reached now is not compared; one that has no key yet gets none: Fault 'unavailable'.
 */
export async function ensureRegionKey(options: RegionKeyOptions): Promise<Uint8Array> {
  const { regionId, given } = options
  const objects = await openObjects(options.objects, { clean: false, attemptsMax: 3 })
  const path = join(options.data, 'keys', `${regionId}.key`)
  const old = options.old === undefined ? undefined : new LocalWrapper(keyOf(options.old))
  let key = given === undefined ? await readRegionKey(path) : keyOf(given)
  try {
    if (key === undefined) {
      // What somebody else's key wraps must not be joined by a key made up here.
      const wrapped = (await listKeys(objects)).map(({ keyId }) => keyId)
      if (wrapped.some((keyId) => keyId !== old?.keyId)) throw wrongRegionKey(wrapped, 'missing')
      key = newKey()
      await mkdir(dirname(path), { recursive: true, mode: 0o700 })
      await writePrivate(path, `${Buffer.from(key).toString('hex')}\n`)
    }
    const wrapper = new LocalWrapper(key)
    if (old !== undefined) await rewrapKeys(objects, old, wrapper)
    try {
      await checkRegionKey(objects, wrapper.keyId)
    } catch (error) {
      // A store that is away keeps nobody from the other regions, and a wrong key opens nothing once it is back.
      if (!isFault(error, 'unavailable')) throw error
    }
    return key
  } catch (cause) {
    if (!(cause instanceof Fault) || cause.reason !== 'region-key') throw cause
    const where = given === undefined ? `in ${path}` : 'in the environment'
    throw new Fault('denied', `Region ${regionId}, key ${where}: ${cause.message}`, {
      subject: 'region',
      cause,
    })
  }
}

async function readRegionKey(path: string): Promise<Uint8Array | undefined> {
  const text = (await findFile(path))?.toString('latin1')
  if (text === undefined) return undefined
  if (/^[0-9a-f]{64}\n?$/.test(text)) return keyOf(text)
  throw new Fault('corrupt', `${path} is damaged: it has to hold 64 hex digits. Restore it from a backup.`)
}

// Not a Buffer: those share memory, and handing one to a thread would hand over its neighbours too.
const keyOf = (hex: string) => new Uint8Array(Buffer.from(hex.trim(), 'hex'))
const newKey = () => new Uint8Array(randomBytes(KEY_BYTES))

async function findFile(path: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}
