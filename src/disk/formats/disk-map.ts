import { Fault } from '../../image/fault.ts'
import { assertInside } from '../extents.ts'
import { type FileRun, NOWHERE, Runs } from './file-runs.ts'

/** Units whose places are read, and forgotten, together: one grain table of a VMDK. */
export const PAGE_UNITS = 512
/** 4 MiB of places. With the blocks that the tables are read in (2 MiB) all that a map holds, however large its disk is. */
const PAGES_MAX = 1024

/** The tables of one format: where in the file the equal units lie that its disk is cut into. The last one may be short. */
export interface UnitTable {
  readonly sizeBytes: number
  readonly unitBytes: number
  /**
   * Fills `places`, all NOWHERE, with the byte offsets of the units from `first` on, a multiple of PAGE_UNITS. Each place is
   * checked again: the unit lies inside the file and on no table. Throws `fileChanged` where one does not, and what the
   * source throws.
   */
  read(first: number, places: Float64Array): Promise<void>
}

/** What was accepted by an inspection and is no longer so: somebody writes to the file. */
export function fileChanged(): Fault {
  const message =
    'The tables of the file changed while it was imported. Import it again, and let nobody write to it.'
  return new Fault('conflict', message, { subject: 'file' })
}

/** Where the bytes of a disk lie in its file. Tables are read when they are first needed; the last ones are kept. */
export class DiskMap {
  readonly sizeBytes: number
  readonly #table: UnitTable
  readonly #unitCount: number
  /** In the order of their use, the latest last. Pages without data are one and the same. */
  readonly #pages = new Map<number, Float64Array>()
  readonly #loading = new Map<number, Promise<Float64Array>>()
  readonly #empty = new Float64Array(PAGE_UNITS).fill(NOWHERE)

  constructor(table: UnitTable) {
    this.sizeBytes = table.sizeBytes
    this.#table = table
    this.#unitCount = Math.ceil(table.sizeBytes / table.unitBytes)
  }

  /**
   * [offset, offset + lengthBytes) of the disk in order, without gaps, neighbours that follow each other merged. At once,
   * without a promise, where the tables are at hand. Throws as `UnitTable.read` does, and the signal's reason.
   */
  runs(
    offset: number,
    lengthBytes: number,
    signal?: AbortSignal,
  ): readonly FileRun[] | Promise<readonly FileRun[]> {
    assertInside(this.sizeBytes, offset, lengthBytes)
    const runs = new Runs()
    const end = offset + lengthBytes
    for (let at = offset; at < end; ) {
      const page = this.#keptPage(this.#pageIndex(at))
      if (page === undefined) return this.#runsFrom(runs, at, end, signal)
      at = this.#append(runs, page, at, end)
    }
    return runs.end()
  }

  async #runsFrom(
    runs: Runs,
    offset: number,
    end: number,
    signal: AbortSignal | undefined,
  ): Promise<readonly FileRun[]> {
    for (let at = offset; at < end; ) {
      signal?.throwIfAborted()
      const index = this.#pageIndex(at)
      // A page may be forgotten before the last of many is read: each is used as soon as it is there.
      at = this.#append(runs, this.#keptPage(index) ?? (await this.#loadPage(index)), at, end)
    }
    return runs.end()
  }

  /** Adds what the page has of [at, end); answers where that ends. */
  #append(runs: Runs, page: Float64Array, at: number, end: number): number {
    const { unitBytes } = this.#table
    const pageStart = this.#pageIndex(at) * PAGE_UNITS * unitBytes
    const stop = Math.min(end, pageStart + page.length * unitBytes)
    for (let from = at; from < stop; ) {
      const index = Math.floor((from - pageStart) / unitBytes)
      const unitStart = pageStart + index * unitBytes
      const to = Math.min(stop, unitStart + unitBytes)
      const place = page[index] ?? NOWHERE
      runs.add(to - from, place === NOWHERE ? NOWHERE : place + from - unitStart)
      from = to
    }
    return stop
  }

  #pageIndex(offset: number): number {
    return Math.floor(offset / this.#table.unitBytes / PAGE_UNITS)
  }

  #keptPage(index: number): Float64Array | undefined {
    const page = this.#pages.get(index)
    if (page === undefined) return undefined
    this.#pages.delete(index)
    this.#pages.set(index, page)
    return page
  }

  /** Once for all that ask for it at the same time. */
  #loadPage(index: number): Promise<Float64Array> {
    const loading = this.#loading.get(index) ?? this.#readPage(index)
    this.#loading.set(index, loading)
    return loading
  }

  async #readPage(index: number): Promise<Float64Array> {
    try {
      const first = index * PAGE_UNITS
      const places = new Float64Array(Math.min(PAGE_UNITS, this.#unitCount - first)).fill(NOWHERE)
      await this.#table.read(first, places)
      const isEmpty = places.length === PAGE_UNITS && places.every((place) => place === NOWHERE)
      const page = isEmpty ? this.#empty : places
      this.#pages.set(index, page)
      const oldest = this.#pages.size > PAGES_MAX ? this.#pages.keys().next() : undefined
      if (oldest !== undefined && oldest.done !== true) this.#pages.delete(oldest.value)
      return page
    } finally {
      this.#loading.delete(index)
    }
  }
}
