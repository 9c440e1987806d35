import type { Catalog } from '../catalog/contract.ts'
import type { Cleaner } from '../cleaning/contract.ts'
import type { Host } from '../host/contract.ts'
import type { CleaningReport, SignedReport } from '../image/cleaning.ts'
import type { Digest, RegionId } from '../image/ids.ts'
import type { Fetcher, FormatReader } from '../intake/contract.ts'
import type { FileExports } from './file-exports.ts'
import type { SourceSeal } from './source-seal.ts'
import type { StoreJobs } from './store-jobs.ts'

/** What the long verbs are made from. */
export interface TaskParts {
  readonly catalog: Catalog
  readonly host: Host
  readonly jobs: StoreJobs
  readonly cleaner: Cleaner
  /** With the key of the installation. */
  readonly sign: (report: CleaningReport) => SignedReport
  readonly clock: () => number
  /** Where our NBD server answers for images. */
  readonly nbdSocketPath: string
  readonly importDirectory: string
  /** Bringing files in. */
  readonly intake: Intake
  readonly copies: CopyPace & {
    /** How often one is tried while its stores or its peer do not answer. */
    readonly attempts: number
  }
}

/** What bounds how fast copies go. */
export interface CopyPace {
  /** So many move bytes at once. */
  readonly atOnce: number
  /** Bytes a second of all copies into a region, and of all out of it; undefined for any number. */
  readonly limitOf: (regionId: RegionId) => number | undefined
}

export interface Intake {
  readonly reader: FormatReader
  readonly rawFiles: FileExports
  readonly fetcher: Pick<Fetcher, 'open'>
  readonly seal: SourceSeal
  /** As a guest sees one disk. */
  readonly diskBytesMax: number
  /** How many times more may come out of a packed file than there is of it. */
  readonly ratioMax: number
  readonly fetchMs: number
  /** Hex of the Ed25519 keys whose bundles are believed beside our own. */
  readonly signers: readonly string[]
}

/** The NBD export of one disk of an image: everything that is needed to find its bytes is in the name. */
export function exportNameOf(regionId: RegionId, digest: string, diskIndex: number): string {
  return `${regionId}/${digest}/${diskIndex}`
}

/** The image behind such a name, if it is one of that region. */
export function digestOfExport(name: string, regionId: RegionId): Digest | undefined {
  const [region, digest, index, ...more] = name.split('/')
  const isOne = region === regionId && index !== undefined && more.length === 0
  return isOne && /^[0-9a-f]{64}$/.test(digest ?? '') ? (digest as Digest) : undefined
}
