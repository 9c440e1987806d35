import type { MakePlan } from '../guest/contract.ts'
import type { DiskFinding, SeenDisk } from '../guest/found-system.ts'
import type { CleanVolume, DiskLayout, FileSystem, Medium, Scrubbed } from '../volume/contract.ts'
import type { FileKind } from './kinds.ts'

/** A volume as it is opened; `needsReplay`: its journal is not played back yet, so it cannot be scrubbed. */
export type OpenedVolume = CleanVolume & { readonly needsReplay?: boolean }

/** All that knows what is on disks, for the examiner. Everything of it expects hostile bytes. */
export interface Skills {
  readonly findVolumes: (medium: Medium) => Promise<DiskLayout>
  readonly open: (kind: FileKind, medium: Medium) => Promise<OpenedVolume>
  /** For reading alone: also of a volume that is dirty or hibernated, as it lies there. */
  readonly openFiles: (kind: FileKind, medium: Medium) => Promise<FileSystem>
  readonly scrubSwap: (medium: Medium) => Promise<Scrubbed>
  readonly makePlan: MakePlan
  readonly findOnDisk: (disk: SeenDisk) => Promise<DiskFinding>
}
