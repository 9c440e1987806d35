import type { ObjectStore } from './contract.ts'
import { openDirectoryObjects } from './directory.ts'
import { LimitedObjects, newLimitMemory } from './limit.ts'
import { RetryingObjects } from './retry.ts'

export interface ObjectsLimits {
  /** Calls at once, of all threads together once they share. */
  readonly callsMax?: number
  /** Each way, likewise. */
  readonly bytesPerSecond?: number
  /** See `shareLimits`. */
  readonly memory?: SharedArrayBuffer
}

/** Where a store's objects are, as it crosses threads. May hold a secret: never log it whole. */
export type ObjectsPlace =
  | { readonly kind: 'directory'; readonly folder: string; readonly limits?: ObjectsLimits }
  | {
      readonly kind: 's3'
      /** `http://HOST:PORT` or `https://…`. */
      readonly endpoint: string
      readonly region: string
      readonly bucket: string
      /** Before every name, without '/' at its ends; '' for the whole bucket. */
      readonly prefix: string
      readonly isPathStyle: boolean
      readonly accessKeyId: string
      readonly secretAccessKey: string
      readonly limits?: ObjectsLimits
    }

/** The place with memory in which all threads that get it count together. Once for each place and process. */
export function shareLimits(place: ObjectsPlace): ObjectsPlace {
  if (place.limits === undefined) return place
  return { ...place, limits: { ...place.limits, memory: newLimitMemory(place.limits) } }
}

/**
 * The store at `place` behind its limits; a bucket also behind the retries. `clean` removes what a crash left half
 * written: only for the first opener, before any other thread or process writes there; that is tried once. Who would
 * rather know soon than wait for a bucket that is away gives `attemptsMax`.
 */
export async function openObjects(
  place: ObjectsPlace,
  { clean, ...retries }: { readonly clean: boolean; readonly attemptsMax?: number },
): Promise<ObjectStore> {
  const { limits } = place
  const limit = (objects: ObjectStore) =>
    limits === undefined ? objects : new LimitedObjects(objects, limits)
  switch (place.kind) {
    case 'directory':
      return limit(await openDirectoryObjects({ folder: place.folder, clean }))
    case 's3': {
      // The client is large: a process without a bucket does not load it.
      const { openS3Objects } = await import('./s3.ts')
      const connections = limits?.callsMax === undefined ? {} : { callsMax: limits.callsMax }
      return new RetryingObjects(limit(await openS3Objects({ ...place, clean, ...connections })), retries)
    }
    default:
      place satisfies never
      throw new Error('unreachable')
  }
}
