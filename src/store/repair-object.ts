import { isFault } from '../image/fault.ts'
import type { Digest, PageId } from '../image/ids.ts'
import type { ObjectName } from '../objects/names.ts'
import type { DamageRow } from './damage.ts'
import { guard } from './database.ts'
import { ID_BYTES, sha256 } from './hashes.ts'
import { checkKeys, type KeyDamage } from './key-check.ts'
import { PAGE_BYTES } from './map.ts'
import { hashOfName, PUBLIC_DOMAIN } from './names.ts'
import { OpenDomain } from './open-domain.ts'
import { findChunkIn } from './peer-chunk.ts'
import { readRef } from './refs.ts'
import type { RegionStore } from './region.ts'
import { newSession } from './repair-add.ts'
import type { RepairOptions, RepairRun } from './repair-run.ts'
import { checkSignature, readSignature } from './signature.ts'

const OBJECT_BYTES_MAX = 64 * 1024 * 1024
/** Chunks by which a peer's keys are tried. */
const PROOF_COUNT = 64

/**
 * The domains' keys: a peer's, which have to fit the id of a chunk that is named here, wrapped with this region's own key
 * again. A crash in between leaves the key object absent, and the next repair mends it. True if it mended some.
 */
export async function repairKeys(options: RepairOptions, run: RepairRun): Promise<boolean> {
  let isMended = false
  for (const damage of await checkKeys(options.region, options.signal)) {
    if (!(await adoptFromPeer(options, damage))) continue
    isMended = true
    run.mended(`keys/${damage.domain}`, damage.message)
  }
  return isMended
}

/** At the end: a domain that only a damaged header named is gone by then. */
export async function tellLostKeys({ region, signal }: RepairOptions, run: RepairRun): Promise<void> {
  for (const { message } of await checkKeys(region, signal)) run.lost({ message })
}

async function adoptFromPeer(
  { region, peers, signal }: RepairOptions,
  { domain, names, message }: KeyDamage,
): Promise<boolean> {
  for (const peer of peers) {
    try {
      const secrets = await peer.getSecrets(domain, signal)
      if (!(await fitsSome(region, peer, new OpenDomain(domain, secrets), signal))) continue
      // The message names the object that is damaged; those of other region keys are not ours to touch.
      const damaged = names.find((name) => message.includes(name))
      if (damaged !== undefined) await region.objects.remove(damaged)
      await region.adoptDomain(domain, { getSecrets: async () => secrets })
      return true
    } catch (error) {
      signal?.throwIfAborted()
      if (!isFault(error)) throw error
    }
  }
  return false
}

/**
 * True if the keys make the id of some chunk that is named here, wherever its bytes are whole; also if no chunk of the
 * domain is.
 */
async function fitsSome(
  region: RegionStore,
  peer: RegionStore,
  domain: OpenDomain,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const sql = `SELECT c.id FROM chunk c JOIN object o ON o.number = c.object
    WHERE o.domain = ? AND o.state = 1 LIMIT ${PROOF_COUNT}`
  const rows = guard(() => region.database.prepare(sql).all(domain.id))
  const domainOf = async (one: string) => (one === domain.id ? domain : undefined)
  for (const row of rows) {
    const id = Buffer.from(row.id as Uint8Array)
    for (const source of [region, peer]) {
      if ((await findChunkIn(source, id, domainOf, signal)) !== undefined) return true
    }
  }
  return rows.length === 0
}

/**
 * An image object, a map page or a signature: the same bytes from a peer, removed and put again. Held meanwhile, so that
 * no collection takes it away between the two. A crash there leaves it absent, and the next repair mends it.
 */
export async function repairObject(
  options: RepairOptions,
  { object, name, message }: DamageRow,
  run: RepairRun,
): Promise<void> {
  const { region, peers, signal } = options
  const sessionId = newSession()
  await region.openSession(sessionId, PUBLIC_DOMAIN, signal)
  try {
    // Nobody's any more: a collection removes it.
    if (region.holdsOf(sessionId).findObject(name) === undefined) return
    if ((await readRight(region, region, name, signal)) !== undefined) {
      run.damage.forget(object)
      return
    }
    for (const peer of peers) {
      const bytes = await readRight(region, peer, name, signal)
      if (bytes === undefined) continue
      await region.objects.remove(name)
      await region.objects.put(name, bytes)
      run.damage.forget(object)
      run.mended(name, message)
      return
    }
    for (const where of await usersOf(region, name, signal)) run.lost({ message, ...where })
  } finally {
    await region.abortSession(sessionId)
  }
}

/** The object's bytes as `source` has them, if they are what this region has to have under this name. */
export async function readRight(
  region: RegionStore,
  source: RegionStore,
  name: ObjectName,
  signal: AbortSignal | undefined,
): Promise<Buffer | undefined> {
  try {
    if (name.startsWith('signatures/')) {
      const digest = hashOfName(name) as Digest
      const bytes = await readSignature(source.objects, digest, signal)
      const image = await region.getImage(digest, signal)
      checkSignature(await region.getDomain(image.domain), image, bytes)
      return bytes
    }
    const sizeBytes = await source.objects.size(name, signal)
    if (sizeBytes === undefined || sizeBytes > OBJECT_BYTES_MAX) return undefined
    if (name.startsWith('pages/') && sizeBytes !== PAGE_BYTES) return undefined
    const bytes = await source.objects.get(name, 0, sizeBytes, signal)
    return sha256(bytes) === hashOfName(name) ? bytes : undefined
  } catch (error) {
    signal?.throwIfAborted()
    if (!isFault(error) || (source === region && error.kind === 'unavailable')) throw error
    return undefined
  }
}

/** The images that need a page, with its place on the disk, or the one of an image object or signature. */
async function usersOf(region: RegionStore, name: ObjectName, signal: AbortSignal | undefined) {
  if (!name.startsWith('pages/')) return [{ image: hashOfName(name) as Digest }]
  const page = hashOfName(name) as PageId
  const users: { image: Digest; diskIndex: number; offset: number }[] = []
  for (const image of region.listImages()) {
    const content = await region.getImage(image, signal).catch((error: unknown) => {
      if (isFault(error, 'corrupt') || isFault(error, 'absent')) return undefined
      throw error
    })
    for (const { index, pages, chunkBytes } of content?.disks ?? []) {
      for (const [position, id] of pages.entries()) {
        const offset = position * (PAGE_BYTES / ID_BYTES) * chunkBytes
        if (id === page) users.push({ image, diskIndex: index, offset })
      }
    }
  }
  return users
}

/**
 * A ref is of this region alone, and its label is in no other place. What it needs is in the index: that is written
 * again, with an empty label, so that at least nothing it needs can be lost. Who knows the label sets it again.
 */
export async function repairRef(
  { region, signal }: RepairOptions,
  { object, name, message }: DamageRow,
  run: RepairRun,
): Promise<void> {
  const current = region.listRefs().find((ref) => ref.name === name)
  // A later version has taken its place.
  if (current === undefined) return
  const { holder, digests } = current
  try {
    await readRef(region.objects, name, signal)
    run.damage.forget(object)
  } catch (error) {
    if (!isFault(error, 'corrupt') && !isFault(error, 'absent')) throw error
    await region.setRef({ holder, digests, label: {} }, signal)
    run.mended(name, message)
    run.unlabelled(holder)
  }
}
