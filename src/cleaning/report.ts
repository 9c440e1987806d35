import { readFileSync } from 'node:fs'
import type { CleaningPlan } from '../guest/contract.ts'
import type { CleaningReport, CleaningWish, ReportedVolume } from '../image/cleaning.ts'
import type { Fault } from '../image/fault.ts'
import { refuse } from '../volume/refuse.ts'
import type { ScrubAnswer } from './examiner-words.ts'
import type { Survey } from './survey.ts'

export interface ReportParts {
  readonly wish: CleaningWish
  readonly isDryRun: boolean
  readonly madeAtMs: number
  readonly durationMs: number
  readonly tools: Readonly<Record<string, string>>
  readonly phases: Readonly<Record<string, number>>
  readonly survey: Survey
  readonly plan: CleaningPlan
  /** Absent for a dry run. */
  readonly scrubbed?: ScrubAnswer
}

const REPORT_BYTES_MAX = 8 * 1024 * 1024

/** Puts together what was found, planned and done. Refuses 'too-large' what no image can carry. */
export function makeReport(parts: ReportParts): CleaningReport {
  const { survey, plan, scrubbed } = parts
  const places = new Map<number, ReportedVolume['scrubbed']>(
    scrubbed?.volumes.map(({ volume, places: of }) => [volume, of]),
  )
  const volumes = survey.reported(places)
  const gapBytes = scrubbed?.gapBytes ?? 0
  const gone = plan.removed.filter(({ how }) => how === 'removed' || how === 'emptied')
  const scrubbedBytes = sum(volumes.flatMap((one) => one.scrubbed.map(({ bytes }) => bytes)))
  const report: CleaningReport = {
    version: 1,
    isDryRun: parts.isDryRun,
    madeAt: new Date(parts.madeAtMs).toISOString(),
    durationMs: parts.durationMs,
    wish: parts.wish,
    tools: parts.tools,
    volumes,
    gapBytes,
    removed: plan.removed,
    kept: plan.kept,
    secrets: plan.secrets,
    warnings: [...survey.warnings(), ...plan.warnings],
    removedFileCount: sum(gone.map(({ fileCount }) => fileCount)),
    removedBytes: sum(gone.map(({ bytes }) => bytes)),
    scrubbedBytes: scrubbedBytes + gapBytes,
    phases: parts.phases,
  }
  if (Buffer.byteLength(JSON.stringify(report)) > REPORT_BYTES_MAX) throw tooLong()
  return report
}

function tooLong(): Fault {
  const most = `${REPORT_BYTES_MAX / 1024 / 1024} MiB`
  const message = `The report of what is taken away would be longer than ${most}. Clean fewer disks at once, or choose fewer operations.`
  return refuse('too-large', message)
}

/** Of this program, as its package says. */
export function ownVersion(): string {
  const file = new URL('../../package.json', import.meta.url)
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, one) => total + one, 0)
}
