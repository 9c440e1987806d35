import { isFault } from '../image/fault.ts'
import type { Digest, PackId, PageId } from '../image/ids.ts'
import type { ObjectStore } from '../objects/contract.ts'
import type { ObjectName } from '../objects/names.ts'
import { COMMITTED, CONDEMNED, type IndexDatabase } from './database.ts'
import { ID_BYTES, isZeroId } from './hashes.ts'
import { readImage } from './image.ts'
import { inOrder } from './in-order.ts'
import { PAGE_IDS, readPage, ZERO_PAGE } from './map.ts'
import { hashOfName, imageName, pageName, signatureName } from './names.ts'
import { type PackContent, readPackContent } from './pack.ts'
import { Places } from './places.ts'
import { readRefs } from './refs.ts'
import { chunkIdAt } from './source.ts'

export interface RebuildReport {
  readonly packCount: number
  readonly chunkCount: number
  readonly imageCount: number
  readonly refCount: number
  /** Objects that cannot be read, and what images lack: nothing is collected until it is mended. */
  readonly damaged: readonly { readonly name: ObjectName; readonly message: string }[]
}

export interface RebuildOptions {
  readonly signal?: AbortSignal
  readonly onProgress?: (packCount: number) => void
  /** When garbage that is met was found: milliseconds since 1970. */
  readonly nowMs?: number
}

/**
 * Fills the index from the packs' footers, the maps of the images, the refs and the names of the other objects. What no session of the index claims
 * is committed: a store cannot tell a lost session's objects from old ones, and keeping too much loses nothing.
 */
export async function rebuildIndex(
  database: IndexDatabase,
  objects: ObjectStore,
  options: RebuildOptions,
): Promise<RebuildReport> {
  const { signal } = options
  const places = new Places(database)
  const addObject = database.prepare(
    `INSERT INTO object (name, domain, sizeBytes, state) VALUES (?1, ?2, ?3, 1)
     ON CONFLICT (name) DO UPDATE SET domain = ?2, sizeBytes = ?3 RETURNING number`,
  )
  const clear = database.prepare('DELETE FROM chunk')
  database.transaction(() => {
    database.setMeta('complete', undefined)
    clear.run()
  }, true)

  const damaged: { name: ObjectName; message: string }[] = []
  let packCount = 0
  let chunkCount = 0
  const read = async (name: ObjectName): Promise<PackContent | undefined> => {
    try {
      return await readPackContent(objects, hashOfName(name) as PackId, signal)
    } catch (error) {
      // A list may show what is gone.
      if (isFault(error, 'absent')) return undefined
      if (!isFault(error, 'corrupt')) throw error
      damaged.push({ name, message: error.message })
      return undefined
    }
  }
  for await (const [name, content] of inOrder(
    objects.list('packs/', signal),
    objects.traits.callsMax,
    read,
  )) {
    packCount++
    options.onProgress?.(packCount)
    if (content === undefined) {
      const sizeBytes = await objects.size(name, signal)
      if (sizeBytes !== undefined) database.transaction(() => addObject.run(name, null, sizeBytes))
      continue
    }
    chunkCount += content.entries.length
    database.transaction(() => {
      const row = addObject.get(name, content.domain, content.sizeBytes)
      places.insert(row?.number as number, content.entries)
    })
  }
  const sizeOf = (name: ObjectName) => objects.size(name, signal)
  for (const prefix of ['pages/', 'signatures/', 'images/', 'refs/']) {
    for await (const [name, sizeBytes] of inOrder(
      objects.list(prefix, signal),
      objects.traits.callsMax,
      sizeOf,
    )) {
      if (sizeBytes !== undefined) database.transaction(() => addObject.run(name, null, sizeBytes))
    }
  }
  await forgetLost(database, objects, signal)
  const imageCount = await bindImages(database, objects, damaged, signal)
  const refCount = await listRefs(database, objects, damaged, options)
  const isReferred = database.prepare('SELECT 1 FROM ref WHERE digest = ?')
  // An image that lacks something and that nobody refers to was being removed, or never came to be.
  const first = damaged.find(
    ({ name }) => !name.startsWith('images/') || isReferred.get(hashOfName(name)) !== undefined,
  )
  database.transaction(() => {
    database.setMeta('complete', 'yes')
    database.setMeta('rebuilt', 'yes')
    database.setMeta('incomplete', first === undefined ? undefined : first.message)
  }, true)
  return { packCount, chunkCount, imageCount, refCount, damaged }
}

