import type { Rows } from '../catalog/contract.ts'
import type { CopySource, CopyWay } from '../image/copy.ts'
import { isFault } from '../image/fault.ts'
import type { Digest, RegionId } from '../image/ids.ts'
import { type CopyInput, type CopyOutput, copyInputOf, type OldCopyInput, sourceWord } from './copy-words.ts'
import { createGate } from './gates.ts'
import type { CopyPace } from './parts.ts'
import type { PullEstimate, StoreJobs } from './store-jobs.ts'

/**
 * Plans read maps and ask indexes, each in a thread of its own: so many at once whoever asks for them, and fewer of one source,
 * so that one that does not answer holds up no other.
 */
const planning = createGate(8, { placesEach: 4 })
/** Below this a copy says more of its start than of the way. */
const SAMPLE_BYTES_MIN = 8 * 1024 ** 2
/** So many of the last copies are looked through, for so many that say something. */
const READ_COUNT_MAX = 200
const SAMPLE_COUNT_MAX = 3

/** Stored bytes that will come into the target: of a rekeyed copy all, because no chunk has the id it had. */
export function neededBytes(way: CopyWay, { missingBytes, savedBytes, resumedBytes }: PullEstimate): number {
  switch (way) {
    case 'reference':
      return 0
    case 'pull':
      return missingBytes
    case 'rekey':
      return missingBytes + savedBytes + resumedBytes
    default:
      way satisfies never
      throw new Error(`no way: ${way}`)
  }
}

/** What a copy would move; `why` where the stores had something against it. */
export type Look =
  | { readonly moveBytes: number; readonly savedBytes: number; readonly why?: never }
  | { readonly why: string }

/**
 * What each copy would move, in the order of the targets. A fault of one is told of that one; 'unavailable' too, because a
 * plan is not tried again. Rejects only if the signal is aborted, or for a bug.
 */
export async function lookAtTargets(
  jobs: Pick<StoreJobs, 'planPull'>,
  { source, digest }: { readonly source: CopySource; readonly digest: Digest },
  targets: readonly { readonly regionId: RegionId; readonly way: CopyWay }[],
  signal: AbortSignal,
): Promise<readonly Look[]> {
  const look = async ({ regionId, way }: (typeof targets)[number]): Promise<Look> => {
    // The region that has the image lacks nothing of it.
    if (way === 'reference') return { moveBytes: 0, savedBytes: 0 }
    const leave = await planning.enter(signal, sourceWord(source))
    try {
      const estimate = await jobs.planPull({ source, targetRegionId: regionId, digest }, signal)
      const moveBytes = neededBytes(way, estimate)
      return { moveBytes, savedBytes: way === 'rekey' ? 0 : estimate.savedBytes }
    } catch (error) {
      signal.throwIfAborted()
      if (!isFault(error)) throw error
      return { why: error.message }
    } finally {
      leave()
    }
  }
  const looks = await Promise.allSettled(targets.map(look))
  return looks.map((one) => {
    if (one.status === 'rejected') throw one.reason
    return one.value
  })
}

/** Bytes a second that the last copies from there to here had; undefined where none was large enough to say. */
async function lastRate(rows: Rows, source: CopySource, regionId: RegionId, way: CopyWay) {
  const done = await rows
    .selectFrom('task')
    .select(['input', 'output'])
    .where('kind', '=', 'copy-image')
    .where('regionId', '=', regionId)
    .where('state', '=', 'done')
    .where('movedBytes', '>=', SAMPLE_BYTES_MIN)
    .orderBy('endedAtMs', 'desc')
    .limit(READ_COUNT_MAX)
    .execute()
  let [bytes, ms, count] = [0, 0, 0]
  for (const row of done) {
    const input = copyInputOf(JSON.parse(row.input) as CopyInput | OldCopyInput)
    const { movedBytes = 0, pullMs = 0 } = JSON.parse(row.output) as Partial<CopyOutput>
    // One with a limit of its own says how fast it was let be; one that a crash cut in two, little.
    if (input.bytesPerSecond !== undefined || input.way !== way) continue
    if (sourceWord(input.source) !== sourceWord(source)) continue
    if (pullMs <= 0 || movedBytes < SAMPLE_BYTES_MIN) continue
    bytes += movedBytes
    ms += pullMs
    count++
    if (count === SAMPLE_COUNT_MAX) break
  }
  return ms === 0 ? undefined : (bytes * 1000) / ms
}

/** The lowest of those that are known. */
function lowest(...rates: readonly (number | undefined)[]): number | undefined {
  const known = rates.filter((rate) => rate !== undefined)
  return known.length === 0 ? undefined : Math.min(...known)
}

/**
 * How long copies will take: each by itself at the last rate of its way or its limit, whichever is lower, and all of them, as
 * many at once as may be and through the one limit of their source. Null where nothing is known.
 */
export async function estimateCopies(
  rows: Rows,
  { atOnce, limitOf }: Pick<CopyPace, 'atOnce' | 'limitOf'>,
  source: CopySource,
  targets: readonly {
    readonly regionId: RegionId
    readonly way: CopyWay
    /** Null where it is not known. */
    readonly moveBytes: number | null
  }[],
  bytesPerSecond: number | undefined,
): Promise<{ readonly each: readonly (number | null)[]; readonly allMs: number | null }> {
  const sourceLimit = source.is === 'region' ? limitOf(source.regionId) : undefined
  const each: (number | null)[] = []
  for (const { regionId, way, moveBytes } of targets) {
    if (moveBytes === null || moveBytes === 0) {
      each.push(moveBytes)
      continue
    }
    const past = await lastRate(rows, source, regionId, way)
    const rate = lowest(past, bytesPerSecond, limitOf(regionId), sourceLimit)
    each.push(rate === undefined ? null : Math.ceil((moveBytes * 1000) / rate))
  }
  return { each, allMs: together(each, atOnce, sourceLimit, targets) }
}

/** The end of the last, where each takes the place that is free first. */
function together(
  each: readonly (number | null)[],
  atOnce: number,
  sourceLimit: number | undefined,
  targets: readonly { readonly moveBytes: number | null }[],
): number | null {
  const places: number[] = new Array(Math.max(1, Math.min(atOnce, each.length))).fill(0)
  for (const ms of each) {
    if (ms === null) return null
    const first = places.indexOf(Math.min(...places))
    places[first] = (places[first] ?? 0) + ms
  }
  const bytes = targets.reduce((sum, { moveBytes }) => sum + (moveBytes ?? 0), 0)
  const outMs = sourceLimit === undefined ? 0 : Math.ceil((bytes * 1000) / sourceLimit)
  return Math.max(outMs, ...places)
}
