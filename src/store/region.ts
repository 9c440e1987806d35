import assert from 'node:assert/strict'
import { setTimeout as delay } from 'node:timers/promises'
import { Fault, isFault } from '../image/fault.ts'
import type { Digest, DomainId, PackId } from '../image/ids.ts'
import type { ObjectStore } from '../objects/contract.ts'
import type { ObjectName } from '../objects/names.ts'
import { ChunkCache } from './cache.ts'
import { IndexDatabase } from './database.ts'
import { ensureDomainSecrets, findDomainSecrets, getDomainSecrets } from './domain.ts'
import { sha256 } from './hashes.ts'
import { Holds } from './holds.ts'
import { type ImageContent, readImage } from './image.ts'
import { Journal, type JournalObject, noImage, type RefRow, type SessionRow } from './journal.ts'
import type { FillRandom, KeyWrapper } from './keys.ts'
import { hashOfName, imageName, PUBLIC_DOMAIN, packName } from './names.ts'
import { type DomainSecrets, OpenDomain } from './open-domain.ts'
import { PACK_BYTES_DEFAULT, type PackEntry, readPackContent } from './pack.ts'
import { Places } from './places.ts'
import { type RebuildReport, rebuildIndex } from './rebuild.ts'
import { encodeRef, nextRef, type Ref, readRef } from './refs.ts'
import { type ChunkTable, type ReadOnlyRegion, tableOf } from './source.ts'

/** The maps of 1 TiB of disks. */
const PAGES_BYTES_MAX = 128 * 1024 * 1024

export interface RegionStoreOptions {
  readonly objects: ObjectStore
  /** A file of this node's own; ':memory:' for a store of one thread. Made from the packs where it is missing. */
  readonly indexPath: string
  /** A pack is sealed when it has reached this many bytes. */
  readonly packBytes?: number
  /** Bytes of decoded chunks that all readers of this store share. */
  readonly cacheBytes?: number
  /** The region's key. Without it the store can be checked and its index rebuilt, but no chunk written or read. */
  readonly wrapper?: KeyWrapper
  /**
   * The keys that a domain is to have, equal in all regions that exchange images. Without it the first region to use
   * a domain makes random ones, and other regions learn them by pulling.
   */
  readonly secretsOf?: (domain: DomainId) => DomainSecrets
  /** False: new chunks are stored unencrypted. What is stored already is read either way. */
  readonly isEncrypting?: boolean
  /** Where the nonces of chunks come from. */
  readonly fillRandom?: FillRandom
  /** Milliseconds since 1970: when sessions wrote and objects were condemned. Nothing that is needed depends on it. */
  readonly clock?: () => number
  readonly pause?: (ms: number, signal?: AbortSignal) => Promise<unknown>
  readonly rescue?: Rescue
}

/** Asked when every place of a chunk in this region is bad: its plain bytes from elsewhere, or undefined. */
export type Rescue = (id: Uint8Array, domain: DomainId) => Promise<Buffer | undefined>

/**
 * Opens the store of one region. Each thread opens its own over the same objects and the same index file. The first
 * one finds an index that is missing or half built and rebuilds it before it answers.
 */
export async function openRegionStore(options: RegionStoreOptions): Promise<RegionStore> {
  const store = new RegionStore(options)
  try {
    if (store.database.getMeta('complete') === undefined) await store.rebuildIndex()
    return store
  } catch (error) {
    store.close()
    throw error
  }
}

/** One region's bytes: what is committed, and the sessions that write. Not shared between threads. */
export class RegionStore implements ReadOnlyRegion {
  readonly objects: ObjectStore
  readonly packBytes: number
  readonly cache: ChunkCache
  /** Pages of maps by their ids: images share them, and those of many large images are more than the memory. */
  readonly pages: ChunkCache
  readonly database: IndexDatabase
  readonly places: Places
  readonly journal: Journal
  readonly isEncrypting: boolean
  readonly clock: () => number
  readonly rescue: Rescue | undefined
  readonly #pause: (ms: number, signal?: AbortSignal) => Promise<unknown>
  readonly #holds = new Map<string, Holds>()
  readonly #wrapper: KeyWrapper | undefined
  readonly #secretsOf: ((domain: DomainId) => DomainSecrets) | undefined
  readonly #fillRandom: FillRandom | undefined
  readonly #domains = new Map<DomainId, OpenDomain>()