/** Takes objects out of the index that are not in the store. Asked one by one, because a list may lag. */
async function forgetLost(
  database: IndexDatabase,
  objects: ObjectStore,
  signal: AbortSignal | undefined,
): Promise<void> {
  const all = database.prepare('SELECT number, name FROM object').all()
  const dropHolds = database.prepare('DELETE FROM sessionObject WHERE object = ?')
  const dropBinds = database.prepare('DELETE FROM imageObject WHERE image = ?1 OR object = ?1')
  const dropObject = database.prepare('DELETE FROM object WHERE number = ?')
  for (const { number, name } of all) {
    if ((await objects.size(name as ObjectName, signal)) !== undefined) continue
    database.transaction(() => {
      dropHolds.run(number as number)
      dropBinds.run(number as number)
      dropObject.run(number as number)
    })
  }
}

/** Binds every committed image to what its maps need. Answers how many there are. */
async function bindImages(
  database: IndexDatabase,
  objects: ObjectStore,
  damaged: { name: ObjectName; message: string }[],
  signal: AbortSignal | undefined,
): Promise<number> {
  const places = new Places(database)
  const numberOf = database.prepare(`SELECT number FROM object WHERE name = ? AND state = ${COMMITTED}`)
  const bind = database.prepare('INSERT OR IGNORE INTO imageObject VALUES (?, ?)')
  const images = database
    .prepare(
      `SELECT number, name FROM object WHERE state = ${COMMITTED} AND name >= 'images/' AND name < 'images0'`,
    )
    .all()
  /** Images share pages. */
  const needs = new Map<PageId, ReadonlySet<number> | string>()
  const needsOf = async (id: PageId): Promise<ReadonlySet<number> | string> => {
    try {
      const page = await readPage(objects, id, signal)
      const numbers = new Set([numberOf.get(pageName(id))?.number as number])
      for (let i = 0; i < PAGE_IDS; i++) {
        if (isZeroId(page, i * ID_BYTES)) continue
        const found = places.findHolder(page.subarray(i * ID_BYTES, (i + 1) * ID_BYTES), '')
        if (found === undefined) return `Chunk ${chunkIdAt(page, i)} is in no pack of this region.`
        numbers.add(found.number)
      }
      return numbers
    } catch (error) {
      if (!isFault(error, 'corrupt')) throw error
      return error.message
    }
  }
  for (const row of images) {
    const name = row.name as ObjectName
    const digest = hashOfName(name) as Digest
    const numbers = new Set<number>()
    try {
      const image = await readImage(objects, digest, signal)
      const signature = numberOf.get(signatureName(digest))?.number
      if (signature === undefined) damaged.push({ name, message: `Image ${digest} has no signature.` })
      else numbers.add(signature as number)
      for (const page of new Set(image.disks.flatMap((disk) => disk.pages))) {
        if (page === ZERO_PAGE) continue
        const found = needs.get(page) ?? (await needsOf(page))
        needs.set(page, found)
        if (typeof found === 'string') damaged.push({ name, message: `Image ${digest}: ${found}` })
        else for (const number of found) numbers.add(number)
      }
    } catch (error) {
      if (!isFault(error, 'corrupt') && !isFault(error, 'absent')) throw error
      damaged.push({ name, message: error.message })
    }
    database.transaction(() => {
      for (const number of numbers) bind.run(row.number as number, number)
    })
    await new Promise(setImmediate)
  }
  return images.length
}

/**
 * Lists who needs what, where the index does not say so already. Answers how many holders there are. A ref to images of
 * which there is neither object nor signature is what a put that was broken off left late of a session that was undone:
 * nothing of it can be had again, and it goes like other garbage. One whose image is damaged has its signature still.
 */
async function listRefs(
  database: IndexDatabase,
  objects: ObjectStore,
  damaged: { name: ObjectName; message: string }[],
  { signal, nowMs = Date.now() }: RebuildOptions,
): Promise<number> {
  const condemn = database.prepare(`UPDATE object SET state = ${CONDEMNED}, sinceMs = ? WHERE name = ?`)
  const isThere = async (digest: Digest) =>
    (await objects.size(imageName(digest), signal)) !== undefined ||
    (await objects.size(signatureName(digest), signal)) !== undefined
  const isCommitted = database.prepare(`SELECT 1 FROM object WHERE name = ? AND state = ${COMMITTED}`)
  const isKnown = database.prepare('SELECT 1 FROM ref WHERE holder = ?')
  const add = database.prepare('INSERT OR IGNORE INTO ref VALUES (?, ?, ?)')
  for await (const read of readRefs(objects, signal)) {
    if (isCommitted.get(read.name) === undefined) continue
    if ('message' in read) {
      damaged.push(read)
      continue
    }
    const { holder, digests } = read.ref
    if (isKnown.get(holder) !== undefined) continue
    const found = await Promise.all(digests.map(isThere))
    if (digests.length > 0 && !found.includes(true)) {
      database.transaction(() => condemn.run(nowMs, read.name))
      continue
    }
    database.transaction(() => {
      for (const digest of digests) add.run(holder, digest, read.name)
    })
  }
  return Number(database.prepare('SELECT count(DISTINCT holder) AS count FROM ref').get()?.count)
}
