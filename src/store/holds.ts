import type { ObjectName } from '../objects/names.ts'
import type { Journal } from './journal.ts'
import type { ChunkHolder, Places } from './places.ts'

/**
 * What one session relies on, as one thread sees it: what it finds committed it pins, once per object. Everything that
 * a session finds here stays until the session ends.
 */
export class Holds {
  readonly #journal: Journal
  readonly #places: Places
  readonly #sessionId: string
  readonly #pinned = new Set<number>()

  constructor(journal: Journal, places: Places, sessionId: string) {
    this.#journal = journal
    this.#places = places
    this.#sessionId = sessionId
  }

  /**
   * The object in which the session may rely on finding the chunk; undefined if it has to store the chunk itself. Throws
   * Fault 'conflict' if the session has ended.
   */
  findChunk(id: Uint8Array): ChunkHolder | undefined {
    for (;;) {
      const found = this.#places.findHolder(id, this.#sessionId)
      // Where a pin comes too late the object was condemned, and the next look finds another one or none.
      if (found === undefined || !found.isCommitted || this.#pin(found.number)) return found
    }
  }

  /** As `findChunk` for each. */
  findChunks(ids: readonly Uint8Array[]): (ChunkHolder | undefined)[] {
    const all = this.#places.findHolders(ids, this.#sessionId)
    return ids.map((id, i) => {
      const found = all[i]
      return found === undefined || !found.isCommitted || this.#pin(found.number) ? found : this.findChunk(id)
    })
  }

  /** The number of an object that the session wrote or now relies on. Faults as `findChunk`. */
  findObject(name: ObjectName): number | undefined {
    for (;;) {
      const found = this.#journal.findObject(name, this.#sessionId)
      if (found === undefined) return undefined
      if (!found.isCommitted || this.#pin(found.number)) return found.number
    }
  }

  /** Throws Fault 'conflict' if the session has ended: then what it does not find may have been its own. */
  assertOpen(): void {
    this.#journal.assertOpen(this.#sessionId)
  }

  #pin(number: number): boolean {
    if (this.#pinned.has(number)) return true
    if (!this.#journal.pin(this.#sessionId, number)) return false
    this.#pinned.add(number)
    return true
  }
}
