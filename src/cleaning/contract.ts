import type { FoundSystem } from '../guest/found-system.ts'
import type { ChangeContext } from '../host/contract.ts'
import type { CleaningReport, CleaningWish } from '../image/cleaning.ts'

export interface NbdExport {
  readonly socketPath: string
  readonly exportName: string
}

/** A disk to be cleaned, or looked at: an NBD export that nothing writes to. */
export interface CleanSource extends NbdExport {
  readonly sizeBytes: number
}

export interface CleanRequest {
  /** Letters and digits: the task's id. */
  readonly key: string
  /** All disks of one machine, the system disk first. */
  readonly disks: readonly CleanSource[]
  readonly wish: CleaningWish
  /** Only plans: what would be done is the report, nothing can be exported. */
  readonly isDryRun: boolean
}

/** A disk as it is once cleaned: a read-only NBD export. */
export interface CleanedDisk {
  readonly socketPath: string
  readonly exportName: string
  /** Of that export: only what it calls changed differs from the source. */
  readonly changes: ChangeContext
}

export interface Cleaned {
  /** In the order of the request; empty for a dry run. */
  readonly disks: readonly CleanedDisk[]
  readonly report: CleaningReport
}

export type CleaningPhase = 'look' | 'appliance' | 'plan' | 'edit' | 'scrub' | 'check'

/**
 * Takes private data out of disks, on throw-away overlays over read-only exports. Hostile disks are expected: they end in
 * a Fault 'conflict' subject 'volume' (see `src/volume/contract.ts`) within limits of processor, memory and time.
 */
export interface Cleaner {
  /**
   * Reads the disks, the system disk first, in an examiner of its own, and changes nothing. What cannot be read, a missing
   * tool or way to hold it too, answers less or {}; throws nothing but the signal's reason.
   */
  detect(disks: readonly CleanSource[], signal: AbortSignal): Promise<FoundSystem>
  /**
   * Waits for a turn to clean, as there are so many at a time, and keeps it for `key` until `close`. For before the disks are
   * opened, so that no running machine waits with its moment kept; `clean` does it itself where nobody did. Called again it
   * has its turn. Fault 'unavailable' for a missing tool; throws the signal's reason.
   */
  enter(key: string, signal: AbortSignal): Promise<void>
  /**
   * Resolves with the cleaned disks, whose exports stay until `close`. Whatever an earlier call with this key left is taken
   * away first. Faults: 'conflict' 'volume' for what cannot be cleaned, also when a secret is found and the wish refuses;
   * 'full' without room for the overlays; 'unavailable' for a missing tool or a source that went away. On any of them, and at
   * the signal, nothing is left but the turn of `enter`.
   */
  clean(request: CleanRequest, onPhase: (phase: CleaningPhase) => void, signal: AbortSignal): Promise<Cleaned>
  /** Takes exports, processes and files of `key` away, and gives its turn back. May be called for nothing, and again. */
  close(key: string): Promise<void>
  /** The same for every key, also those of an earlier process: for a start, before tasks are taken up. */
  closeAll(): Promise<void>
}
