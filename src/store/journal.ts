import assert from 'node:assert/strict'
import type { StatementSync } from 'node:sqlite'
import { Fault } from '../image/fault.ts'
import type { DomainId } from '../image/ids.ts'
import type { ObjectName } from '../objects/names.ts'
import { guard, type IndexDatabase } from './database.ts'
import type { PackEntry } from './pack.ts'
import { Places } from './places.ts'

/** A writer that has neither committed nor been undone. 'aborting': an undo was begun and not finished. */
export interface SessionRow {
  readonly id: string
  readonly domain: DomainId
  readonly state: 'open' | 'aborting'
  /** Bytes of the packs it has written so far. */
  readonly storedBytes: number
}

export interface JournalObject {
  readonly number: number
  readonly name: ObjectName
}

const PENDING = 0
const COMMITTED = 1
const REMOVING = 2
const INTENT = 0
const STORED = 1

/**
 * Which session wrote which object. A session's objects are its own until `commit` gives them to everybody, and an
 * object is removed only when no session holds it and nobody committed it.
 */
export class Journal {
  readonly #database: IndexDatabase
  readonly #places: Places
  readonly #statements: Record<keyof typeof SQL, StatementSync>

  constructor(database: IndexDatabase) {
    this.#database = database
    this.#places = new Places(database)
    const entries = Object.entries(SQL).map(([key, sql]) => [key, database.prepare(sql)] as const)
    this.#statements = Object.fromEntries(entries) as Record<keyof typeof SQL, StatementSync>
  }

