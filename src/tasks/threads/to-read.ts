import type { Extent } from '../../disk/contract.ts'
import { changedOf, dataOfEither, intersect } from '../../disk/extents.ts'
import { type NbdClient, openNbd } from '../../disk/nbd-client.ts'
import { Fault } from '../../image/fault.ts'
import type { DomainId } from '../../image/ids.ts'
import { SECTOR_BYTES } from '../../image/region.ts'
import { addFlags, flagChunks, flaggedRuns, type KnownDisk, loadUnchanged } from '../../store/baseline.ts'
import type { Holds } from '../../store/holds.ts'
import { PUBLIC_DOMAIN } from '../../store/names.ts'
import type { RegionStore } from '../../store/region.ts'
import type { SourceDisk } from '../store-jobs.ts'

type Run = Pick<Extent, 'offset' | 'lengthBytes'>

export interface ToRead {
  /** In disk order; everything else is zero or known. */
  readonly runs: readonly Run[]
  /** Of what is known, the bytes that are not zero. */
  readonly knownBytes: number
}

/**
 * What of a disk has to be read: the chunks that may differ from its baseline, all where it has none, and of those what
 * is not zero for certain. Fills the disk's ids with what is known. With `holds`, in a session, that is relied on from
 * then on, and what is not there any more is read again. Fault 'absent' (subject 'image') if the baseline is gone.
 */
export async function findToRead(
  region: RegionStore,
  holds: Holds | undefined,
  domain: DomainId,
  source: SourceDisk,
  disk: KnownDisk,
  signal: AbortSignal,
): Promise<ToRead> {
  const { baseline } = source
  const contexts = baseline === undefined ? [] : [baseline.changes.name]
  const map = await openNbd({ ...source, exportName: source.mapName }, { signal, contexts })
  try {
    if (map.sizeBytes < source.sizeBytes) throw shrunk()
    if (baseline === undefined) {
      return { runs: await findData(map, source, [whole(source)], signal), knownBytes: 0 }
    }
    const image = await region.getImage(baseline.digest, signal)
    const before = image.disks[baseline.diskIndex]
    // Public chunks are every project's; those of another project would tell of it (I10).
    const isUsable = before !== undefined && (image.domain === domain || image.domain === PUBLIC_DOMAIN)
    const flags = isUsable
      ? await flagChanged(map, source, baseline.changes, disk, signal)
      : flagChunks([whole(source)], disk)
    const knownBytes = isUsable ? await loadUnchanged(region, holds, before, disk, flags, signal) : 0
    const data = await findData(map, source, [...flaggedRuns(flags, disk)], signal)
    return { runs: data, knownBytes }
  } finally {
    await map.close()
  }
}

const whole = ({ sizeBytes }: SourceDisk): Run => ({ offset: 0, lengthBytes: sizeBytes })

/** Asked of a disk at once: a client keeps that many runs at worst, and a disk in more pieces is no reason to fail. */
const SPAN_BYTES = 512 * 1024 * 1024

/** The chunks that may have changed. Two looks, where the host's contract wants two: what either calls so. */
async function flagChanged(
  map: NbdClient,
  source: SourceDisk,
  { name, most }: NonNullable<SourceDisk['baseline']>['changes'],
  disk: KnownDisk,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const flags = flagChunks([], disk)
  for (let look = 0; look < (isOneExport(source) ? 1 : 2); look++) {
    for (const { offset, lengthBytes } of spansOf(whole(source))) {
      addFlags(flags, changedOf(await map.statuses(name, offset, lengthBytes, signal), most), disk)
    }
  }
  return flags
}

/** The parts of `runs` that may hold data. */
async function findData(
  map: NbdClient,
  source: SourceDisk,
  runs: readonly Run[],
  signal: AbortSignal,
): Promise<readonly Run[]> {
  const look = async () => {
    const found: Extent[] = []
    for (const group of groupsOf(runs)) {
      const start = group[0]?.offset ?? 0
      const last = group.at(-1)
      const lengthBytes = last === undefined ? 0 : last.offset + last.lengthBytes - start
      const data = dataOfEither(await map.extents(start, lengthBytes, signal), [])
      for (const extent of intersect(data, group)) found.push(extent)
    }
    return found
  }
  const first = await look()
  if (isOneExport(source)) return dataOfEither(first, [])
  // A running guest may write between the two looks that make up one answer. What it writes over is kept before
  // it does, so that the second answer calls data what the first one missed.
  const second = await look()
  const data = await openNbd(source, { signal })
  try {
    // Fails if the snapshot broke meanwhile, and with it the map.
    await data.read(0, SECTOR_BYTES, signal)
  } finally {
    await data.close()
  }
  return dataOfEither(first, second)
}

function* spansOf({ offset, lengthBytes }: Run): Iterable<Run> {
  for (let at = 0; at < lengthBytes; at += SPAN_BYTES) {
    yield { offset: offset + at, lengthBytes: Math.min(SPAN_BYTES, lengthBytes - at) }
  }
}

/** Runs that lie near each other, to be asked about at once: thousands of questions would take longer than the reading. */
function* groupsOf(runs: readonly Run[]): Iterable<Extent[]> {
  let group: Extent[] = []
  for (const run of runs) {
    for (const { offset, lengthBytes } of spansOf(run)) {
      const start = group[0]?.offset ?? offset
      if (offset + lengthBytes - start > SPAN_BYTES && group.length > 0) {
        yield group
        group = []
      }
      group.push({ offset, lengthBytes, holds: 'data' })
    }
  }
  if (group.length > 0) yield group
}

const isOneExport = ({ mapName, exportName }: SourceDisk) => mapName === exportName

function shrunk(): Fault {
  return new Fault('unavailable', 'The disk is smaller than its machine says.', { subject: 'disk' })
}
