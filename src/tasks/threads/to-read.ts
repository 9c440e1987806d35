import type { Extent } from '../../disk/contract.ts'
import { changedOf, dataOfEither, intersect, without } from '../../disk/extents.ts'
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
  const changes = baseline?.changes
  const contexts = changes === undefined || changes === 'nothing' ? [] : [changes.name]
  const map = await openNbd({ ...source, exportName: source.mapName }, { signal, contexts })
  try {
    if (map.sizeBytes < source.sizeBytes) throw shrunk()
    const cleaned = await lookAtCleaned(source, signal)
    const data = async (runs: readonly Run[]) =>
      overlaid(await findData(map, source, runs, signal), runs, cleaned)
    if (baseline === undefined) return { runs: await data([whole(source)]), knownBytes: 0 }
    const image = await region.getImage(baseline.digest, signal)
    const before = image.disks[baseline.diskIndex]
    // Public chunks are every project's; those of another project would tell of it (I10).
    const isUsable = before !== undefined && (image.domain === domain || image.domain === PUBLIC_DOMAIN)
    const flags = isUsable
      ? await flagChanged(map, source, baseline.changes, disk, signal)
      : flagChunks([whole(source)], disk)
    addFlags(flags, cleaned.changed, disk)
    const knownBytes = isUsable ? await loadUnchanged(region, holds, before, disk, flags, signal) : 0
    return { runs: await data([...flaggedRuns(flags, disk)]), knownBytes }
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
  changes: NonNullable<SourceDisk['baseline']>['changes'],
  disk: KnownDisk,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const flags = flagChunks([], disk)
  if (changes === 'nothing') return flags
  const { name, most } = changes
  for (let look = 0; look < (isOneExport(source) ? 1 : 2); look++) {
    for (const { offset, lengthBytes } of spansOf(whole(source))) {
      addFlags(flags, changedOf(await map.statuses(name, offset, lengthBytes, signal), most), disk)
    }
  }
  return flags
}

/** What cleaning changed of a disk, and what of it may hold data now; both empty where it was not cleaned. */
async function lookAtCleaned(source: SourceDisk, signal: AbortSignal) {
  const changed: Extent[] = []
  const data: Extent[] = []
  if (source.cleaned === undefined) return { changed, data }
  const { changes } = source.cleaned
  const overlay = await openNbd(source.cleaned, { signal, contexts: [changes.name] })
  try {
    if (overlay.sizeBytes < source.sizeBytes) throw shrunk()
    for (const { offset, lengthBytes } of spansOf(whole(source))) {
      const found = changedOf(await overlay.statuses(changes.name, offset, lengthBytes, signal), changes.most)
      changed.push(...found)
      data.push(...intersect(await overlay.extents(offset, lengthBytes, signal), found))
    }
  } finally {
    await overlay.close()
  }
  return { changed, data }
}

/** The data of a disk under what cleaning laid over it: of `data`, which lies in `runs`, what it left, and what it wrote there. */
function overlaid(
  data: readonly Run[],
  runs: readonly Run[],
  cleaned: { readonly changed: readonly Extent[]; readonly data: readonly Extent[] },
): readonly Run[] {
  if (cleaned.changed.length === 0) return data
  const asData = ({ offset, lengthBytes }: Run): Extent => ({ offset, lengthBytes, holds: 'data' })
  const left = without(data.map(asData), cleaned.changed)
  return dataOfEither(left, intersect(cleaned.data, runs.map(asData)))
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
