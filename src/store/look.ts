import { DatabaseSync } from 'node:sqlite'
import { isFault } from '../image/fault.ts'
import type { Digest } from '../image/ids.ts'
import type { ObjectStore } from '../objects/contract.ts'
import type { ObjectName } from '../objects/names.ts'
import { COMMITTED, guard } from './database.ts'
import { ID_BYTES } from './hashes.ts'
import { type ImageContent, readImage } from './image.ts'
import { readPage, ZERO_PAGE } from './map.ts'
import { imageName } from './names.ts'
import { readSignature } from './signature.ts'

/** Whoever asks waits: of a list that is longer the rest is not looked at. */
const LISTED_MAX = 2000
const BUSY_MS = 100

/** What is listed as damaged of what an image binds: `chunk` undefined where all of a page or a signature is meant. */
interface Listed {
  readonly chunk: Buffer | undefined
  readonly message: string
}

/**
 * What is wrong with an image that its region calls committed, as far as a glance tells: its object is read and hashed, the
 * form of its signature looked at, and what is listed as damaged (`Damage`) compared with what it needs. Undefined where nothing is seen or known, which
 * says nothing of its chunks. Where nothing is listed this takes a millisecond of a folder and two round trips of a bucket.
 * Needs no key, locks nothing, and leaves the index as it is. Faults: those of the objects and of an index that cannot be read.
 */
export async function findFlaw(
  objects: Pick<ObjectStore, 'size' | 'get'>,
  indexPath: string,
  digest: Digest,
  signal?: AbortSignal,
): Promise<string | undefined> {
  const content = await Promise.all([
    readImage(objects, digest, signal),
    readSignature(objects, digest, signal),
  ]).then(([image]) => image, flawIn)
  if (typeof content === 'string') return content
  const listed = readList(indexPath, imageName(digest))
  if (listed === 'unknown') return 'The index of the region does not know the image.'
  const whole = listed.find(({ chunk }) => chunk === undefined)
  return whole?.message ?? (await findUsed(objects, content, listed, signal).catch(flawIn))
}

/** What is wrong with the object; a store that does not answer says nothing about it. */
function flawIn(error: unknown): string {
  if (isFault(error, 'absent') || isFault(error, 'corrupt')) return error.message
  throw error
}

/**
 * The list as far as it is about the image. A chunk that is whole in another pack is left out, and so is a pack as a whole: what
 * is wrong in it is listed chunk by chunk. Opened for this look alone, because it is rarely wanted; readers wait for nobody.
 */
function readList(indexPath: string, image: ObjectName): readonly Listed[] | 'unknown' {
  return guard(() => {
    const database = new DatabaseSync(indexPath, { readOnly: true, timeout: BUSY_MS })
    try {
      // An index that is being made anew knows nothing yet.
      if (database.prepare("SELECT 1 FROM meta WHERE key = 'complete'").get() === undefined) return []
      const row = database
        .prepare(`SELECT number FROM object WHERE name = ? AND state = ${COMMITTED}`)
        .get(image)
      if (row === undefined) return 'unknown'
      // In this order: an image may bind very many packs, of which hardly any is listed.
      const listed = database.prepare(
        `SELECT d.chunk, d.message FROM (SELECT * FROM damage LIMIT ${LISTED_MAX}) d
         CROSS JOIN imageObject b ON b.image = ?1 AND b.object = d.object
         CROSS JOIN object o ON o.number = d.object AND o.state = ${COMMITTED}
         WHERE CASE WHEN length(d.chunk) = 0 THEN o.name NOT LIKE 'packs/%' ELSE NOT EXISTS (
           SELECT 1 FROM chunk c JOIN object p ON p.number = c.object AND p.state = ${COMMITTED}
           WHERE c.id = d.chunk AND NOT EXISTS (
             SELECT 1 FROM damage e WHERE e.object = c.object AND e.chunk = c.id)) END`,
      )
      return listed.all(row.number as number).map(({ chunk, message }) => {
        const id = Buffer.from(chunk as Uint8Array)
        return { chunk: id.length === 0 ? undefined : id, message: String(message) }
      })
    } finally {
      database.close()
    }
  })
}

/** What is said of the first of these chunks that the image uses: a pack that it binds holds chunks of others too. */
async function findUsed(
  objects: Pick<ObjectStore, 'get'>,
  { disks }: ImageContent,
  listed: readonly Listed[],
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  if (listed.length === 0) return undefined
  const messages = new Map(listed.map(({ chunk, message }) => [chunk?.toString('latin1'), message]))
  for (const page of new Set(disks.flatMap(({ pages }) => pages))) {
    if (page === ZERO_PAGE) continue
    const ids = (await readPage(objects, page, signal)).toString('latin1')
    for (let at = 0; at < ids.length; at += ID_BYTES) {
      const message = messages.get(ids.slice(at, at + ID_BYTES))
      if (message !== undefined) return message
    }
    // Others on the thread get their turn.
    await new Promise(setImmediate)
    signal?.throwIfAborted()
  }
  return undefined
}
