import type { CaptureReport } from '../app/contract.ts'
import type { CleaningSummary } from '../image/cleaning.ts'
import type { ShownTask } from '../wire/native/show.ts'
import { describeSummary, formatCleaning } from './cleaning-report.ts'
import { formatFacts } from './facts.ts'
import { CommandFailure, EXIT } from './failure.ts'
import { formatBytes, formatMilliseconds, printable } from './format.ts'
import type { Session } from './session.ts'

type Way = CaptureReport['disks'][number]['way']

const WAYS: Readonly<Record<Way, string>> = {
  changes: 'its changes',
  own: 'its own writes',
  all: 'everything',
}
const wayOf = (way: string): string => WAYS[way as Way] ?? way

function quotaText({ chargedBytes, quotaBytes }: CaptureReport): string {
  const charged = formatBytes(chargedBytes)
  return quotaBytes === null
    ? `none; ${charged} are charged`
    : `${charged} of ${formatBytes(quotaBytes)} are charged`
}

const looked = (bytes: number | null): string => (bytes === null ? 'not looked at' : formatBytes(bytes))

/** 'crash: the guest agent does not answer', or the bare level where it is the most there is. */
function consistencyText(level: string, why: string): string {
  return why === '' ? level : `${level}: ${printable(why)}`
}

/** What a capture would do. Throws CommandFailure if anything blocks it. */
export function printReport(session: Session, report: CaptureReport): void {
  session.print(report, () => {
    const disks = session.table<CaptureReport['disks'][number]>(
      [
        { head: 'DISK', align: 'right', of: (disk) => String(disk.index) },
        { head: 'ID', of: (disk) => disk.id },
        { head: 'SIZE', align: 'right', of: (disk) => formatBytes(disk.sizeBytes) },
        { head: 'BUS', of: (disk) => disk.bus },
        { head: 'TO READ', align: 'right', of: (disk) => looked(disk.readBytes) },
        { head: 'WAY', of: (disk) => wayOf(disk.way) },
        { head: 'WHY', of: (disk) => disk.why },
      ],
      report.disks,
      'No disks.',
    )
    const { logicalBytes, readBytes, dataBytes, newBytes, freeBytes } = report
    const facts = formatFacts([
      [
        'to read',
        readBytes === null ? looked(null) : `${formatBytes(readBytes)} of ${formatBytes(logicalBytes)}`,
      ],
      [
        'image',
        dataBytes === null ? looked(null) : `holds ${formatBytes(dataBytes)} at most, and is charged no more`,
      ],
      ['new', newBytes === null ? looked(null) : `${formatBytes(newBytes)} to the store, before compression`],
      ['consistency', consistencyText(report.consistency, report.consistencyWhy)],
      ['space', freeBytes === null ? 'not known' : `${formatBytes(freeBytes)} free in the region`],
      ['quota', quotaText(report)],
    ])
    const { cleaning, blockers } = report
    const told = cleaning === null ? '' : `\n${formatCleaning(session.table, cleaning)}\n`
    return `${disks}\n${facts}${told}${describeBlockers(blockers)}Nothing was made: this was a dry run.\n`
  })
  requireUnblocked(report.blockers)
}

export function describeBlockers(blockers: readonly string[]): string {
  return blockers.map((blocker) => `Blocked: ${printable(blocker)}\n`).join('')
}

/** Throws CommandFailure if anything is in the way of what a dry run was about. */
export function requireUnblocked({ length }: readonly string[]): void {
  if (length === 0) return
  const things = length === 1 ? 'one thing stands' : `${length} things stand`
  throw new CommandFailure(EXIT.fault, `The image could not be made as things are: ${things} in its way.`)
}

interface Captured {
  readonly disks?: readonly {
    readonly id: string
    readonly way: string
    readonly why: string
    readonly readBytes: number
  }[]
  readonly consistency?: string
  readonly consistencyWhy?: string
  readonly pausedMs?: number
  readonly frozenMs?: number
  readonly cleaning?: CleaningSummary
}

/** A reason is a sentence of its own, or nothing. */
const sentence = (why: string): string => (why === '' ? '' : ` ${printable(why)}`)

/** What a capture tells of itself when it is done: what was read and how, what the disks are worth, the guest's pause. */
export function describeCapture(task: ShownTask | undefined): string {
  const {
    disks = [],
    consistency,
    consistencyWhy = '',
    pausedMs = 0,
    frozenMs = 0,
    cleaning,
  } = (task?.output ?? {}) as Captured
  const read = disks.map(({ id, way, why, readBytes }) => {
    return `Disk ${id}: ${formatBytes(readBytes)} read, ${wayOf(way)}.${sentence(why)}\n`
  })
  const cleaned = cleaning === undefined ? '' : `Cleaned: ${describeSummary(cleaning)}.\n`
  if (consistency === undefined) return read.join('')
  const frozen = frozenMs > 0 ? `, its file systems were frozen for ${formatMilliseconds(frozenMs)}` : ''
  const paused = pausedMs > 0 ? ` The guest stood still for ${formatMilliseconds(pausedMs)}${frozen}.` : ''
  return `${read.join('')}Consistency: ${consistency}.${sentence(consistencyWhy)}${paused}\n${cleaned}`
}