  constructor(options: RegionStoreOptions) {
    this.objects = options.objects
    this.packBytes = options.packBytes ?? PACK_BYTES_DEFAULT
    this.cache = new ChunkCache(options.cacheBytes ?? 64 * 1024 * 1024)
    this.pages = new ChunkCache(PAGES_BYTES_MAX)
    this.isEncrypting = options.isEncrypting ?? true
    this.clock = options.clock ?? Date.now
    this.rescue = options.rescue
    this.#pause =
      options.pause ?? ((ms, signal) => delay(ms, undefined, signal === undefined ? {} : { signal }))
    this.#wrapper = options.wrapper
    this.#secretsOf = options.secretsOf
    this.#fillRandom = options.fillRandom
    this.database = new IndexDatabase(options.indexPath)
    this.places = new Places(this.database)
    this.journal = new Journal(this.database, this.clock)
  }

  /** The domain for a writer; its keys are made if need be. Faults as `ensureDomainSecrets`; 'denied' with no key. */
  async ensureDomain(domain: DomainId, signal?: AbortSignal): Promise<OpenDomain> {
    const known = this.#domains.get(domain)
    if (known !== undefined) return known
    const wanted = this.#secretsOf?.(domain)
    return this.#open(domain, await ensureDomainSecrets(this.objects, domain, this.#key(), wanted, signal))
  }

