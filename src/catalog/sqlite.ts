import { chmodSync } from 'node:fs'
import { DatabaseSync, type SQLInputValue } from 'node:sqlite'
import { Kysely, SqliteDialect } from 'kysely'
import { Fault } from '../image/fault.ts'
import type { Catalog } from './contract.ts'
import { migrate } from './migrations.ts'
import type { Schema } from './schema.ts'

/** Gives Kysely's SQLite dialect the few calls it makes of a driver, over the SQLite that Node brings. */
function driver(database: DatabaseSync) {
  return {
    close: () => database.close(),
    prepare(text: string) {
      const statement = database.prepare(text)
      const bind = (parameters: readonly unknown[]) => parameters as SQLInputValue[]
      return {
        reader: statement.columns().length > 0,
        all: (parameters: readonly unknown[]) => guard(() => statement.all(...bind(parameters))),
        run(parameters: readonly unknown[]) {
          // SQLite itself rolls back on some failures, a full disk for one; the failure is what is to be told.
          if (text === 'rollback' && !database.isTransaction) return { changes: 0, lastInsertRowid: 0 }
          return guard(() => statement.run(...bind(parameters)))
        },
        iterate: (parameters: readonly unknown[]) =>
          statement.iterate(...bind(parameters)) as IterableIterator<unknown>,
      }
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

/**
 * The embedded catalog: one file, mode 0600 because it holds access keys. ':memory:' for tests.
 * Kysely hands out its single connection one transaction at a time, which makes them serializable.
 */
export async function openSqliteCatalog(path: string): Promise<Catalog> {
  const database = new DatabaseSync(path)
  if (path !== ':memory:') chmodSync(path, 0o600)
  database.exec('pragma journal_mode = wal; pragma synchronous = full; pragma busy_timeout = 5000')
  const rows = new Kysely<Schema>({ dialect: new SqliteDialect({ database: driver(database) }) })
  try {
    await migrate(rows)
  } catch (error) {
    await rows.destroy()
    throw error
  }
  return {
    rows,
    transaction: (work) => rows.transaction().execute(work),
    close: () => rows.destroy(),
  }
}
