import type { CleaningReport, CleaningWish } from '../image/cleaning.ts'
import type { TaskParts } from './parts.ts'
import type { StepContext } from './runner.ts'
import type { SourceDisk } from './store-jobs.ts'

type CleanContext = Pick<StepContext<never>, 'id' | 'phase' | 'signal'>

/**
 * The disks without users' private data, and the report of it. Whoever asks closes with the task's id,
 * whatever comes. Faults of `Cleaner.clean`.
 */
export async function cleanDisks(
  { cleaner }: Pick<TaskParts, 'cleaner'>,
  { id, phase, signal }: CleanContext,
  sources: readonly SourceDisk[],
  wish: CleaningWish,
): Promise<{ readonly disks: readonly SourceDisk[]; readonly report: CleaningReport }> {
  const disks = sources.map(({ sizeBytes, socketPath, exportName }) => ({
    sizeBytes,
    socketPath,
    exportName,
  }))
  const onPhase = (name: string) => void phase(`clean: ${name}`).catch(() => {})
  const cleaned = await cleaner.clean({ key: id, disks, wish, isDryRun: false }, onPhase, signal)
  return {
    disks: sources.map((source, i) => {
      const overlay = cleaned.disks[i]
      if (overlay === undefined) throw new Error('every disk has an overlay')
      return { ...source, cleaned: overlay }
    }),
    report: cleaned.report,
  }
}

/** What it would take out. Whoever asks closes with the task's id all the same: its turn is kept. Faults of `Cleaner.clean`. */
export async function planCleaning(
  { cleaner }: Pick<TaskParts, 'cleaner'>,
  { id, phase, signal }: CleanContext,
  sources: readonly SourceDisk[],
  wish: CleaningWish,
): Promise<CleaningReport> {
  const disks = sources.map(({ sizeBytes, socketPath, exportName }) => ({
    sizeBytes,
    socketPath,
    exportName,
  }))
  const onPhase = (name: string) => void phase(`clean: ${name}`).catch(() => {})
  return (await cleaner.clean({ key: id, disks, wish, isDryRun: true }, onPhase, signal)).report
}
