import type { ShownTask } from '../wire/native/show.ts'
import { type Client, createClient, type Query } from './client.ts'
import { type Connection, type ConnectionFlags, resolveConnection } from './connection.ts'
import type { Io } from './io.ts'
import { fitColumns } from './narrow.ts'
import { type Column, formatTable } from './table.ts'
import { requireDone, type WaitOptions, waitForTasks } from './wait.ts'

export interface SessionFlags extends ConnectionFlags {
  readonly json?: boolean
}

/** Where what a command has to say goes. */
export interface Printer {
  /** One JSON value with --json, else what `toText` makes of it. */
  print<Value>(value: Value, toText: (value: Value) => string): void
  table<Row>(columns: readonly Column<Row>[], rows: readonly Row[], whenEmpty: string): string
}

/** What a client command works with: the server, and where its answer goes. */
export interface Session extends Printer {
  readonly client: Client
  /** For what goes to the server beside its API: the bytes of files. */
  readonly connection: Connection
  readonly io: Io
  readonly isJson: boolean
  /** Every item of a list, page after page, or the first `limit`. */
  listAll<Item>(path: string, key: string, query: Query, limit?: number): Promise<readonly Item[]>
  /** Waits for tasks, showing how they go on. Throws CommandFailure unless all are done. */
  waitForDone(taskIds: readonly string[], options?: WaitOptions): Promise<readonly ShownTask[]>
}

const PAGE_SIZE = 500

export function createPrinter(io: Io, isJson: boolean): Printer {
  const hasColours = io.stdout.isTerminal && !io.environment.NO_COLOR && io.environment.TERM !== 'dumb'
  return {
    print(value, toText) {
      io.stdout.write(isJson ? `${JSON.stringify(value, null, 2)}\n` : toText(value))
    },
    table(columns, rows, whenEmpty) {
      if (rows.length === 0) return `${whenEmpty}\n`
      // Whoever reads it by a program gets all of it.
      const { isTerminal, columns: cellsMax } = io.stdout
      return formatTable(isTerminal ? fitColumns(columns, rows, cellsMax) : columns, rows, hasColours)
    },
  }
}

export function openSession(flags: SessionFlags, io: Io): Session {
  const connection = resolveConnection(flags, io.environment)
  const client = createClient(connection)
  const isJson = flags.json === true
  return {
    ...createPrinter(io, isJson),
    client,
    connection,
    io,
    isJson,
    async listAll<Item>(path: string, key: string, query: Query, limit = Number.POSITIVE_INFINITY) {
      const items: Item[] = []
      for (;;) {
        const page = { offset: items.length, limit: Math.min(PAGE_SIZE, limit - items.length) }
        const answer = await client.call<{ total: number }>('GET', path, { query: { ...query, ...page } })
        const more = (answer as unknown as Record<string, readonly Item[]>)[key] ?? []
        items.push(...more)
        if (more.length === 0 || items.length >= Math.min(limit, answer.total)) return items
      }
    },
    async waitForDone(taskIds, options) {
      const tasks = await waitForTasks(io, client, taskIds, options)
      requireDone(tasks)
      return tasks
    },
  }
}
