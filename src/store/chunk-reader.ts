import type { PackId } from '../image/ids.ts'
import type { ChunkCache } from './cache.ts'
import { packName } from './names.ts'
import { mergeRanges, type PackRange, RANGE_LIMITS, type WantedChunk } from './ranges.ts'
import { openChunk, readChunk, type StoredPlace } from './read-chunk.ts'
import type { RegionStore } from './region.ts'
import type { PackRef } from './source.ts'

/** One read brings about eight chunks: enough to make its own cost small, little enough to be here soon. */
const RANGE_BYTES_MAX = 1024 * 1024
/** Chunks that are read and not yet decoded hold their range in memory, and the disk's readers share the machine. */
const AHEAD_COUNT_MAX = 64
/** So many chunks are decoded ahead at once: one would leave a core idle, more would keep those waiting who ask. */
const LANE_COUNT = 2

export interface WantedId {
  readonly id: Uint8Array
  /** The id as text. */
  readonly key: string
}

/** A chunk that is read ahead and nobody has decoded yet. `take` does. */
interface AheadChunk extends WantedId {
  readonly take: () => Promise<Buffer>
}

/**
 * The chunks of one region, through a cache that other regions may share, and read ahead on request. What is asked for
 * goes before what is only expected. Usable in any thread.
 */
export class ChunkReader {
  readonly #region: RegionStore
  readonly #sessionId: string
  readonly #cache: ChunkCache
  readonly #ahead = new Map<string, AheadChunk>()
  #laneCount = 0

  constructor(region: RegionStore, sessionId = '', cache: ChunkCache = region.cache) {
    this.#region = region
    this.#sessionId = sessionId
    this.#cache = cache
  }

  /** The chunk if it is here, without waiting. Its bytes are shared: never write to them. */
  find(key: string): Buffer | undefined {
    return this.#cache.find(key)
  }

  /** The checked chunk. Faults as `readChunk`. */
  get({ id, key }: WantedId): Promise<Buffer> {
    return this.#cache.get(key, () => this.#load(id, key))
  }

  /**
   * Begins to read chunks that will soon be wanted, in the order given, several with one read. What fails is left to
   * whoever asks for it.
   */
  expect(wanted: readonly WantedId[]): void {
    const places: StoredPlace[] = []
    const ids: WantedId[] = []
    const packs = new Map<PackId, PackRef>()
    const chunks: WantedChunk[] = []
    for (const each of wanted) {
      if (this.#ahead.size + chunks.length >= AHEAD_COUNT_MAX) break
      if (this.#ahead.has(each.key) || this.#cache.has(each.key)) continue
      const place = this.#region.places.find(each.id, this.#sessionId)[0]
      if (place === undefined) continue
      const pack = packs.get(place.pack) ?? { id: place.pack, domain: place.domain }
      packs.set(place.pack, pack)
      chunks.push({ pack, offset: place.offset, storedBytes: place.storedBytes, position: places.length })
      places.push(place)
      ids.push({ key: each.key, id: Buffer.from(each.id) })
    }
    for (const range of mergeRanges(chunks, { ...RANGE_LIMITS, rangeBytesMax: RANGE_BYTES_MAX })) {
      const read = onceRead(this.#region, range)
      for (const { position, offset, storedBytes } of range.chunks) {
        const place = places[position] as StoredPlace
        const { id, key } = ids[position] as WantedId
        const take = async () => {
          const at = offset - range.offset
          const stored = (await read())?.subarray(at, at + storedBytes)
          const domain = await this.#region.getDomain(place.domain)
          const plain = stored && (await openChunk(stored, place, id, domain))
          // Whatever was wrong: the chunk may be whole in another place, and else the fault says what is not.
          return plain ?? readChunk(this.#region, id, this.#sessionId)
        }
        this.#ahead.set(key, { id, key, take })
      }
    }
    while (this.#laneCount < Math.min(LANE_COUNT, this.#ahead.size)) void this.#runLane()
  }

  /** Forgets what is expected and not yet begun. */
  close(): void {
    this.#ahead.clear()
  }

  #load(id: Uint8Array, key: string): Promise<Buffer> {
    const ahead = this.#ahead.get(key)
    if (ahead === undefined) return readChunk(this.#region, id, this.#sessionId)
    this.#ahead.delete(key)
    return ahead.take()
  }

  async #runLane(): Promise<void> {
    this.#laneCount++
    for (let next = firstOf(this.#ahead); next !== undefined; next = firstOf(this.#ahead)) {
      await this.get(next).catch(() => {})
      this.#ahead.delete(next.key)
      // Decoding takes this thread a quarter of a millisecond: the sockets get their turn in between.
      await new Promise(setImmediate)
    }
    this.#laneCount--
  }
}

function firstOf(ahead: ReadonlyMap<string, AheadChunk>): AheadChunk | undefined {
  return ahead.values().next().value
}

/** Reads the range when it is first asked for, and never again; undefined if it cannot be read. */
function onceRead(region: RegionStore, range: PackRange): () => Promise<Buffer | undefined> {
  let reading: Promise<Buffer | undefined> | undefined
  return () => {
    reading ??= region.objects
      .get(packName(range.pack.id), range.offset, range.lengthBytes)
      .catch(() => undefined)
    return reading
  }
}
