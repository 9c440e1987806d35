import { chmodSync } from 'node:fs'
import { DatabaseSync, type SQLInputValue } from 'node:sqlite'
import { type Driver, Kysely, type SqliteDatabase, SqliteDialect } from 'kysely'
import { Fault } from '../image/fault.ts'
import type { Catalog } from './contract.ts'
import { DurableDriver, LogSync, type Sync } from './durable.ts'
import { migrate } from './migrations.ts'
import type { Schema } from './schema.ts'

/** More than the server has of them; those with lists of values are many. */
const KEPT_COUNT_MAX = 128

/** Gives Kysely's SQLite dialect the few calls it makes of a driver, over the SQLite that Node brings. */
function driver(database: DatabaseSync) {
  // Compiling most statements takes longer than running them, and whoever answers requests waits for both.
  const kept = new Map<string, ReturnType<typeof prepare>>()
  const bind = (parameters: readonly unknown[]) => parameters as SQLInputValue[]

  function prepare(text: string) {
    const statement = database.prepare(text)
    return {
      reader: statement.columns().length > 0,
      all: (parameters: readonly unknown[]) => guard(() => statement.all(...bind(parameters))),
      run(parameters: readonly unknown[]) {
        // SQLite itself rolls back on some failures, a full disk for one; the failure is what is to be told.
        if (text === 'rollback' && !database.isTransaction) return { changes: 0, lastInsertRowid: 0 }
        return guard(() => statement.run(...bind(parameters)))
      },
      // Not the one that is kept: it stays open between its rows, and somebody else may run the same.
      iterate: (parameters: readonly unknown[]) =>
        database.prepare(text).iterate(...bind(parameters)) as IterableIterator<unknown>,
    }
  }

  return {
    close: () => database.close(),
    prepare(text: string) {
      const found = kept.get(text)
      if (found !== undefined) return found
      const prepared = prepare(text)
      const [oldest] = kept.keys()
      if (kept.size >= KEPT_COUNT_MAX && oldest !== undefined) kept.delete(oldest)
      kept.set(text, prepared)
      return prepared
    },
  }
}

const SQLITE_FULL = 13

/** A full disk as a Fault, everything else unchanged. Source: SQLite, "Result and Error Codes". */
function guard<Result>(run: () => Result): Result {
  try {
    return run()
  } catch (error) {
    if (!(error instanceof Error) || !('errcode' in error)) throw error
    if ((Number(error.errcode) & 0xff) !== SQLITE_FULL) throw error
    const message = "The disk of the server's data directory is full. Make room there, then try again."
    throw new Fault('full', message, { subject: 'store', cause: error })
  }
}

class DurableDialect extends SqliteDialect {
  readonly #wrap: (driver: Driver) => Driver

  constructor(database: SqliteDatabase, wrap: (driver: Driver) => Driver) {
    super({ database })
    this.#wrap = wrap
  }

  override createDriver(): Driver {
    return this.#wrap(super.createDriver())
  }
}

/**
 * The embedded catalog: one file, mode 0600 because it holds access keys. ':memory:' for tests.
 * Kysely hands out its single connection one transaction at a time, which makes them serializable. What SQLite
 * would sync with each commit is synced beside (`DurableDriver`), so that whoever answers requests seldom waits for the disk.
 */
export async function openSqliteCatalog(path: string, sync?: Sync): Promise<Catalog> {
  const isInMemory = path === ':memory:'
  const database = new DatabaseSync(path)
  if (!isInMemory) chmodSync(path, 0o600)
  database.exec('pragma journal_mode = wal; pragma synchronous = full; pragma busy_timeout = 5000')
  const called = driver(database)
  const plain = new Kysely<Schema>({ dialect: new SqliteDialect({ database: called }) })
  try {
    await migrate(plain)
    const rows = isInMemory ? plain : durable(path, database, called, sync)
    return {
      rows,
      transaction: (work) => rows.transaction().execute(work),
      close: () => rows.destroy(),
    }
  } catch (error) {
    database.close()
    throw error
  }
}

function durable(path: string, database: DatabaseSync, called: SqliteDatabase, sync: Sync | undefined) {
  // A transaction that writes makes sure that the log is there.
  database.exec('begin immediate; commit; pragma synchronous = normal')
  const log = new LogSync(path, sync)
  const wrap = (inner: Driver) => new DurableDriver(inner, log, () => database.isTransaction)
  return new Kysely<Schema>({ dialect: new DurableDialect(called, wrap) })
}
