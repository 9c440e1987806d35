import type { Kysely, Transaction } from 'kysely'
import type { Schema } from './schema.ts'

/** A place to run queries: the catalog itself, or one transaction of it. */
export type Rows = Kysely<Schema> | Transaction<Schema>

/**
 * Where rows live. Every implementation passes `catalogSuite`. Once a write resolves it survives a crash;
 * transactions are serializable.
 */
export interface Catalog {
  readonly rows: Kysely<Schema>
  /** All of `work`, or nothing of it when it throws. Not to be nested. */
  transaction<T>(work: (rows: Transaction<Schema>) => Promise<T>): Promise<T>
  close(): Promise<void>
}
