import { DatabaseSync, type StatementSync } from 'node:sqlite'
import { Fault, isFault } from '../image/fault.ts'

/**
 * state of an object: 0 written by sessions that may still be aborted, 1 committed, 2 being removed by an abort.
 * state of a session's object: 0 the session is about to write it, 1 it is durable.
 * A chunk may have a row per pack that holds it: two writers may store the same chunk, and either copy may go.
 */
const SCHEMA = `
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS object (
  number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, domain TEXT, sizeBytes INTEGER NOT NULL, state INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS session (
  id TEXT PRIMARY KEY, domain TEXT NOT NULL, state TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sessionObject (
  session TEXT NOT NULL, object INTEGER NOT NULL, state INTEGER NOT NULL, PRIMARY KEY (session, object)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sessionObjectByObject ON sessionObject (object);
CREATE TABLE IF NOT EXISTS chunk (
  id BLOB NOT NULL, object INTEGER NOT NULL, offset INTEGER NOT NULL, storedBytes INTEGER NOT NULL,
  plainBytes INTEGER NOT NULL, crc32 INTEGER NOT NULL, PRIMARY KEY (id, object)
) WITHOUT ROWID;
`
const VERSION = '1'

/**
 * One thread's connection to a region's index: a cache of what the objects say, and the journal of sessions.
 * Every failure of SQLite leaves as a Fault.
 */
export class IndexDatabase {
  readonly #database: DatabaseSync

  constructor(path: string) {
    this.#database = guard(() => {
      const database = new DatabaseSync(path, { timeout: 30_000 })
      database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -16384;')
      database.exec(SCHEMA)
      database.prepare("INSERT OR IGNORE INTO meta VALUES ('version', ?)").run(VERSION)
      return database
    })
    if (this.getMeta('version') !== VERSION) {
      throw new Fault('unavailable', 'The index is of another version. Move it away; it is made anew.', {
        subject: 'store',
      })
    }
  }

  prepare(sql: string): StatementSync {
    return guard(() => this.#database.prepare(sql))
  }

  /**
   * All of `body` or nothing, alone among all threads. Without `isDurable` a power cut may take the last
   * transactions back, together and in order, but never a crash of this process.
   */
  transaction<Result>(body: () => Result, isDurable = false): Result {
    return guard(() => {
      if (isDurable) this.#database.exec('PRAGMA synchronous = FULL')
      try {
        this.#database.exec('BEGIN IMMEDIATE')
        try {
          const result = body()
          this.#database.exec('COMMIT')
          return result
        } catch (error) {
          // SQLite itself ends the transaction on some failures, a full disk for one.
          if (this.#database.isTransaction) this.#database.exec('ROLLBACK')
          throw error
        }
      } finally {
        if (isDurable) this.#database.exec('PRAGMA synchronous = NORMAL')
      }
    })
  }

  getMeta(key: string): string | undefined {
    const row = guard(() => this.#database.prepare('SELECT value FROM meta WHERE key = ?').get(key))
    return row === undefined ? undefined : String(row.value)
  }

  setMeta(key: string, value: string | undefined): void {
    guard(() => {
      if (value === undefined) this.#database.prepare('DELETE FROM meta WHERE key = ?').run(key)
      else this.#database.prepare('INSERT OR REPLACE INTO meta VALUES (?, ?)').run(key, value)
    })
  }

  close(): void {
    if (this.#database.isOpen) this.#database.close()
  }
}

const SQLITE_BUSY = 5
const SQLITE_IOERR = 10
const SQLITE_CORRUPT = 11
const SQLITE_FULL = 13
const SQLITE_CANTOPEN = 14
const SQLITE_NOTADB = 26

/** Runs `body` and turns what the world did to SQLite into a Fault; bugs pass unchanged. */
export function guard<Result>(body: () => Result): Result {
  try {
    return body()
  } catch (error) {
    if (isFault(error) || !(error instanceof Error) || !('errcode' in error)) throw error
    const options = { subject: 'store', cause: error } as const
    switch (Number(error.errcode) & 0xff) {
      case SQLITE_FULL:
        throw new Fault('full', 'The store has no space left. Make room, then try again.', options)
      case SQLITE_CORRUPT:
      case SQLITE_NOTADB:
        throw new Fault('corrupt', 'The index is damaged. Rebuild it from the packs.', options)
      case SQLITE_BUSY:
      case SQLITE_IOERR:
      case SQLITE_CANTOPEN:
        throw new Fault('unavailable', 'The index cannot be used now.', options)
      default:
        throw error
    }
  }
}
