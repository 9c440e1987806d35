import type { CleanVolume, Edit, Medium, Scrubbed } from '../contract.ts'
import { applyEdits } from './apply.ts'
import { BitArray } from './bits.ts'
import { ATTRIBUTE, findAttribute, type Ntfs } from './model.ts'
import { NtfsReader } from './reader.ts'
import { scrubNtfs } from './scrub.ts'
import { checkHibernation, checkVolume } from './state.ts'
import { openNtfsModel } from './volume.ts'

/**
 * Opens an NTFS volume for cleaning. Refuses one that is hibernated, was not closed cleanly, is of another version than 3.0
 * and 3.1, is damaged or too large.
 */
export async function openNtfs(medium: Medium): Promise<CleanVolume> {
  const ntfs = await openNtfsModel(medium)
  const label = await checkVolume(ntfs)
  const reader = new NtfsReader(ntfs, label)
  const sleeper = await reader.find(['hiberfil.sys'])
  if (sleeper?.kind === 'file') {
    const data = findAttribute(await ntfs.readFile(sleeper.record), ATTRIBUTE.data)
    if (data !== undefined) await checkHibernation(ntfs, data)
  }
  const clusters = await ntfs.clusters()
  const freeClusters = new BitArray(clusters.bitCount, clusters.bytes).count(false)
  return {
    files: reader,
    sizeBytes: ntfs.geometry.sizeBytes,
    freeBytes: freeClusters * ntfs.geometry.clusterBytes,
    apply: async (edits: readonly Edit[]): Promise<void> => await applyEdits(ntfs, reader, edits),
    scrub: async (): Promise<Scrubbed> => await scrubFresh(ntfs.medium),
  }
}

/** Over what is on the medium by now: the model kept what was read before the edits. */
async function scrubFresh(medium: Medium): Promise<Scrubbed> {
  const ntfs: Ntfs = await openNtfsModel(medium)
  return await scrubNtfs(ntfs)
}
