import type { StatementSync } from 'node:sqlite'
import type { ObjectName } from '../objects/names.ts'
import { COMMITTED, guard, type IndexDatabase } from './database.ts'

/** What is known to be wrong with a committed object: with one chunk of it, or with the object as a whole. */
export interface DamageRow {
  /** The object's number in the index. */
  readonly object: number
  readonly name: ObjectName
  readonly chunk: Buffer | undefined
  readonly message: string
  readonly atMs: number
}

/** `chunk` is left out where the object as a whole is meant. */
export interface DamageFinding {
  readonly chunk?: Uint8Array
  readonly message: string
}

/** Stands for 'the object as a whole' in the table, whose key may not be null. */
const WHOLE = new Uint8Array(0)
/** How long a reader that met damage waits for the index: a guest waits for the reader. */
const SOFT_WAIT_MS = 100
const WAIT_MS = 30_000

const listeners = new WeakMap<IndexDatabase, () => void>()

/** `listener` is called when a reader of this store has met damage that was not listed before. */
export function onDamage({ database }: { readonly database: IndexDatabase }, listener: () => void): void {
  listeners.set(database, listener)
}

/**
 * The list of what is damaged in one region and not mended yet. A row lives as long as its object is in the index; one whose
 * object was condemned is not shown any more, but comes back if a writer makes the object its own again.
 */
export class Damage {
  readonly #database: IndexDatabase
  readonly #add: StatementSync
  readonly #list: StatementSync
  readonly #has: StatementSync
  readonly #forget: StatementSync

  constructor(database: IndexDatabase) {
    this.#database = database
    // Only what is committed at this moment: who saw an object missing may have seen a collection take it away.
    this.#add = database.prepare(
      `INSERT OR IGNORE INTO damage SELECT number, ?2, ?3, ?4 FROM object WHERE name = ?1 AND state = ${COMMITTED}`,
    )
    this.#list = database.prepare(
      `SELECT d.object, o.name, d.chunk, d.message, d.atMs FROM damage d JOIN object o ON o.number = d.object
       WHERE o.state = ${COMMITTED} ORDER BY d.object, d.chunk`,
    )
    this.#has = database.prepare('SELECT 1 FROM damage WHERE object = ? AND chunk = ?')
    this.#forget = database.prepare('DELETE FROM damage WHERE object = ? AND chunk = ?')
  }

  /** Adds what is not listed yet; nothing for an object that is not committed. True if something was new. */
  note(name: ObjectName, findings: readonly DamageFinding[], atMs: number): boolean {
    return this.#database.transaction(() => this.#addAll(name, findings, atMs))
  }

  /**
   * As `note`, for a reader: an index that is busy, full or read-only is no reason to fail, the next reader or scrub
   * finds the same damage again. Tells the listener of the store.
   */
  noteSoftly(name: ObjectName, findings: readonly DamageFinding[], atMs: number): void {
    try {
      this.#setWait(SOFT_WAIT_MS)
      try {
        // Row by row and not in a transaction, which would wait for its turn as long as it takes.
        if (!this.#addAll(name, findings, atMs)) return
      } finally {
        this.#setWait(WAIT_MS)
      }
    } catch {
      return
    }
    listeners.get(this.#database)?.()
  }

  #addAll(name: ObjectName, findings: readonly DamageFinding[], atMs: number): boolean {
    let count = 0
    for (const { chunk, message } of findings) {
      count += Number(this.#add.run(name, chunk ?? WHOLE, message, atMs).changes)
    }
    return count > 0
  }

  /** Everything listed of committed objects, an object's rows together, the one of the whole object first. */
  list(): DamageRow[] {
    return guard(() => this.#list.all()).map((row) => {
      const chunk = row.chunk as Uint8Array
      return {
        object: row.object as number,
        name: row.name as ObjectName,
        chunk: chunk.length === 0 ? undefined : Buffer.from(chunk),
        message: row.message as string,
        atMs: row.atMs as number,
      }
    })
  }

  /** Takes off the list: one chunk, or what was said of the object as a whole. */
  forget(object: number, chunk: Uint8Array = WHOLE): void {
    this.#database.transaction(() => this.#forget.run(object, chunk))
  }

  /** True if the object is said to be damaged as a whole. */
  isListed(object: number): boolean {
    return guard(() => this.#has.get(object, WHOLE)) !== undefined
  }

  #setWait(ms: number): void {
    this.#database.prepare(`PRAGMA busy_timeout = ${ms}`).get()
  }
}
