import type { CopySource, CopyWay } from '../image/copy.ts'
import type { Digest, ImageId, RegionId } from '../image/ids.ts'
import type { Made } from './image-row.ts'

/** What a 'copy-image' task is to do. */
export interface CopyInput {
  readonly imageId: ImageId
  readonly digest: Digest
  readonly source: CopySource
  readonly targetRegionId: RegionId
  readonly way: CopyWay
  /** The source's bytes that are not zero: its copy has as many. */
  readonly dataBytes: number
  /** Others of its batch fetch the same image at the same time. */
  readonly isShared: boolean
  readonly bytesPerSecond?: number
  /** In its batch: of copies that were asked for at once, the one with the least goes first. */
  readonly position?: number
}

/** The output of a copy that is done. */
export interface CopyOutput extends Made {
  readonly by: CopyWay
  readonly savedBytes: number
  /** How long bytes were fetched in the run that ended it; what `movedBytes` counts was moved in it. */
  readonly pullMs: number
}

/** As tasks of before there were peers and other ways keep it. */
export type OldCopyInput = Pick<CopyInput, 'imageId' | 'digest' | 'targetRegionId' | 'dataBytes'> & {
  readonly sourceRegionId: RegionId
}

export function copyInputOf(input: CopyInput | OldCopyInput): CopyInput {
  if ('source' in input) return input
  const { sourceRegionId, ...rest } = input
  const way = sourceRegionId === rest.targetRegionId ? 'reference' : 'pull'
  return { ...rest, source: { is: 'region', regionId: sourceRegionId }, way, isShared: false }
}

/** The source as one word, which two copies have alike only if they read from one place. */
export function sourceWord(source: CopySource): string {
  return source.is === 'region' ? source.regionId : `${source.peer}/${source.regionId}`
}