  /** Makes the session or finds it again. Throws Fault 'conflict' if it is being undone or is of another domain. */
  open(id: string, domain: DomainId): void {
    this.#database.transaction(() => {
      this.#statements.addSession.run(id, domain)
      const row = this.#statements.getSession.get(id)
      if (row?.state !== 'open') throw undone(id)
      if (row.domain !== domain) {
        throw new Fault('conflict', `Session ${id} belongs to another domain.`, { subject: 'store' })
      }
    })
  }

  list(): SessionRow[] {
    return guard(() => this.#statements.listSessions.all().map((row) => ({ ...row }))) as never
  }

  find(id: string): SessionRow | undefined {
    return this.list().find((row) => row.id === id)
  }

  /**
   * Before an object is put. Undefined while an undo is removing the very same object: wait and ask again, or the
   * removal would take away what the put found. `isNew`: no session and no commit knew the object before.
   */
  intend(
    sessionId: string,
    name: ObjectName,
    domain: DomainId | null,
  ): { readonly number: number; readonly isNew: boolean } | undefined {
    return this.#database.transaction(() => {
      if (this.#statements.getSession.get(sessionId)?.state !== 'open') throw undone(sessionId)
      const isNew = this.#statements.addObject.run(name, domain, PENDING).changes === 1
      const row = this.#statements.getObject.get(name)
      assert(row !== undefined)
      if (row.state === REMOVING) return undefined
      this.#statements.addIntent.run(sessionId, row.number as number)
      return { number: row.number as number, isNew }
    })
  }

  /**
   * After the put: the object is durable and `entries` are in it. An object that was there though nobody here knew
   * it is not ours to undo, so it counts as committed.
   */
  settle(
    sessionId: string,
    object: { readonly number: number; readonly isNew: boolean },
    answer: 'stored' | 'present',
    sizeBytes: number,
    entries: readonly PackEntry[],
  ): void {
    this.#database.transaction(() => {
      this.#statements.setSize.run(sizeBytes, object.number)
      if (answer === 'present' && object.isNew) this.#statements.setState.run(COMMITTED, object.number)
      this.#places.insert(object.number, entries)
      this.#statements.setStored.run(sessionId, object.number)
    })
  }

  /** What a crash left between `intend` and `settle`. */
  listIntents(sessionId: string): JournalObject[] {
    return guard(() => this.#statements.listIntents.all(sessionId)) as unknown as JournalObject[]
  }

  /** Takes an intent back whose object is not there. */
  forget(sessionId: string, number: number): void {
    this.#database.transaction(() => {
      this.#statements.dropHold.run(sessionId, number)
      this.#statements.dropObject.run(number, PENDING)
    })
  }

  /** Everything the session wrote becomes everybody's, and the session ends. Survives a power cut (I1). */
  commit(sessionId: string): void {
    this.#database.transaction(() => {
      const row = this.#statements.getSession.get(sessionId)
      if (row?.state !== 'open') throw undone(sessionId)
      assert.equal(
        this.listIntents(sessionId).length,
        0,
        'a session commits when all its objects are durable',
      )
      this.#statements.commitObjects.run(sessionId)
      this.#statements.dropHolds.run(sessionId)
      this.#statements.dropSession.run(sessionId)
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
      this.#statements.markRemoving.run(sessionId)
      return this.#statements.listRemoving.all(sessionId) as unknown as JournalObject[]
    })
  }

  /** Inside the undo, before the object goes: nobody is to find chunks in it any more. */
  forgetChunks(number: number, entries: readonly PackEntry[] | 'unreadable'): void {
    this.#database.transaction(() => {
      if (entries === 'unreadable') this.#statements.scanChunksAway.run(number)
      else this.#places.delete(number, entries)
    })
  }

  /** The object is gone from the store. */
  removed(sessionId: string, number: number): void {
    this.#database.transaction(() => {
      this.#statements.dropHold.run(sessionId, number)
      this.#statements.dropObject.run(number, REMOVING)
    })
  }

  endAbort(sessionId: string): void {
    this.#database.transaction(() => this.#statements.dropSession.run(sessionId), true)
  }

  /** True if the object is known and committed. */
  isCommitted(name: ObjectName): boolean {
    return guard(() => this.#statements.getObject.get(name)?.state) === COMMITTED
  }

  /** True if the object is durable and committed, or held by this session. */
  isVisible(name: ObjectName, sessionId: string): boolean {
    return guard(() => this.#statements.isVisible.get(name, sessionId)) !== undefined
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

const SQL = {
  addSession: "INSERT OR IGNORE INTO session VALUES (?, ?, 'open')",
  getSession: 'SELECT domain, state FROM session WHERE id = ?',
  listSessions: `SELECT s.id, s.domain, s.state, coalesce((
    SELECT sum(o.sizeBytes) FROM sessionObject h JOIN object o ON o.number = h.object
    WHERE h.session = s.id AND o.domain IS NOT NULL), 0) AS storedBytes FROM session s ORDER BY s.id`,
  addObject: 'INSERT OR IGNORE INTO object (name, domain, sizeBytes, state) VALUES (?, ?, 0, ?)',
  getObject: 'SELECT number, state FROM object WHERE name = ?',
  addIntent: `INSERT OR IGNORE INTO sessionObject VALUES (?, ?, ${INTENT})`,
  setSize: 'UPDATE object SET sizeBytes = ? WHERE number = ?',
  setState: 'UPDATE object SET state = ? WHERE number = ?',
  setStored: `UPDATE sessionObject SET state = ${STORED} WHERE session = ? AND object = ?`,
  listIntents: `SELECT o.number, o.name FROM sessionObject s JOIN object o ON o.number = s.object
    WHERE s.session = ? AND s.state = ${INTENT}`,
  dropHold: 'DELETE FROM sessionObject WHERE session = ? AND object = ?',
  dropObject: `DELETE FROM object WHERE number = ? AND state = ?
    AND NOT EXISTS (SELECT 1 FROM sessionObject s WHERE s.object = number)`,
  commitObjects: `UPDATE object SET state = ${COMMITTED}
    WHERE number IN (SELECT object FROM sessionObject WHERE session = ?)`,
  dropHolds: 'DELETE FROM sessionObject WHERE session = ?',
  dropSession: 'DELETE FROM session WHERE id = ?',
  markAborting: "UPDATE session SET state = 'aborting' WHERE id = ?",
  dropForeignHolds: `DELETE FROM sessionObject WHERE session = ?1 AND (
    object IN (SELECT number FROM object WHERE state = ${COMMITTED})
    OR EXISTS (SELECT 1 FROM sessionObject h WHERE h.object = sessionObject.object AND h.session <> ?1))`,
  markRemoving: `UPDATE object SET state = ${REMOVING}
    WHERE number IN (SELECT object FROM sessionObject WHERE session = ?)`,
  listRemoving: `SELECT o.number, o.name FROM sessionObject s JOIN object o ON o.number = s.object
    WHERE s.session = ?`,
  scanChunksAway: 'DELETE FROM chunk WHERE object = ?',
  isVisible: `SELECT 1 FROM object o WHERE o.name = ?1 AND (o.state = ${COMMITTED} OR EXISTS (
    SELECT 1 FROM sessionObject s WHERE s.session = ?2 AND s.object = o.number AND s.state = ${STORED}))`,
  listCommitted: `SELECT name, sizeBytes FROM object
    WHERE state = ${COMMITTED} AND name >= ? AND name < ? ORDER BY name`,
}
