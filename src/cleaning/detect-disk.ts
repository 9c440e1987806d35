import { type DiskFinding, readable, type SeenVolume } from '../guest/found-system.ts'
import type { FoundVolume, Medium } from '../volume/contract.ts'
import { slice } from '../volume/slice.ts'
import { isZeroBytes } from '../volume/wipe.ts'
import { unchanging } from './check-medium.ts'
import { isFileKind } from './kinds.ts'
import type { Skills } from './skills.ts'

/** Of the first sector, before the disk's signature and the table. */
const SECTOR_CODE_BYTES = 440
/** With its first sector a boot loader begins. */
const PARTITION_CODE_BYTES = 512

/** What system is on a disk, in the examiner. Changes nothing. A disk that cannot be understood at all says nothing. */
export async function detectDisk(medium: Medium, skills: Skills): Promise<DiskFinding> {
  const disk = unchanging(medium)
  const layout = await readable(() => skills.findVolumes(disk))
  if (layout === undefined) return { isSystem: false }
  const { scheme, volumes } = layout
  const seen: SeenVolume[] = []
  for (const found of volumes) seen.push(await seenAs(disk, found, skills))
  return await skills.findOnDisk({ scheme, hasCode: await hasCode(disk, SECTOR_CODE_BYTES), volumes: seen })
}

async function seenAs(disk: Medium, found: FoundVolume, skills: Skills): Promise<SeenVolume> {
  const { kind, title } = found
  const part = slice(disk, found)
  return {
    ...{ kind, title },
    hasCode: kind === 'boot-code' && (await hasCode(part, PARTITION_CODE_BYTES)),
    ...(isFileKind(kind) && { openFiles: () => skills.openFiles(kind, part) }),
  }
}

async function hasCode(medium: Medium, lengthBytes: number): Promise<boolean> {
  return !isZeroBytes(await medium.read(0, Math.min(lengthBytes, medium.sizeBytes)))
}
