import assert from 'node:assert/strict'
import type { StatementSync } from 'node:sqlite'
import { Fault } from '../image/fault.ts'
import type { Digest, DomainId } from '../image/ids.ts'
import type { ObjectName } from '../objects/names.ts'
import {
  CLAIMED,
  COMMITTED,
  CONDEMNED,
  guard,
  INTENT,
  type IndexDatabase,
  PENDING,
  PINNED,
  REMOVING,
  STORED,
} from './database.ts'
import type { PackEntry } from './pack.ts'
import { Places } from './places.ts'

/** A writer that has neither committed nor been undone. 'aborting': an undo was begun and not finished. */
export interface SessionRow {
  readonly id: string
  readonly domain: DomainId
  readonly state: 'open' | 'aborting'
  /** Bytes of the packs it has written so far. */
  readonly storedBytes: number
  /** When it last wrote or pinned something. */
  readonly touchedMs: number
}

export interface JournalObject {
  readonly number: number
  readonly name: ObjectName
}

/** What the index says of a ref; its label is in the object of that name. */
export interface RefRow {
  readonly holder: string
  readonly digests: readonly Digest[]
  readonly name: ObjectName
}

/** Chunk rows that one transaction writes: more would keep other writers waiting. */
const CHUNKS_AT_ONCE = 250
const BINDS_AT_ONCE = 500

/**
 * Which session holds which object, and which objects images bind. A session's objects are its own until `commit` gives
 * them to everybody. Each method is one transaction, or several short ones of which the last makes the rest count.
 * Source: docs/store.md, "Steps".
 */
export class Journal {
  readonly #database: IndexDatabase
  readonly #places: Places
  readonly #clock: () => number
  readonly #statements: Record<keyof typeof SQL, StatementSync>

  constructor(database: IndexDatabase, clock: () => number = Date.now) {
    this.#database = database
    this.#clock = clock
    this.#places = new Places(database)
    const entries = Object.entries(SQL).map(([key, sql]) => [key, database.prepare(sql)] as const)
    this.#statements = Object.fromEntries(entries) as Record<keyof typeof SQL, StatementSync>
  }

