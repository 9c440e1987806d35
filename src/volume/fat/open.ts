import type { CleanVolume, Medium } from '../contract.ts'
import { damaged, refuse } from '../refuse.ts'
import { applyToFat } from './edit.ts'
import { FatFiles } from './files.ts'
import { type FatGeometry, readFatGeometry } from './geometry.ts'
import { scrubFat } from './scrub.ts'
import { FatTable } from './table.ts'
import { FatTree, ROOT } from './tree.ts'

/** A FAT12, FAT16 or FAT32 volume. Throws refusals 'damaged', 'unsupported' and 'too-large'. */
export async function openFat(medium: Medium): Promise<CleanVolume> {
  const geometry = readFatGeometry(await medium.read(0, Math.min(512, medium.sizeBytes)))
  if (geometry === undefined) throw damaged('its boot sector is not that of a FAT volume')
  if (geometry.sizeBytes > medium.sizeBytes) throw damaged('a FAT volume is larger than its partition')
  if (!geometry.isMirrored) {
    throw refuse(
      'unsupported',
      'A FAT volume keeps its tables apart, which is not cleaned. Format it anew inside the machine, then try again.',
    )
  }
  const table = await FatTable.read(medium, geometry)
  const tree = await FatTree.survey(medium, table)
  const root = await tree.directory(ROOT)
  const label = root.entries.find(({ kind }) => kind === 'label')?.name ?? geometry.label
  return {
    files: new FatFiles(tree, label),
    sizeBytes: geometry.sizeBytes,
    freeBytes: table.freeCount * geometry.clusterBytes,
    apply: async (edits) => {
      for (const edit of edits) await applyToFat(tree, edit)
      await table.flush()
      if (edits.length > 0) await writeFreeCount(medium, geometry, table.freeCount)
    },
    scrub: () => scrubFat(tree),
  }
}

const INFO_SIGNATURES = [
  [0, 0x41615252],
  [484, 0x61417272],
] as const

/** FAT32 counts its free clusters in a sector of its own, whose signatures tell whether it is one. */
async function writeFreeCount(medium: Medium, { infoOffset }: FatGeometry, freeCount: number): Promise<void> {
  if (infoOffset === 0) return
  const sector = await medium.read(infoOffset, 512)
  if (INFO_SIGNATURES.some(([at, signature]) => sector.readUInt32LE(at) !== signature)) return
  sector.writeUInt32LE(freeCount, 488)
  await medium.write(infoOffset, sector)
}
