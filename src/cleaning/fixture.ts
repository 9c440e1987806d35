import type { FoundSystem } from '../guest/found-system.ts'
import type { CleaningReport } from '../image/cleaning.ts'
import type { Cleaned, Cleaner, CleanRequest } from './contract.ts'

/** What a cleaning that found one user tells. */
export function reportOf({ wish, isDryRun }: Pick<CleanRequest, 'wish' | 'isDryRun'>): CleaningReport {
  const where = { diskIndex: 0, partition: 1, title: 'NTFS', label: 'Windows', sizeBytes: 2 ** 30 }
  const part = { name: 'Documents', fileCount: 2, bytes: 4096 }
  return {
    ...{ version: 1, isDryRun, madeAt: '2026-01-02T03:04:05.000Z', durationMs: 1234, wish },
    tools: { calotype: '0.1.0' },
    volumes: [
      {
        ...{ ...where, outcome: 'cleaned', why: '' },
        scrubbed: [{ what: 'free clusters', count: 3, bytes: 65536 }],
      },
    ],
    gapBytes: 512,
    removed: [
      {
        ...{ volume: 0, path: '\\Users\\alice', operation: 'profiles', how: 'removed' },
        ...{ fileCount: 3, directoryCount: 2, bytes: 5000, parts: [part] },
      },
    ],
    kept: [{ volume: 0, path: '\\Users\\Public', why: 'kept by rule' }],
    secrets: [],
    warnings: [],
    ...{ removedFileCount: 3, removedBytes: 5000, scrubbedBytes: 66048, phases: { look: 10, scrub: 20 } },
  }
}

/** A cleaner that only remembers. */
export class FakeCleaner implements Cleaner {
  readonly cleaned: CleanRequest[] = []
  /** Keys that nobody closed. */
  readonly open = new Set<string>()
  /** Keys whose turn it is. */
  readonly entered = new Set<string>()
  /** Awaited inside the calls. */
  gate: () => Promise<void> = async () => {}

  /** What `detect` answers. */
  found: FoundSystem = {}

  async detect(): Promise<FoundSystem> {
    return this.found
  }

  async enter(key: string, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    this.entered.add(key)
  }

  async clean(
    request: CleanRequest,
    onPhase: Parameters<Cleaner['clean']>[1],
    signal: AbortSignal,
  ): Promise<Cleaned> {
    this.cleaned.push(request)
    onPhase('look')
    await this.gate()
    signal.throwIfAborted()
    if (!request.isDryRun) this.open.add(request.key)
    const changes = { name: 'qemu:allocation-depth', most: 1 }
    const disks = request.isDryRun
      ? []
      : request.disks.map((_disk, i) => ({ socketPath: '', exportName: `cleaned-${i}`, changes }))
    return { disks, report: reportOf(request) }
  }

  async close(key: string): Promise<void> {
    this.open.delete(key)
    this.entered.delete(key)
  }

  async closeAll(): Promise<void> {
    this.open.clear()
    this.entered.clear()
  }
}
