import { closeSync, fdatasync, fsyncSync, openSync } from 'node:fs'
import { dirname } from 'node:path'
import { promisify } from 'node:util'
import type { CompiledQuery, DatabaseConnection, Driver, QueryResult } from 'kysely'
import { Fault } from '../image/fault.ts'

/** Makes what a descriptor was written to durable; for tests another. */
export type Sync = (descriptor: number) => Promise<void>

const syncBeside: Sync = promisify(fdatasync)

/**
 * The write-ahead log of the catalog, made durable beside the thread that writes it: one sync for all that was committed
 * before it began. After a failed one nothing is known of what the disk has, so every later one fails too.
 */
export class LogSync {
  readonly #descriptor: number
  readonly #sync: Sync
  #writtenCount = 0
  #durableCount = 0
  #running: Promise<void> | undefined
  #failure: Fault | undefined

  /** `path`: of the catalog, whose log is there by now. Its name is made durable at once. */
  constructor(path: string, sync: Sync = syncBeside) {
    this.#sync = sync
    this.#descriptor = openSync(`${path}-wal`, 'r')
    fsyncSync(this.#descriptor)
    const folder = openSync(dirname(path), 'r')
    try {
      fsyncSync(folder)
    } finally {
      closeSync(folder)
    }
  }

  /** Fault 'unavailable' 'store' once a sync has failed. */
  throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure
  }

  /** Something was committed. */
  written(): void {
    this.#writtenCount++
  }

  /** Resolves when all that was committed by now is durable. Fault 'unavailable' 'store'. */
  async durable(): Promise<void> {
    const wanted = this.#writtenCount
    while (this.#durableCount < wanted) {
      this.throwIfFailed()
      this.#running ??= this.#run()
      await this.#running
    }
  }

  /** Once nothing is waited for any more. */
  async close(): Promise<void> {
    while (this.#running !== undefined) await this.#running
    closeSync(this.#descriptor)
  }

  async #run(): Promise<void> {
    const count = this.#writtenCount
    try {
      await this.#sync(this.#descriptor)
      this.#durableCount = count
    } catch (cause) {
      const message =
        "The catalog cannot be made safe on its disk. See what is wrong with the disk of the server's data directory, then restart the server."
      this.#failure = new Fault('unavailable', message, { subject: 'store', cause })
    } finally {
      this.#running = undefined
    }
  }
}

/** What changes nothing by itself. */
const CHANGES_NOTHING = /^\s*(select|pragma|begin|commit|rollback)\b/i
const ROLLBACK = /^\s*rollback\b/i

/**
 * A driver whose every answer is durable: nothing resolves, and nothing is told to a reader, that a crash of the machine could take
 * back. The connection is free for the next one as soon as something is committed; only the answer waits for the disk.
 */
export class DurableDriver implements Driver {
  readonly #inner: Driver
  readonly #log: LogSync
  readonly #isInTransaction: () => boolean

  constructor(inner: Driver, log: LogSync, isInTransaction: () => boolean) {
    this.#inner = inner
    this.#log = log
    this.#isInTransaction = isInTransaction
  }

  init = () => this.#inner.init()
  beginTransaction: Driver['beginTransaction'] = (...given) => this.#inner.beginTransaction(...given)
  commitTransaction: Driver['commitTransaction'] = (connection) => this.#inner.commitTransaction(connection)
  rollbackTransaction: Driver['rollbackTransaction'] = (connection) =>
    this.#inner.rollbackTransaction(connection)

  async acquireConnection(): Promise<DurableConnection> {
    return new DurableConnection(this.#inner, await this.#inner.acquireConnection(), this.#log, () =>
      this.#isInTransaction(),
    )
  }

  async releaseConnection(connection: DatabaseConnection): Promise<void> {
    await (connection as DurableConnection).release()
  }

  async destroy(): Promise<void> {
    await this.#log.close()
    await this.#inner.destroy()
  }
}

class DurableConnection implements DatabaseConnection {
  readonly #driver: Driver
  #connection: DatabaseConnection | undefined
  readonly #log: LogSync
  readonly #isInTransaction: () => boolean
  /** Since the transaction began. */
  #hasWritten = false

  constructor(driver: Driver, connection: DatabaseConnection, log: LogSync, isInTransaction: () => boolean) {
    this.#driver = driver
    this.#connection = connection
    this.#log = log
    this.#isInTransaction = isInTransaction
  }

  async executeQuery<R>(query: CompiledQuery): Promise<QueryResult<R>> {
    this.#connection ??= await this.#driver.acquireConnection()
    const result = await this.#execute<R>(this.#connection, query)
    this.#hasWritten ||= !CHANGES_NOTHING.test(query.sql)
    if (this.#isInTransaction()) return result
    if (this.#hasWritten && !ROLLBACK.test(query.sql)) this.#log.written()
    this.#hasWritten = false
    await this.release()
    await this.#log.durable()
    return result
  }

  /** What a failure tells is as durable as any other answer. */
  async #execute<R>(connection: DatabaseConnection, query: CompiledQuery): Promise<QueryResult<R>> {
    try {
      if (!ROLLBACK.test(query.sql)) this.#log.throwIfFailed()
      return await connection.executeQuery<R>(query)
    } catch (error) {
      if (this.#isInTransaction()) throw error
      await this.release()
      await this.#log.durable()
      throw error
    }
  }

  streamQuery<R>(query: CompiledQuery, chunkSize: number): AsyncIterableIterator<QueryResult<R>> {
    if (this.#connection === undefined) throw new Error('a stream needs a connection')
    return this.#connection.streamQuery(query, chunkSize)
  }

  async release(): Promise<void> {
    const connection = this.#connection
    this.#connection = undefined
    if (connection !== undefined) await this.#driver.releaseConnection(connection)
  }
}
