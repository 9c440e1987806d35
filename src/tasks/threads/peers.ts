import { isFault } from '../../image/fault.ts'
import type { RegionId } from '../../image/ids.ts'
import { findChunkIn } from '../../store/peer-chunk.ts'
import type { RegionStore, Rescue } from '../../store/region.ts'
import { openRegion, type RegionPlace } from './region.ts'

/** A region that could not be opened is not asked again for so long: guests wait for the answer. */
const AWAY_MS = 30_000

/**
 * The other regions of the installation, as somebody to ask for chunks that are damaged here. Each is opened in this
 * thread when it is first needed. One that is away, or whose keys are not at hand, is passed over.
 */
export class Peers {
  readonly #places: readonly RegionPlace[]
  readonly #open: (place: RegionPlace) => Promise<RegionStore>
  readonly #clock: () => number
  readonly #stores = new Map<RegionId, Promise<RegionStore>>()
  readonly #awayUntilMs = new Map<RegionId, number>()

  constructor(
    places: readonly RegionPlace[],
    open: (place: RegionPlace) => Promise<RegionStore> = (place) => openRegion(place),
    clock: () => number = Date.now,
  ) {
    this.#places = places
    this.#open = open
    this.#clock = clock
  }

  /** The store of one region, shared; undefined while it cannot be opened. */
  async open(place: RegionPlace): Promise<RegionStore | undefined> {
    const { regionId } = place
    if (this.#clock() < (this.#awayUntilMs.get(regionId) ?? 0)) return undefined
    const store = this.#stores.get(regionId) ?? this.#open(place)
    this.#stores.set(regionId, store)
    try {
      return await store
    } catch (error) {
      this.#stores.delete(regionId)
      if (!isFault(error)) throw error
      this.#awayUntilMs.set(regionId, this.#clock() + AWAY_MS)
      return undefined
    }
  }

  /** For `RegionStoreOptions.rescue` of region `regionId`: the chunk from the first other region that has it whole. */
  rescueFor(regionId: RegionId): Rescue {
    return async (id) => {
      for (const place of this.#places) {
        if (place.regionId === regionId) continue
        const store = await this.open(place)
        // With the peer's own keys; whoever asked believes only what fits his.
        const found = store && (await findQuietly(store, id))
        if (found !== undefined) return found.plain
      }
      return undefined
    }
  }

  async close(): Promise<void> {
    const stores = [...this.#stores.values()]
    this.#stores.clear()
    for (const store of await Promise.allSettled(stores)) {
      if (store.status === 'fulfilled') store.value.close()
    }
  }
}

async function findQuietly(store: RegionStore, id: Uint8Array) {
  try {
    return await findChunkIn(store, id, (domain) => store.findDomain(domain))
  } catch (error) {
    if (isFault(error)) return undefined
    throw error
  }
}
