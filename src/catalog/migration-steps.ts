import type { Kysely } from 'kysely'
import type { Schema } from './schema.ts'

/** One change of the schema, inside the transaction of its number. */
export type Step = (rows: Kysely<Schema>) => Promise<unknown>

/** A table of text and whole-number columns: 't' text, 'n' number, '?' behind either may be null. */
export function table(
  name: string,
  columns: Record<string, 't' | 'n' | 't?' | 'n?'>,
  primaryKey: string[],
): Step {
  return (rows) => {
    let make = rows.schema.createTable(name)
    for (const [column, kind] of Object.entries(columns)) {
      make = make.addColumn(column, kind.startsWith('t') ? 'text' : 'bigint', (c) =>
        kind.endsWith('?') ? c : c.notNull(),
      )
    }
    return make.addPrimaryKeyConstraint(`${name}_key`, primaryKey as never).execute()
  }
}

export function index(name: string, on: string, columns: string[], unique = false): Step {
  return (rows) => {
    const make = rows.schema.createIndex(name).on(on).columns(columns)
    return (unique ? make.unique() : make).execute()
  }
}

/** One more column; a number that may not be null is `fallback` in the rows there are. */
export function column(on: string, name: string, kind: 'n' | 'n?' | 't?', fallback = 0): Step {
  return (rows) =>
    rows.schema
      .alterTable(on)
      .addColumn(name, kind === 't?' ? 'text' : 'bigint', (c) =>
        kind === 'n' ? c.notNull().defaultTo(fallback) : c,
      )
      .execute()
}

/** Its ids are never given twice, so that whoever has seen one knows what he has not. */
export const eventTable: Step = (rows) =>
  rows.schema
    .createTable('event')
    .addColumn('id', 'integer', (c) => c.primaryKey().autoIncrement())
    .addColumn('atMs', 'bigint', (c) => c.notNull())
    .addColumn('projectId', 'text', (c) => c.notNull())
    .addColumn('taskId', 'text', (c) => c.notNull())
    .addColumn('kind', 'text', (c) => c.notNull())
    .addColumn('isEnd', 'bigint', (c) => c.notNull())
    .addColumn('body', 'text', (c) => c.notNull())
    .execute()
