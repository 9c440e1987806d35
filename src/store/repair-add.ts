import { randomUUID } from 'node:crypto'
import type { ObjectName } from '../objects/names.ts'
import { CHUNK_BYTES_MAX } from './chunk.ts'
import { COMMITTED, PENDING } from './database.ts'
import { packName } from './names.ts'
import { PackBuffer } from './pack.ts'
import { type FoundChunk, sealAnew } from './peer-chunk.ts'
import type { RegionStore } from './region.ts'
import type { RepairOptions } from './repair-run.ts'

/** A session of one small piece of repair: what a crash leaves of it is undone at the next start. */
export const newSession = () => `repair-${randomUUID()}`

/**
 * Writes chunks, by their ids as text, to packs of their own and binds these to images, which are asked for in the
 * transaction that binds.
 */
export async function addBeside(
  { region, signal }: RepairOptions,
  chunks: ReadonlyMap<string, FoundChunk>,
  images: () => readonly number[],
): Promise<void> {
  const byDomain = Map.groupBy(chunks, ([, { place }]) => place.domain)
  for (const [domain, own] of byDomain) {
    const sessionId = newSession()
    const open = await region.getDomain(domain)
    await region.openSession(sessionId, domain, signal)
    try {
      const buffer = new PackBuffer(domain, region.packBytes, CHUNK_BYTES_MAX)
      const seal = async () => {
        const bytes = buffer.seal()
        const pack = await region.putPack(sessionId, domain, bytes, buffer.entries, signal)
        buffer.reset()
        bindTo(region, sessionId, packName(pack), images)
      }
      for (const [id, { stored, plain }] of own) {
        const key = Buffer.from(id, 'hex')
        const form = buffer.entries.length === 0 ? sealAnew(plain, key, open) : stored
        buffer.add(key, plain.length, (target, offset) => form.copy(target, offset))
        if (buffer.isFull) await seal()
      }
      if (buffer.entries.length > 0) await seal()
    } finally {
      // What was bound is committed and stays.
      await region.abortSession(sessionId)
    }
  }
}

/** Commits an object that the session holds and binds it to images; one that no image needs stays the session's. */
export function bindTo(
  { database, journal }: RegionStore,
  sessionId: string,
  name: ObjectName,
  images: () => readonly number[],
): void {
  const isThere = database.prepare(
    `SELECT 1 FROM object WHERE number = ? AND state IN (${PENDING}, ${COMMITTED})`,
  )
  const bind = database.prepare('INSERT OR IGNORE INTO imageObject VALUES (?, ?)')
  const commit = database.prepare(
    `UPDATE object SET state = ${COMMITTED} WHERE number = ? AND state = ${PENDING}`,
  )
  database.transaction(() => {
    journal.assertOpen(sessionId)
    const number = journal.findObject(name, sessionId)?.number
    const users = images().filter((image) => isThere.get(image) !== undefined)
    if (number === undefined || users.length === 0) return
    for (const image of users) bind.run(image, number)
    commit.run(number)
  }, true)
}
