import type { Run, Scrubbed } from '../contract.ts'
import { Tally, wipe } from '../wipe.ts'
import { removedSlot, SLOT_BYTES } from './directory.ts'
import type { FatDirectory, FatTree } from './tree.ts'
import { ROOT } from './tree.ts'

const EMPTY_SLOT = Buffer.alloc(SLOT_BYTES)

/** See `CleanVolume.scrub`. */
export async function scrubFat(tree: FatTree): Promise<Scrubbed> {
  const { medium, table } = tree
  const tally = new Tally()
  tally.add(
    'free clusters',
    await wipe(
      medium,
      unowned(tree, (cluster) => table.isFree(cluster)),
    ),
  )
  // Marked as used or as bad, and reached by no name. They stay marked: a disk that is a file has no bad places to hide.
  tally.add(
    'lost clusters',
    await wipe(
      medium,
      unowned(tree, (cluster) => !table.isFree(cluster)),
    ),
  )
  for await (const directory of tree.directories(ROOT)) {
    tally.add('removed names', await scrubDirectory(tree, directory))
    for (const { kind, firstCluster, sizeBytes } of directory.entries) {
      if (kind === 'file')
        tally.add('cluster ends', await wipe(medium, inOrder(tree.runs(firstCluster, sizeBytes))))
    }
  }
  tally.add('table ends', await wipe(medium, tableEnds(tree)))
  const { dataOffset, clusterBytes, clusterCount } = tree.geometry
  const end = dataOffset + clusterCount * clusterBytes
  const behind = { offset: end, lengthBytes: medium.sizeBytes - end }
  tally.add('behind the file system', await wipe(medium, [behind]))
  return tally.scrubbed
}

/** A chain may go backwards. */
function inOrder(runs: Iterable<Run>): readonly Run[] {
  return [...runs].sort((a, b) => a.offset - b.offset)
}

/** Where the clusters lie that no name reaches. */
function* unowned(tree: FatTree, isMeant: (cluster: number) => boolean): Generator<Run> {
  const { clusterCount, clusterBytes } = tree.geometry
  let first: number | undefined
  for (let cluster = 2; cluster <= clusterCount + 2; cluster++) {
    const counts = cluster < clusterCount + 2 && !tree.isOwned(cluster) && isMeant(cluster)
    if (counts && first === undefined) first = cluster
    if (counts || first === undefined) continue
    yield { offset: tree.offsetOf(first), lengthBytes: (cluster - first) * clusterBytes }
    first = undefined
  }
}

/** Behind the last cluster's entry, in each copy. */
function* tableEnds(tree: FatTree): Generator<Run> {
  const { tableOffset, tableBytes, tableCount, clusterCount, bits } = tree.geometry
  const usedBytes = Math.ceil(((clusterCount + 2) * bits) / 8)
  for (let copy = 0; copy < tableCount; copy++) {
    yield { offset: tableOffset + copy * tableBytes + usedBytes, lengthBytes: tableBytes - usedBytes }
  }
}

/** Slots that no name uses lose all but the mark that they are free; behind the end mark all goes. How many bytes changed hands. */
async function scrubDirectory(tree: FatTree, directory: FatDirectory): Promise<number> {
  const { bytes, entries, endSlot } = directory
  const used = new Set<number>()
  for (const { firstSlot, lastSlot } of entries) {
    for (let slot = firstSlot; slot <= lastSlot; slot++) used.add(slot)
  }
  let scrubbedBytes = 0
  for (let slot = 0; slot < bytes.length / SLOT_BYTES; slot++) {
    if (used.has(slot)) continue
    const wanted = slot < endSlot ? removedSlot() : EMPTY_SLOT
    const here = bytes.subarray(slot * SLOT_BYTES, (slot + 1) * SLOT_BYTES)
    if (here.equals(wanted)) continue
    here.set(wanted)
    await tree.writeSlots(directory, slot, slot)
    scrubbedBytes += SLOT_BYTES
  }
  return scrubbedBytes
}