  /** Makes the session or finds it again. Throws Fault 'conflict' if it is being undone or is of another domain. */
  open(id: string, domain: DomainId): void {
    this.#database.transaction(() => {
      this.#statements.addSession.run(id, domain, this.#clock())
      const row = this.#touch(id)
      if (row.domain !== domain) {
        throw new Fault('conflict', `Session ${id} belongs to another domain.`, { subject: 'store' })
      }
    })
  }

  /** Inside a transaction. Throws Fault 'conflict' unless the session is open: a writer that was asleep stops here. */
  #touch(id: string) {
    const row = this.#statements.getSession.get(id)
    if (row?.state !== 'open') throw undone(id)
    this.#statements.touch.run(this.#clock(), id)
    return row
  }

  /** Throws Fault 'conflict' unless the session is open. */
  assertOpen(id: string): void {
    if (guard(() => this.#statements.getSession.get(id))?.state !== 'open') throw undone(id)
  }

  list(): SessionRow[] {
    return guard(() => this.#statements.listSessions.all().map((row) => ({ ...row }))) as never
  }

  find(id: string): SessionRow | undefined {
    return this.list().find((row) => row.id === id)
  }

  /**
   * Before an object is put. Undefined while the very same object is being removed or condemned: it has to be gone first
   * (`findRemoving`), or the removal would take away what the put found, and what was condemned may be damaged.
   * `isNew`: nobody knew the object before.
   */
  intend(
    sessionId: string,
    name: ObjectName,
    domain: DomainId | null,
  ): { readonly number: number; readonly isNew: boolean } | undefined {
    return this.#database.transaction(() => {
      this.#touch(sessionId)
      const isNew = this.#statements.addObject.run(name, domain, PENDING).changes === 1
      const row = this.#statements.getObject.get(name)
      assert(row !== undefined)
      const number = row.number as number
      if (row.state === REMOVING || row.state === CONDEMNED) return undefined
      // A collection that came upon the object, or a rebuild that could not read it, did not know whose it is.
      if (domain !== null) this.#statements.setDomain.run(domain, number)
      this.#statements.addIntent.run(sessionId, number)
      return { number, isNew }
    })
  }

  /**
   * After the put: the object is durable and `entries` are in it. An object that was there though nobody here knew
   * it is not ours to undo, so it counts as committed. Throws Fault 'conflict' if the session has ended meanwhile.
   */
  settle(
    sessionId: string,
    object: { readonly number: number; readonly isNew: boolean },
    answer: 'stored' | 'present',
    sizeBytes: number,
    entries: readonly PackEntry[],
  ): void {
    // Nobody sees them before the last transaction.
    for (let at = CHUNKS_AT_ONCE; at < entries.length; at += CHUNKS_AT_ONCE) {
      this.#database.transaction(() => {
        this.#touch(sessionId)
        this.#places.insert(object.number, entries.slice(at, at + CHUNKS_AT_ONCE))
      })
    }
    this.#database.transaction(() => {
      this.#touch(sessionId)
      this.#places.insert(object.number, entries.slice(0, CHUNKS_AT_ONCE))
      this.#statements.setSize.run(sizeBytes, object.number)
      if (answer === 'present' && object.isNew) {
        this.#statements.setState.run(COMMITTED, object.number)
        // An image is never without what it needs. All of that is durable; if nobody refers to it, a collection takes it.
        this.#statements.commitBound.run(object.number)
      }
      this.#statements.setStored.run(sessionId, object.number)
    })
  }

  /**
   * Lets the session rely on a committed object. False if it is committed no longer: then look again, and write
   * what is not found. Throws Fault 'conflict' if the session has ended.
   */
  pin(sessionId: string, number: number): boolean {
    return this.#database.transaction(() => {
      this.#touch(sessionId)
      this.#statements.addPin.run(sessionId, number)
      // Any hold keeps a committed object from being condemned, also that of a put of ours that is still on its way.
      return this.#statements.isPinned.get(sessionId, number) !== undefined
    })
  }

  /** As `pin`, of many at once: false if one of them is committed no longer. */
  pinAll(sessionId: string, numbers: readonly number[]): boolean {
    return this.#database.transaction(() => {
      this.#touch(sessionId)
      for (const number of numbers) {
        this.#statements.addPin.run(sessionId, number)
        if (this.#statements.isPinned.get(sessionId, number) === undefined) return false
      }
      return true
    })
  }

  /** The number of an object that the session wrote or may pin, and which of the two. */
  findObject(
    name: ObjectName,
    sessionId: string,
  ): { readonly number: number; readonly isCommitted: boolean } | undefined {
    const row = guard(() => this.#statements.findVisible.get(name, sessionId))
    return row === undefined
      ? undefined
      : { number: row.number as number, isCommitted: row.state === COMMITTED }
  }

  /** Binds objects that the session holds to an image that it is about to write. May be repeated. */
  bind(sessionId: string, imageNumber: number, objects: Iterable<number>): void {
    const numbers = [...objects]
    for (let at = 0; at < numbers.length; at += BINDS_AT_ONCE) {
      this.#database.transaction(() => {
        this.#touch(sessionId)
        for (const number of numbers.slice(at, at + BINDS_AT_ONCE)) {
          assert(
            this.#statements.isHeld.get(sessionId, number) !== undefined,
            'a session binds what it holds',
          )
          this.#statements.addBind.run(imageNumber, number)
          this.#statements.forgetLive.run(number)
        }
      })
    }
  }

  /** What a crash left between `intend` and `settle`. */
  listIntents(sessionId: string): JournalObject[] {
    return guard(() => this.#statements.listIntents.all(sessionId)) as unknown as JournalObject[]
  }

  /** Takes an intent back whose object is not there. */
  forget(sessionId: string, number: number): void {
    this.#database.transaction(() => {
      this.#statements.dropHold.run(sessionId, number)
      // An image that never came to be binds nothing.
      const isGone = this.#statements.dropObject.run(number, PENDING).changes === 1
      if (isGone) this.#statements.dropBindsOf.run(number)
    })
  }

  /**
   * Everything the session wrote becomes everybody's, its ref is listed in place of the holder's former one, and the
   * session ends. Survives a power cut (I1). Throws Fault 'absent' (subject 'image') if the ref names an image that is
   * neither committed nor the session's own.
   */
  commit(sessionId: string, refs: readonly RefRow[] = []): void {
    this.#database.transaction(() => {
      this.#touch(sessionId)
      const intents = this.listIntents(sessionId).length
      assert.equal(intents, 0, 'a session commits when all its objects are durable')
      this.#statements.commitObjects.run(sessionId)
      for (const ref of refs) {
        // The holder's refs were dropped while this one was being written.
        if (this.#statements.getObject.get(ref.name)?.state !== COMMITTED) throw undone(sessionId)
        this.#statements.condemnRefs.run(this.#clock(), ref.holder, ref.name)
        this.#statements.dropRefs.run(ref.holder)
        for (const digest of ref.digests) {
          if (this.#statements.getObject.get(`images/${digest}`)?.state !== COMMITTED) throw noImage(digest)
          this.#statements.addRef.run(ref.holder, digest, ref.name)
        }
      }
      this.#statements.dropHolds.run(sessionId)
      this.#statements.dropSession.run(sessionId)
    }, true)
  }

  listRefs(): RefRow[] {
    const rows = guard(() => this.#statements.listRefs.all())
    return [...Map.groupBy(rows, (row) => row.name as ObjectName)].map(([name, all]) => ({
      holder: String(all[0]?.holder),
      digests: all.map((row) => row.digest as Digest),
      name,
    }))
  }

  findRef(holder: string): RefRow | undefined {
    const rows = guard(() => this.#statements.findRef.all(holder))
    const name = rows[0]?.name as ObjectName | undefined
    return name === undefined ? undefined : { holder, name, digests: rows.map((row) => row.digest as Digest) }
  }

  /** The holder refers to nothing from here on; answers the objects of its refs, which are now to be removed. */
  dropRef(holder: string): JournalObject[] {
    return this.#database.transaction(() => {
      // Whoever holds one of them (a writer that died may) does not keep it: a collection would take it for a ref whose
      // row was lost, and list it again.
      this.#statements.dropRefs.run(holder)
      this.#statements.removeRefs.run(`refs/${holder}/`, `refs/${holder}0`)
      return this.#statements.listRemovingIn.all(
        `refs/${holder}/`,
        `refs/${holder}0`,
      ) as unknown as JournalObject[]
    }, true)
  }

  /**
   * Begins the undo and answers the objects to remove. From here on the session can write nothing. May run again
   * after a crash and answers what is left.
   */
  beginAbort(sessionId: string): JournalObject[] {
    return this.#database.transaction(() => {
      this.#statements.markAborting.run(sessionId)
      this.#statements.dropForeignHolds.run(sessionId)
      this.#statements.dropBinds.run(sessionId)
      this.#statements.markRemoving.run(sessionId)
      return this.#statements.listRemoving.all(sessionId) as unknown as JournalObject[]
    }, true)
  }

  /**
   * Before an object that is being removed goes: only one may be at it, or the slower one would take away what somebody
   * put under the name again. The claim is a session of its own, `remover`, and ends as one if its owner dies.
   * 'busy': another has it (not `owner`, the session that is being undone).
   */
  claim(remover: string, number: number, owner: string): 'claimed' | 'busy' | 'gone' {
    return this.#database.transaction(() => {
      if (this.#statements.getState.get(number)?.state !== REMOVING) return 'gone'
      if (this.#statements.isClaimed.get(number, owner) !== undefined) return 'busy'
      this.#statements.addSession.run(remover, 'public', this.#clock())
      this.#statements.addClaim.run(remover, number)
      return 'claimed'
    })
  }

  /** Ends a claim whose object has gone, or did not go. */
  unclaim(remover: string): void {
    this.#database.transaction(() => {
      this.#statements.dropHolds.run(remover)
      this.#statements.dropSession.run(remover)
    })
  }

  /** The object of that name, if it is being removed; a condemned one is from now on, whatever its grace. */
  findRemoving(name: ObjectName): JournalObject | undefined {
    return this.#database.transaction(() => {
      this.#statements.removeCondemned.run(name)
      const row = this.#statements.getObject.get(name)
      return row?.state === REMOVING ? { number: row.number as number, name } : undefined
    }, true)
  }

  /** Before an object that is being removed goes: its chunks are taken off the index. */
  forgetChunks(number: number, entries: readonly PackEntry[] | 'unreadable'): void {
    const ids =
      entries === 'unreadable'
        ? guard(() => this.#statements.scanChunks.all(number)).map((row) => row.id as Uint8Array)
        : entries.map((entry) => entry.id)
    for (let at = 0; at < ids.length; at += CHUNKS_AT_ONCE) {
      this.#database.transaction(() => this.#places.delete(number, ids.slice(at, at + CHUNKS_AT_ONCE)))
    }
  }

  /** The object is gone from the store. */
  removed(number: number): void {
    this.#database.transaction(() => {
      if (this.#statements.dropObjectIn.run(number, REMOVING).changes === 0) return
      this.#statements.dropAllHolds.run(number)
      this.#statements.dropBindsOf.run(number)
      this.#statements.dropDamage.run(number)
    })
  }

  endAbort(sessionId: string): void {
    this.#database.transaction(() => {
      this.#statements.dropHolds.run(sessionId)
      this.#statements.dropSession.run(sessionId)
    }, true)
  }

  /** True if the object is known and committed. */
  isCommitted(name: ObjectName): boolean {
    return guard(() => this.#statements.getObject.get(name)?.state) === COMMITTED
  }

  /** Committed objects whose name starts with `prefix`, with their sizes. */
  listCommitted(prefix: string): { readonly name: ObjectName; readonly sizeBytes: number }[] {
    const upTo = `${prefix}\u{10ffff}`
    return guard(() => this.#statements.listCommitted.all(prefix, upTo)) as never
  }
}

function undone(id: string): Fault {
  return new Fault('conflict', `Session ${id} is not open: it ended, or it is being undone.`, {
    subject: 'store',
  })
}

export function noImage(digest: Digest): Fault {
  return new Fault('absent', `This region holds no image with digest ${digest}.`, { subject: 'image' })
}

const SQL = {
  addSession: "INSERT OR IGNORE INTO session VALUES (?, ?, 'open', ?)",
  getSession: 'SELECT domain, state FROM session WHERE id = ?',
  touch: 'UPDATE session SET touchedMs = ? WHERE id = ?',
  listSessions: `SELECT s.id, s.domain, s.state, s.touchedMs, coalesce((
    SELECT sum(o.sizeBytes) FROM sessionObject h JOIN object o ON o.number = h.object
    WHERE h.session = s.id AND h.state <> ${PINNED} AND o.domain IS NOT NULL), 0) AS storedBytes
    FROM session s ORDER BY s.id`,
  addObject: 'INSERT OR IGNORE INTO object (name, domain, sizeBytes, state) VALUES (?, ?, 0, ?)',
  getObject: 'SELECT number, state FROM object WHERE name = ?',
  setDomain: 'UPDATE object SET domain = ? WHERE number = ? AND domain IS NULL',
  removeCondemned: `UPDATE object SET state = ${REMOVING} WHERE name = ? AND state = ${CONDEMNED}
    AND NOT EXISTS (SELECT 1 FROM sessionObject s WHERE s.object = number)`,
  addIntent: `INSERT OR IGNORE INTO sessionObject VALUES (?, ?, ${INTENT})`,
  getState: 'SELECT state FROM object WHERE number = ?',
  isClaimed: `SELECT 1 FROM sessionObject WHERE object = ? AND state = ${CLAIMED} AND session <> ?`,
  addClaim: `INSERT OR REPLACE INTO sessionObject VALUES (?, ?, ${CLAIMED})`,
  addPin: `INSERT OR IGNORE INTO sessionObject SELECT ?1, number, ${PINNED} FROM object
    WHERE number = ?2 AND state = ${COMMITTED}`,
  isPinned: `SELECT 1 FROM sessionObject s JOIN object o ON o.number = s.object
    WHERE s.session = ? AND s.object = ? AND o.state = ${COMMITTED}`,
  isHeld: `SELECT 1 FROM sessionObject WHERE session = ? AND object = ? AND state <> ${INTENT}`,
  findVisible: `SELECT o.number, o.state FROM object o WHERE o.name = ?1 AND (o.state = ${COMMITTED} OR EXISTS (
    SELECT 1 FROM sessionObject s WHERE s.session = ?2 AND s.object = o.number AND s.state = ${STORED}))`,
  addBind: 'INSERT OR IGNORE INTO imageObject VALUES (?, ?)',
  forgetLive: 'UPDATE object SET liveBytes = NULL WHERE number = ? AND liveBytes IS NOT NULL',
  setSize: 'UPDATE object SET sizeBytes = ? WHERE number = ?',
  setState: 'UPDATE object SET state = ? WHERE number = ?',
  setStored: `UPDATE sessionObject SET state = ${STORED} WHERE session = ? AND object = ?`,
  listIntents: `SELECT o.number, o.name FROM sessionObject s JOIN object o ON o.number = s.object
    WHERE s.session = ? AND s.state = ${INTENT}`,
  dropHold: 'DELETE FROM sessionObject WHERE session = ? AND object = ?',
  dropAllHolds: 'DELETE FROM sessionObject WHERE object = ?',
  dropObject: `DELETE FROM object WHERE number = ? AND state = ?
    AND NOT EXISTS (SELECT 1 FROM sessionObject s WHERE s.object = number)`,
  dropObjectIn: 'DELETE FROM object WHERE number = ? AND state = ?',
  commitObjects: `UPDATE object SET state = ${COMMITTED} WHERE state = ${PENDING}
    AND number IN (SELECT object FROM sessionObject WHERE session = ? AND state = ${STORED})`,
  commitBound: `UPDATE object SET state = ${COMMITTED} WHERE state = ${PENDING}
    AND number IN (SELECT object FROM imageObject WHERE image = ?)`,
  dropHolds: 'DELETE FROM sessionObject WHERE session = ?',
  dropSession: 'DELETE FROM session WHERE id = ?',
  addRef: 'INSERT INTO ref VALUES (?, ?, ?)',
  dropRefs: 'DELETE FROM ref WHERE holder = ?',
  listRefs: 'SELECT holder, digest, name FROM ref ORDER BY holder, digest',
  findRef: 'SELECT digest, name FROM ref WHERE holder = ? ORDER BY digest',
  condemnRefs: `UPDATE object SET state = ${CONDEMNED}, sinceMs = ?1 WHERE state = ${COMMITTED}
    AND name <> ?3 AND name IN (SELECT name FROM ref WHERE holder = ?2)`,
  removeRefs: `UPDATE object SET state = ${REMOVING} WHERE name >= ?1 AND name < ?2
    AND state IN (${COMMITTED}, ${CONDEMNED})`,
  listRemovingIn: `SELECT number, name FROM object WHERE name >= ? AND name < ? AND state = ${REMOVING}`,
  markAborting: "UPDATE session SET state = 'aborting' WHERE id = ?",
  dropForeignHolds: `DELETE FROM sessionObject WHERE session = ?1 AND (
    object IN (SELECT number FROM object WHERE state = ${COMMITTED})
    OR EXISTS (SELECT 1 FROM sessionObject h WHERE h.object = sessionObject.object AND h.session <> ?1))`,
  dropBinds: 'DELETE FROM imageObject WHERE image IN (SELECT object FROM sessionObject WHERE session = ?)',
  dropBindsOf: 'DELETE FROM imageObject WHERE image = ?1 OR object = ?1',
  dropDamage: 'DELETE FROM damage WHERE object = ?',
  markRemoving: `UPDATE object SET state = ${REMOVING}
    WHERE number IN (SELECT object FROM sessionObject WHERE session = ?)`,
  listRemoving: `SELECT o.number, o.name FROM sessionObject s JOIN object o ON o.number = s.object
    WHERE s.session = ?`,
  scanChunks: 'SELECT id FROM chunk WHERE object = ?',
  listCommitted: `SELECT name, sizeBytes FROM object
    WHERE state = ${COMMITTED} AND name >= ? AND name < ? ORDER BY name`,
}
