import { isFault } from '../image/fault.ts'
import type { ChunkId, Digest, PageId } from '../image/ids.ts'
import type { ObjectName } from '../objects/names.ts'
import { COMMITTED, guard } from './database.ts'
import { ID_BYTES, isZeroId } from './hashes.ts'
import { PAGE_IDS, readPage, ZERO_PAGE } from './map.ts'
import { imageName, PUBLIC_DOMAIN, pageName, signatureName } from './names.ts'
import { type FoundChunk, findChunk } from './peer-chunk.ts'
import { readRef } from './refs.ts'
import type { RegionStore } from './region.ts'
import { addBeside, bindTo, newSession } from './repair-add.ts'
import { readRight } from './repair-object.ts'
import type { RepairOptions, RepairRun } from './repair-run.ts'

/** Chunks that are fetched together: about a pack. */
const FETCH_COUNT = 128

/**
 * After an index was made anew from objects of which some could not be read (its 'incomplete'): what images need and the
 * index does not know is fetched from the peers, everything they need is bound, and when nothing is missing any more
 * the index counts as complete, so that collections run again.
 */
export async function repairBinds(options: RepairOptions, run: RepairRun): Promise<void> {
  const { database, journal } = options.region
  if (database.getMeta('incomplete') === undefined) return
  const binds = new Binds(options, run)
  for (const digest of options.region.listImages()) {
    const number = journal.findObject(imageName(digest), '')?.number
    if (number !== undefined) await binds.image(number, digest)
  }
  await binds.fetchMissing()
  await binds.refs()
  if (binds.isWhole) database.transaction(() => database.setMeta('incomplete', undefined), true)
}

/** What the chunks of a page lie in, and those that lie nowhere. */
interface PageHolders {
  readonly objects: ReadonlySet<number>
  readonly missingCount: number
}

class Binds {
  readonly #options: RepairOptions
  readonly #region: RegionStore
  readonly #run: RepairRun
  readonly #pages = new Map<PageId, PageHolders | undefined>()
  /** Chunks in no pack, as text, and the images that lack one. */
  readonly #missing = new Set<string>()
  readonly #lacking = new Set<number>()
  isWhole = true

  constructor(options: RepairOptions, run: RepairRun) {
    this.#options = options
    this.#region = options.region
    this.#run = run
  }

  async image(number: number, digest: Digest): Promise<void> {
    const { signal } = this.#options
    const image = await this.#region.getImage(digest, signal).catch((error: unknown) => {
      if (isFault(error, 'corrupt') || isFault(error, 'absent')) return undefined
      throw error
    })
    if (image === undefined) {
      // It is listed as damaged, and could not be mended.
      this.isWhole = false
      return
    }
    await this.#ensure(signatureName(digest), number, { image: digest })
    const objects = new Set<number>()
    for (const { index, pages, chunkBytes } of image.disks) {
      for (const [position, page] of pages.entries()) {
        if (page === ZERO_PAGE) continue
        const offset = position * PAGE_IDS * chunkBytes
        if (!(await this.#ensure(pageName(page), number, { image: digest, diskIndex: index, offset })))
          continue
        const holders = await this.#holdersOf(page)
        for (const object of holders.objects) objects.add(object)
        if (holders.missingCount > 0) this.#lacking.add(number)
      }
    }
    this.#bind(number, objects)
  }

  /** A page or signature is there, right, and bound to the image; from a peer, if it has to be. */
  async #ensure(
    name: ObjectName,
    image: number,
    where: { readonly image: Digest; readonly diskIndex?: number; readonly offset?: number },
  ): Promise<boolean> {
    const { peers, signal } = this.#options
    const region = this.#region
    const sessionId = newSession()
    await region.openSession(sessionId, PUBLIC_DOMAIN, signal)
    try {
      const isListed = region.holdsOf(sessionId).findObject(name) !== undefined
      const own = await readRight(region, region, name, signal)
      let bytes = own
      for (const peer of peers) bytes ??= await readRight(region, peer, name, signal)
      if (bytes === undefined) {
        this.isWhole = false
        this.#run.lost({
          message: `The object ${name} is damaged or missing, and no other region that answers has it.`,
          ...where,
        })
        return false
      }
      if (own === undefined) {
        await region.objects.remove(name)
        if (isListed) await region.objects.put(name, bytes)
        this.#run.mended(name, 'it was damaged or missing when the index was made')
      }
      if (!isListed) await region.putObject(sessionId, name, bytes, signal)
      bindTo(region, sessionId, name, () => [image])
      return true
    } finally {
      await region.abortSession(sessionId)
    }
  }

  async #holdersOf(id: PageId): Promise<PageHolders> {
    const known = this.#pages.get(id)
    if (known !== undefined) return known
    const page = await readPage(this.#region.objects, id, this.#options.signal)
    const objects = new Set<number>()
    let missingCount = 0
    for (let at = 0; at < page.length; at += ID_BYTES) {
      if (isZeroId(page, at)) continue
      const chunk = page.subarray(at, at + ID_BYTES)
      const holder = this.#region.places.findHolder(chunk, '')
      if (holder === undefined) {
        missingCount++
        this.#missing.add(chunk.toString('hex'))
      } else objects.add(holder.number)
    }
    await new Promise(setImmediate)
    const holders = { objects, missingCount }
    this.#pages.set(id, holders)
    return holders
  }

  #bind(image: number, objects: ReadonlySet<number>): void {
    const { database } = this.#region
    const bind = database.prepare(
      `INSERT OR IGNORE INTO imageObject SELECT ?, number FROM object WHERE number = ? AND state = ${COMMITTED}`,
    )
    database.transaction(() => {
      for (const object of objects) bind.run(image, object)
    })
  }

  /** All images that lack some chunk bind what is fetched: more than each needs, until a repack sorts it out. */
  async fetchMissing(): Promise<void> {
    const found = new Map<string, FoundChunk>()
    const add = async () => {
      await addBeside(this.#options, found, () => [...this.#lacking])
      if (found.size > 0) this.#run.mended('packs', `${found.size} chunks that were in no pack`)
      found.clear()
    }
    for (const chunk of this.#missing) {
      this.#options.signal?.throwIfAborted()
      const one = await findChunk(this.#options, Buffer.from(chunk, 'hex'))
      if (one === undefined) {
        this.isWhole = false
        this.#run.lostChunk(chunk as ChunkId)
      } else found.set(chunk, one)
      if (found.size >= FETCH_COUNT) await add()
    }
    await add()
  }

  /** A ref that could not be read names nobody knows what: only who made it can say. */
  async refs(): Promise<void> {
    const known = new Set(this.#region.listRefs().map(({ name }) => String(name)))
    const sql = `SELECT name FROM object WHERE state = ${COMMITTED} AND name GLOB 'refs/*'`
    for (const { name } of guard(() => this.#region.database.prepare(sql).all())) {
      const holder = String(name).split('/')[1] ?? ''
      if (known.has(String(name))) continue
      try {
        // One that was replaced: the collection takes it.
        await readRef(this.#region.objects, name as ObjectName)
        if (this.#region.journal.findRef(holder) !== undefined) continue
      } catch (error) {
        if (!isFault(error, 'corrupt') && !isFault(error, 'absent')) throw error
      }
      this.isWhole = false
      this.#run.lost({
        message: `The ref of ${holder} cannot be read, nor what it needs be known, until it is set again.`,
      })
    }
  }
}
