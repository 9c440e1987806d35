import type { StatementSync } from 'node:sqlite'
import type { DomainId, PackId } from '../image/ids.ts'
import type { ObjectName } from '../objects/names.ts'
import { COMMITTED, guard, type IndexDatabase, STORED } from './database.ts'
import { hashOfName } from './names.ts'
import type { PackEntry } from './pack.ts'

/** Where a chunk is found. `crc32` is of the stored bytes. */
export interface ChunkPlace {
  readonly pack: PackId
  readonly domain: DomainId
  readonly offset: number
  readonly storedBytes: number
  readonly plainBytes: number
  readonly crc32: number
  /** False for a chunk that a session wrote and that only this session sees. */
  readonly isCommitted: boolean
}

/** The object that holds a chunk, by its number in the index. */
export interface ChunkHolder {
  readonly number: number
  /** False: this session wrote it. */
  readonly isCommitted: boolean
  readonly storedBytes: number
}

/** The chunk rows of the index, as one thread sees them. */
export class Places {
  readonly #database: IndexDatabase
  readonly #find: StatementSync
  readonly #first: StatementSync
  readonly #holder: StatementSync
  readonly #insert: StatementSync
  readonly #delete: StatementSync
  readonly #damaged: StatementSync

  constructor(database: IndexDatabase) {
    this.#database = database
    // Chunks of condemned objects and of those being removed are found by nobody.
    const visible = `(o.state = ${COMMITTED} OR EXISTS (
      SELECT 1 FROM sessionObject s WHERE s.session = ?2 AND s.object = o.number AND s.state = ${STORED}))`
    const places = `SELECT o.name, o.domain, c.offset, c.storedBytes, c.plainBytes, c.crc32, o.state
       FROM chunk c JOIN object o ON o.number = c.object WHERE c.id = ?1`
    this.#find = database.prepare(`${places} AND ${visible} ORDER BY o.state DESC, o.number`)
    this.#first = database.prepare(`${places} AND o.state = ${COMMITTED} ORDER BY c.object LIMIT 1`)
    this.#holder = database.prepare(
      `SELECT o.number, o.state, c.storedBytes FROM chunk c JOIN object o ON o.number = c.object
       WHERE c.id = ?1 AND ${visible} AND NOT EXISTS (
         SELECT 1 FROM damage d WHERE d.object = c.object AND d.chunk = c.id)
       ORDER BY o.state DESC, o.number LIMIT 1`,
    )
    this.#insert = database.prepare('INSERT OR IGNORE INTO chunk VALUES (?, ?, ?, ?, ?, ?)')
    this.#delete = database.prepare('DELETE FROM chunk WHERE id = ? AND object = ?')
    this.#damaged = database.prepare('SELECT 1 FROM damage WHERE object = ? LIMIT 1')
  }

  /** Every place of the chunk that everybody sees, and those that `sessionId` wrote; committed ones first. */
  find(id: Uint8Array, sessionId = ''): ChunkPlace[] {
    return guard(() => this.#find.all(id, sessionId).map(placeOf))
  }

  /** The first place that `find` answers without a session. */
  findFirst(id: Uint8Array): ChunkPlace | undefined {
    const row = guard(() => this.#first.get(id))
    return row === undefined ? undefined : placeOf(row)
  }

  /** The object in which `find` would look first, those left out where the chunk is known to be bad: for writers. */
  findHolder(id: Uint8Array, sessionId: string): ChunkHolder | undefined {
    const row = guard(() => this.#holder.get(id, sessionId))
    if (row === undefined) return undefined
    return {
      number: row.number as number,
      isCommitted: row.state === COMMITTED,
      storedBytes: row.storedBytes as number,
    }
  }

  /** As `findHolder` for each, all of one moment. */
  findHolders(ids: readonly Uint8Array[], sessionId: string): (ChunkHolder | undefined)[] {
    return this.#database.reading(() => ids.map((id) => this.findHolder(id, sessionId)))
  }

  /** True where something of the object is known to be bad. */
  isDamaged(object: number): boolean {
    return guard(() => this.#damaged.get(object)) !== undefined
  }

  /** Inside a transaction. Rows that are there already stay. */
  insert(packNumber: number, entries: readonly PackEntry[]): void {
    for (const { id, offset, storedBytes, plainBytes, crc32 } of entries) {
      this.#insert.run(id, packNumber, offset, storedBytes, plainBytes, crc32)
    }
  }

  /** Inside a transaction. */
  delete(packNumber: number, ids: readonly Uint8Array[]): void {
    for (const id of ids) this.#delete.run(id, packNumber)
  }
}

function placeOf(row: Record<string, unknown>): ChunkPlace {
  return {
    pack: hashOfName(row.name as ObjectName) as PackId,
    domain: row.domain as DomainId,
    offset: row.offset as number,
    storedBytes: row.storedBytes as number,
    plainBytes: row.plainBytes as number,
    crc32: row.crc32 as number,
    isCommitted: row.state === COMMITTED,
  }
}
