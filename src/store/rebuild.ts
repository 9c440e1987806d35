import { isFault } from '../image/fault.ts'
import type { PackId } from '../image/ids.ts'
import type { ObjectStore } from '../objects/contract.ts'
import type { ObjectName } from '../objects/names.ts'
import type { IndexDatabase } from './database.ts'
import { inOrder } from './in-order.ts'
import { hashOfName } from './names.ts'
import { type PackContent, readPackContent } from './pack.ts'
import { Places } from './places.ts'

export interface RebuildReport {
  readonly packCount: number
  readonly chunkCount: number
  /** Packs whose header or footer cannot be read; their chunks are not in the index. */
  readonly damaged: readonly { readonly pack: PackId; readonly message: string }[]
}

/**
 * Fills the index from the packs' footers and the names of the other objects. What no session of the index claims
 * is committed: a store cannot tell a lost session's objects from old ones, and keeping too much loses nothing.
 */
export async function rebuildIndex(
  database: IndexDatabase,
  objects: ObjectStore,
  options: { signal?: AbortSignal; onProgress?: (packCount: number) => void },
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

  const damaged: { pack: PackId; message: string }[] = []
  let packCount = 0
  let chunkCount = 0
  const read = async (name: ObjectName): Promise<PackContent | undefined> => {
    const pack = hashOfName(name) as PackId
    try {
      return await readPackContent(objects, pack, signal)
    } catch (error) {
      if (!isFault(error, 'corrupt')) throw error
      damaged.push({ pack, message: error.message })
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
    if (content === undefined) continue
    chunkCount += content.entries.length
    database.transaction(() => {
      const row = addObject.get(name, content.domain, content.sizeBytes)
      places.insert(row?.number as number, content.entries)
    })
  }
  const sizeOf = (name: ObjectName) => objects.size(name, signal)
  for (const prefix of ['pages/', 'signatures/', 'images/']) {
    for await (const [name, sizeBytes] of inOrder(
      objects.list(prefix, signal),
      objects.traits.callsMax,
      sizeOf,
    )) {
      if (sizeBytes !== undefined) database.transaction(() => addObject.run(name, null, sizeBytes))
    }
  }
  await forgetLost(database, objects, signal)
  database.transaction(() => database.setMeta('complete', 'yes'), true)
  return { packCount, chunkCount, damaged }
}

/** Takes objects out of the index that are not in the store. Asked one by one, because a list may lag. */
async function forgetLost(
  database: IndexDatabase,
  objects: ObjectStore,
  signal: AbortSignal | undefined,
): Promise<void> {
  const all = database.prepare('SELECT number, name FROM object').all()
  const dropHolds = database.prepare('DELETE FROM sessionObject WHERE object = ?')
  const dropObject = database.prepare('DELETE FROM object WHERE number = ?')
  for (const { number, name } of all) {
    if ((await objects.size(name as ObjectName, signal)) !== undefined) continue
    database.transaction(() => {
      dropHolds.run(number as number)
      dropObject.run(number as number)
    })
  }
}
