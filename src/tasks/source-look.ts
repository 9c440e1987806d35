import { Fault, isFault } from '../image/fault.ts'
import type { Digest, RegionId } from '../image/ids.ts'
import type { ObjectStore } from '../objects/contract.ts'
import { openObjects } from '../objects/open.ts'
import { findFlaw } from '../store/look.ts'
import type { RegionPlace } from './threads/region.ts'

/** Whoever asks for a copy waits for this: what is not answered by then is found out by the copy. */
const LOOK_MS_MAX = 5000

/** A look at an image before it is copied, by the thread that answers requests. */
export interface SourceLook {
  /**
   * Fault 'corrupt' 'image' reason 'damaged' for one that its region is seen or known not to have whole (`findFlaw`). Of a region
   * that does not answer, or not in time, nothing is said.
   */
  refuseDamaged(regionId: RegionId, digest: Digest): Promise<void>
}

export function createSourceLook(
  places: readonly Pick<RegionPlace, 'regionId' | 'objects' | 'indexPath'>[],
  lookMsMax = LOOK_MS_MAX,
): SourceLook {
  const opened = new Map<RegionId, Promise<ObjectStore>>()

  function objectsOf({ regionId, objects }: (typeof places)[number]): Promise<ObjectStore> {
    let store = opened.get(regionId)
    if (store === undefined) {
      // One try: a store that does not answer is no reason to refuse, so there is nothing to wait for.
      store = openObjects(objects, { clean: false, attemptsMax: 1 })
      opened.set(regionId, store)
      store.catch(() => opened.delete(regionId))
    }
    return store
  }

  /** Those that ask at the same time are told the same. */
  const looking = new Map<string, Promise<string | undefined>>()

  async function lookOnce(place: (typeof places)[number], digest: Digest, signal: AbortSignal) {
    const key = `${place.regionId} ${digest}`
    let found = looking.get(key)
    if (found === undefined) {
      found = look(place, digest, signal).finally(() => looking.delete(key))
      looking.set(key, found)
    }
    return found
  }

  async function look(place: (typeof places)[number], digest: Digest, signal: AbortSignal) {
    try {
      return await findFlaw(await objectsOf(place), place.indexPath, digest, signal)
    } catch (error) {
      if (!isFault(error) && !signal.aborted) throw error
      return undefined
    }
  }

  return {
    async refuseDamaged(regionId, digest) {
      const place = places.find((one) => one.regionId === regionId)
      if (place === undefined) return
      const signal = AbortSignal.timeout(lookMsMax)
      // A folder of another machine may hang without regard to the signal.
      const late = Promise.withResolvers<undefined>()
      const stop = () => late.resolve(undefined)
      signal.addEventListener('abort', stop, { once: true })
      const flaw = await Promise.race([lookOnce(place, digest, signal), late.promise])
      signal.removeEventListener('abort', stop)
      if (flaw === undefined) return
      throw new Fault(
        'corrupt',
        `The image is damaged in region ${regionId}, so it cannot be copied from there. ${flaw} ` +
          'Copy it from another region that has it, or have this one repaired (`calotype store scrub`) and ask again.',
        { subject: 'image', reason: 'damaged' },
      )
    },
  }
}