  /** The domain, undefined where nothing of it was ever stored. Fault 'denied' with no key, or a wrong one. */
  async findDomain(domain: DomainId, signal?: AbortSignal): Promise<OpenDomain | undefined> {
    const known = this.#domains.get(domain)
    if (known !== undefined) return known
    const secrets = await findDomainSecrets(this.objects, domain, this.#key(), signal)
    return secrets === undefined ? undefined : this.#open(domain, secrets)
  }

  /** The domain for a reader of its chunks. Faults as `findDomain`, and 'corrupt' where its keys are missing. */
  async getDomain(domain: DomainId): Promise<OpenDomain> {
    return this.#domains.get(domain) ?? this.#open(domain, await this.getSecrets(domain))
  }

  /** Source: ReadOnlyRegion. */
  async getSecrets(domain: DomainId, signal?: AbortSignal): Promise<DomainSecrets> {
    return getDomainSecrets(this.objects, domain, this.#key(), signal)
  }

  /** Takes over the domain's keys from another region. Throws Fault 'conflict' if this one has others. */
  async adoptDomain(
    domain: DomainId,
    source: Pick<ReadOnlyRegion, 'getSecrets'>,
    signal?: AbortSignal,
  ): Promise<OpenDomain> {
    const secrets = await source.getSecrets(domain, signal)
    await ensureDomainSecrets(this.objects, domain, this.#key(), secrets, signal)
    return this.#open(domain, secrets)
  }

  #key(): KeyWrapper {
    if (this.#wrapper !== undefined) return this.#wrapper
    throw new Fault(
      'denied',
      'The store was opened without its region key: chunks cannot be read or written.',
      {
        subject: 'store',
        reason: 'region-key',
      },
    )
  }

  #open(id: DomainId, secrets: DomainSecrets): OpenDomain {
    const domain = new OpenDomain(id, secrets, this.#fillRandom)
    this.#domains.set(id, domain)
    return domain
  }

  /** Source: ReadOnlyRegion. */
  locate(ids: Uint8Array): Promise<ChunkTable> {
    return tableOf(
      ids,
      (id) => this.places.findFirst(id),
      (looks) => this.database.reading(looks),
    )
  }

  /** The committed image. Throws Fault 'absent' also for an image that a session has written and not committed. */
  async getImage(digest: Digest, signal?: AbortSignal): Promise<ImageContent> {
    if (!this.hasImage(digest)) throw noImage(digest)
    return readImage(this.objects, digest, signal)
  }

  hasImage(digest: Digest): boolean {
    return this.journal.isCommitted(imageName(digest))
  }

  listImages(): Digest[] {
    return this.journal.listCommitted('images/').map(({ name }) => hashOfName(name) as Digest)
  }

  /**
   * Makes the writer session `id`, or finds it again after a crash with everything it had made durable. To be
   * called by whoever leads the work, before its threads write.
   */
  async openSession(id: string, domain: DomainId, signal?: AbortSignal): Promise<void> {
    assert(id !== '')
    // It may have been ended since, and is a new one of the same name.
    this.#holds.delete(id)
    this.journal.open(id, domain)
    for (const { number, name } of this.journal.listIntents(id)) {
      const found = await this.#findWritten(name, signal)
      if (found === undefined) this.journal.forget(id, number)
      else this.journal.settle(id, { number, isNew: false }, 'stored', found.sizeBytes, found.entries)
    }
  }

  /** What a put that was broken off has left, safe by now; undefined if that is nothing. */
  async #findWritten(name: ObjectName, signal: AbortSignal | undefined) {
    const sizeBytes = await this.objects.size(name, signal)
    if (sizeBytes === undefined) return undefined
    try {
      // It may be there and not be safe yet: the process ended before the put did. 'present' promises as much as 'stored'.
      await this.objects.put(name, await this.objects.get(name, 0, sizeBytes, signal), signal)
      return { sizeBytes, entries: name.startsWith('packs/') ? await this.#entriesOf(name, signal) : [] }
    } catch (error) {
      // Somebody ended the session between two looks.
      if (isFault(error, 'absent')) return undefined
      throw error
    }
  }

  /** What this thread's part of a session relies on. The session must be open whenever it is used. */
  holdsOf(sessionId: string): Holds {
    let holds = this.#holds.get(sessionId)
    if (holds === undefined) {
      holds = new Holds(this.journal, this.places, sessionId)
      this.#holds.set(sessionId, holds)
    }
    return holds
  }

  /**
   * Shows everything the session wrote to everybody, in one transaction that survives a power cut, and ends the
   * session. What was written must be whole (`writeImage`), and `refs` answers of `putRef`, if somebody is to refer
   * to it from then on. Faults: 'conflict' if the session is not open, 'absent' (subject 'image') for a ref to an image
   * that is not there.
   */
  commitSession(id: string, refs: readonly RefRow[] = []): void {
    this.journal.commit(id, refs)
    this.#holds.delete(id)
  }

  /** Makes the object of a ref durable on behalf of a session, for its commit. */
  async putRef(sessionId: string, ref: Ref, signal?: AbortSignal): Promise<RefRow> {
    const { holder, digests } = ref
    const { name, bytes } = nextRef(ref, this.journal.findRef(holder)?.name)
    await this.putObject(sessionId, name, bytes, signal)
    return { holder, digests: [...new Set(digests)], name }
  }

  /**
   * Makes committed images needed by `holder`, and no longer those that he needed before. Durable when it resolves; may
   * be repeated. Fault 'absent' (subject 'image') for an image that is not there, and nothing has changed.
   */
  async setRef(ref: Ref, signal?: AbortSignal): Promise<void> {
    const current = this.journal.findRef(ref.holder)
    if (current !== undefined) {
      const kept = await readRef(this.objects, current.name, signal).catch(unreadable)
      if (kept !== 'unreadable' && encodeRef(kept).equals(encodeRef(ref))) return
    }
    const sessionId = `ref-${ref.holder}-${this.clock()}-${Math.random().toString(36).slice(2)}`
    await this.openSession(sessionId, PUBLIC_DOMAIN, signal)
    try {
      this.commitSession(sessionId, [await this.putRef(sessionId, ref, signal)])
    } catch (error) {
      // Where the store is not there the undo would stop half way, and whoever tries again would wait for its end. Left
      // open, the session is in nobody's way until a collection ends it.
      if (!isFault(error, 'unavailable')) await this.abortSession(sessionId)
      throw error
    }
  }

  /** The holder needs nothing any more. An unknown one is no fault; may be repeated. */
  async dropRef(holder: string, signal?: AbortSignal): Promise<void> {
    for (const object of this.journal.dropRef(holder)) await this.erase(object, signal)
  }

  listRefs(): RefRow[] {
    return this.journal.listRefs()
  }

  /** Sessions that have neither committed nor been undone, for whoever starts after a crash. */
  listSessions(): SessionRow[] {
    return this.journal.list()
  }

  /**
   * Makes an object durable on behalf of a session, which alone can see it until the commit. May be repeated.
   * Faults: 'conflict' if the session is not open; those of `ObjectStore.put`.
   */
  async putObject(
    sessionId: string,
    name: ObjectName,
    bytes: Uint8Array,
    signal?: AbortSignal,
  ): Promise<void> {
    await this.#put(sessionId, name, bytes, null, [], signal)
  }

  /**
   * As `putObject`, for an image object, once everything it needs is held by the session: `bound` are the numbers of its
   * packs, pages and signature.
   */
  async putImage(
    sessionId: string,
    digest: Digest,
    bytes: Uint8Array,
    bound: Iterable<number>,
    signal?: AbortSignal,
  ): Promise<void> {
    const name = imageName(digest)
    const object = await this.#intend(sessionId, name, null, signal)
    this.journal.bind(sessionId, object.number, bound)
    const answer = await this.objects.put(name, bytes, signal)
    this.journal.settle(sessionId, object, answer, bytes.length, [])
  }

  /** As `putObject`, for a sealed pack. `bytes` may be reused when it resolves. `id`: if it is known, the pack's. */
  async putPack(
    sessionId: string,
    domain: DomainId,
    bytes: Uint8Array,
    entries: readonly PackEntry[],
    signal?: AbortSignal,
    id = sha256(bytes) as PackId,
  ): Promise<PackId> {
    await this.#put(sessionId, packName(id), bytes, domain, entries, signal)
    return id
  }

  async #put(
    sessionId: string,
    name: ObjectName,
    bytes: Uint8Array,
    domain: DomainId | null,
    entries: readonly PackEntry[],
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const object = await this.#intend(sessionId, name, domain, signal)
    const answer = await this.objects.put(name, bytes, signal)
    this.journal.settle(sessionId, object, answer, bytes.length, entries)
  }

  async #intend(
    sessionId: string,
    name: ObjectName,
    domain: DomainId | null,
    signal: AbortSignal | undefined,
  ): Promise<{ readonly number: number; readonly isNew: boolean }> {
    for (let attempt = 0; attempt < 1000; attempt++) {
      const object = this.journal.intend(sessionId, name, domain)
      if (object !== undefined) return object
      // Whoever began the removal may have come to grief.
      const removing = this.journal.findRemoving(name)
      if (removing !== undefined) await this.erase(removing, signal)
    }
    throw stuck(name)
  }

  /** Another thread has aborted the session: nothing is believed any more of what it holds. */
  forgetSession(id: string): void {
    this.#holds.delete(id)
  }

  /**
   * Removes every object that the session wrote, except those that somebody committed or another session holds.
   * The session's threads must have ended. May run again after a crash; an unknown session is no fault.
   */
  async abortSession(id: string, signal?: AbortSignal): Promise<void> {
    this.forgetSession(id)
    for (const object of this.journal.beginAbort(id)) {
      signal?.throwIfAborted()
      await this.erase(object, undefined, id)
    }
    this.journal.endAbort(id)
  }

  /**
   * Takes away an object that the index calls 'removing'; resolves when it has gone, whoever did it. May run again
   * after a crash. `owner`: the session that is being undone, if one is.
   */
  async erase({ number, name }: JournalObject, signal?: AbortSignal, owner = ''): Promise<void> {
    const remover = `erase-${this.clock()}-${Math.random().toString(36).slice(2)}`
    let claim = this.journal.claim(remover, number, owner)
    for (let attempt = 0; claim === 'busy'; attempt++) {
      if (attempt === 1000) throw stuck(name)
      await this.#pause(20, signal)
      claim = this.journal.claim(remover, number, owner)
    }
    if (claim === 'gone') return
    const removal = this.#remove(number, name, signal).finally(() => this.journal.unclaim(remover))
    // Who gives up leaves the removal its claim: on its way still, it would take what somebody puts under the name next.
    removal.catch(() => {})
    await untilAborted(removal, signal)
  }

  async #remove(number: number, name: ObjectName, signal: AbortSignal | undefined): Promise<void> {
    if (name.startsWith('packs/')) {
      this.journal.forgetChunks(number, await this.#entriesOf(name, signal).catch(unreadable))
    }
    await this.objects.remove(name)
    this.journal.removed(number)
  }

  async #entriesOf(name: ObjectName, signal?: AbortSignal): Promise<readonly PackEntry[]> {
    return (await readPackContent(this.objects, hashOfName(name) as PackId, signal)).entries
  }

