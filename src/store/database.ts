import { closeSync, fdatasyncSync, openSync } from 'node:fs'
import { DatabaseSync, type StatementSync } from 'node:sqlite'
import { Fault, isFault } from '../image/fault.ts'

/** States of an object. Source: docs/store.md. */
export const PENDING = 0
export const COMMITTED = 1
export const REMOVING = 2
export const CONDEMNED = 3

/** How a session holds an object: it is about to write it, it has written it, it relies on what others wrote, it takes it away. */
export const INTENT = 0
export const STORED = 1
export const PINNED = 2
export const CLAIMED = 3

/**
 * Numbers of objects are never used again, so that a row left behind names nothing else. `liveBytes` is null where a
 * pack has to be looked through again, `verifiedAtMs` where it never was. A chunk may have a row per pack that holds
 * it: two writers may store the same chunk, and either copy may go. `imageObject`: what an image binds.
 */
const SCHEMA = `
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS object (
  number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, domain TEXT, sizeBytes INTEGER NOT NULL,
  state INTEGER NOT NULL, sinceMs INTEGER, liveBytes INTEGER, verifiedAtMs INTEGER
);
CREATE INDEX IF NOT EXISTS objectByState ON object (state) WHERE state <> ${COMMITTED};
CREATE TABLE IF NOT EXISTS session (
  id TEXT PRIMARY KEY, domain TEXT NOT NULL, state TEXT NOT NULL, touchedMs INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sessionObject (
  session TEXT NOT NULL, object INTEGER NOT NULL, state INTEGER NOT NULL, PRIMARY KEY (session, object)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sessionObjectByObject ON sessionObject (object);
CREATE TABLE IF NOT EXISTS chunk (
  id BLOB NOT NULL, object INTEGER NOT NULL, offset INTEGER NOT NULL, storedBytes INTEGER NOT NULL,
  plainBytes INTEGER NOT NULL, crc32 INTEGER NOT NULL, PRIMARY KEY (id, object)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS imageObject (
  image INTEGER NOT NULL, object INTEGER NOT NULL, PRIMARY KEY (image, object)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS imageObjectByObject ON imageObject (object);
CREATE TABLE IF NOT EXISTS ref (
  holder TEXT NOT NULL, digest TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (holder, digest)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS refByDigest ON ref (digest);
CREATE TABLE IF NOT EXISTS damage (
  object INTEGER NOT NULL, chunk BLOB NOT NULL, message TEXT NOT NULL, atMs INTEGER NOT NULL, PRIMARY KEY (object, chunk)
) WITHOUT ROWID;
`
const TABLES = ['meta', 'object', 'session', 'sessionObject', 'chunk', 'imageObject', 'ref', 'damage']
const VERSION = '2'

const BUSY_MS = 30_000
const LOOK_AGAIN_MS = 0.2
const NEVER = new Int32Array(new SharedArrayBuffer(4))

/**
 * One thread's connection to a region's index: a cache of what the objects say, and the journal of sessions.
 * Every failure of SQLite leaves as a Fault.
 */
export class IndexDatabase {
  readonly #database: DatabaseSync
  readonly #path: string
  /** The write-ahead log, to sync it. */
  #log: number | undefined
  #foreignVersion: StatementSync | undefined

  /** The longest that a transaction of this thread waited for others, and took itself. For benchmarks and reports. */
  readonly longest = { waitMs: 0, heldMs: 0 }

  constructor(path: string) {
    this.#path = path
    this.#database = guard(() => {
      const database = new DatabaseSync(path, { timeout: BUSY_MS })
      database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -16384;')
      database.exec('BEGIN IMMEDIATE')
      // An index is only a cache: one of another version is made anew from the objects.
      if (versionOf(database) !== VERSION) {
        for (const table of TABLES) database.exec(`DROP TABLE IF EXISTS ${table}`)
        database.exec(SCHEMA)
        database.prepare("INSERT INTO meta VALUES ('version', ?)").run(VERSION)
      }
      database.exec('COMMIT')
      return database
    })
  }

  /** Another number than before where another thread or process has changed something since; what this one changes does not count. */
  get foreignVersion(): number {
    this.#foreignVersion ??= this.prepare('PRAGMA data_version')
    const row = guard(() => this.#foreignVersion?.get())
    return Number(row?.data_version)
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
      const askedMs = performance.now()
      this.#begin()
      const begunMs = performance.now()
      let result: Result
      try {
        result = body()
        this.#database.exec('COMMIT')
      } catch (error) {
        // SQLite itself ends the transaction on some failures, a full disk for one.
        if (this.#database.isTransaction) this.#database.exec('ROLLBACK')
        throw error
      }
      this.longest.waitMs = Math.max(this.longest.waitMs, begunMs - askedMs)
      this.longest.heldMs = Math.max(this.longest.heldMs, performance.now() - begunMs)
      if (isDurable) this.#sync()
      return result
    })
  }

  /**
   * What `body` looks up is of one moment. For many small looks, which otherwise take and release the locks of the log each
   * time. It writes nothing, and waits for nothing.
   */
  reading<Result>(body: () => Result): Result {
    return guard(() => {
      this.#database.exec('BEGIN')
      try {
        return body()
      } finally {
        // SQLite itself ends it on some failures; the failure is what is to be told.
        if (this.#database.isTransaction) this.#database.exec('COMMIT')
      }
    })
  }

  /** SQLite itself would look again after up to a tenth of a second, however short others are. */
  #begin(): void {
    const untilMs = performance.now() + BUSY_MS
    this.#database.exec('PRAGMA busy_timeout = 0')
    try {
      for (;;) {
        try {
          this.#database.exec('BEGIN IMMEDIATE')
          return
        } catch (error) {
          if (!isBusy(error) || performance.now() > untilMs) throw error
          Atomics.wait(NEVER, 0, 0, LOOK_AGAIN_MS)
        }
      }
    } finally {
      this.#database.exec(`PRAGMA busy_timeout = ${BUSY_MS}`)
    }
  }

  /**
   * Everything committed so far is on the disk when it returns. Done after the commit and not in it, where everybody
   * would wait for the disk: the log is written from the front to the back, and before SQLite itself moves what
   * is in it to the database or begins it anew, it syncs both.
   */
  #sync(): void {
    if (this.#path === ':memory:') return
    try {
      this.#log ??= openSync(`${this.#path}-wal`, 'r')
      fdatasyncSync(this.#log)
    } catch (cause) {
      throw new Fault('unavailable', 'The index cannot be made safe on its disk.', {
        subject: 'store',
        cause,
      })
    }
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
    if (this.#log !== undefined) closeSync(this.#log)
    this.#log = undefined
    if (this.#database.isOpen) this.#database.close()
  }
}

function versionOf(database: DatabaseSync): string | undefined {
  const isMade = database.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'meta'").get() !== undefined
  const row = isMade ? database.prepare("SELECT value FROM meta WHERE key = 'version'").get() : undefined
  return row === undefined ? undefined : String(row.value)
}

const SQLITE_BUSY = 5
const SQLITE_IOERR = 10
const SQLITE_CORRUPT = 11
const SQLITE_FULL = 13
const SQLITE_CANTOPEN = 14
const SQLITE_NOTADB = 26

function isBusy(error: unknown): boolean {
  return error instanceof Error && 'errcode' in error && (Number(error.errcode) & 0xff) === SQLITE_BUSY
}

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