  /**
   * Makes the index anew from the objects alone; nothing else may use the store meanwhile. Sessions that the old
   * index knows keep what is theirs. Damaged packs are left out and named.
   */
  rebuildIndex(
    options: { signal?: AbortSignal; onProgress?: (packCount: number) => void } = {},
  ): Promise<RebuildReport> {
    return rebuildIndex(this.database, this.objects, { ...options, nowMs: this.clock() })
  }

  close(): void {
    this.cache.clear()
    this.pages.clear()
    this.database.close()
  }
}

function stuck(name: ObjectName): Fault {
  return new Fault('unavailable', `Object ${name} is being removed and does not go.`, { subject: 'store' })
}

function unreadable(error: unknown): 'unreadable' {
  if (isFault(error, 'corrupt') || isFault(error, 'absent')) return 'unreadable'
  throw error
}

/** As `work`, or the signal's reason if that comes first; the work goes on. */
async function untilAborted(work: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  if (signal === undefined) return work
  const aborted = Promise.withResolvers<never>()
  const stop = () => aborted.reject(signal.reason)
  signal.addEventListener('abort', stop, { once: true })
  if (signal.aborted) stop()
  try {
    await Promise.race([work, aborted.promise])
  } finally {
    signal.removeEventListener('abort', stop)
  }
}
