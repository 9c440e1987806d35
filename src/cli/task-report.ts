import type { ShownTask } from '../wire/native/show.ts'
import { copyColumns, describeLeft, describeSpeed, lastError } from './copy-progress.ts'
import { formatFacts } from './facts.ts'
import { formatBytes, formatDuration, formatTime } from './format.ts'
import type { Printer } from './session.ts'
import { stateColour } from './table.ts'

/** Tasks of all kinds as a table; on a narrow terminal with what says most of them. */
export function formatTasks(printer: Printer, tasks: readonly ShownTask[]): string {
  return printer.table<ShownTask>(
    [
      { head: 'TASK', of: (one) => one.id },
      { head: 'KIND', of: (one) => one.kind },
      { head: 'REGION', rank: 9, of: (one) => one.region },
      {
        head: 'STATE',
        of: (one) => (one.step === null ? one.state : `${one.state}: ${one.step}`),
        colour: (one) => stateColour(one.state),
      },
      { head: 'DONE', align: 'right', rank: 6, of: (one) => formatBytes(one.doneBytes) },
      { head: 'OF', align: 'right', rank: 5, of: (one) => formatBytes(one.totalBytes) },
      { head: 'RATE', align: 'right', rank: 4, of: describeSpeed },
      { head: 'LEFT', align: 'right', rank: 7, of: describeLeft },
      {
        head: 'SAVED',
        align: 'right',
        rank: 0,
        of: (one) => (one.savedBytes === 0 ? '' : formatBytes(one.savedBytes)),
      },
      {
        head: 'TRIES',
        align: 'right',
        rank: 1,
        of: (one) => (one.attemptCount > 1 ? String(one.attemptCount) : ''),
      },
      { head: 'ABOUT', rank: 2, of: (one) => one.imageId ?? one.snapshotId ?? one.machineId ?? '' },
      { head: 'CREATED (UTC)', rank: 3, of: (one) => formatTime(one.createdAtMs) },
      // What was overcome is for `show`.
      { head: 'REASON', rank: 8, isCut: true, of: (one) => (one.state === 'done' ? '' : lastError(one)) },
    ],
    tasks,
    'No tasks.',
  )
}

/** One task; `children` of a batch are a table below it. */
export function formatTask(
  printer: Printer,
  one: ShownTask,
  children: readonly ShownTask[] | undefined,
  nowMs: number,
): string {
  const isCopy = one.kind === 'copy-image' || one.kind === 'copy-batch'
  const facts = formatFacts([
    ['task', one.id],
    ['part of', one.parentId],
    ['kind', one.kind],
    ['state', one.reason === null ? one.state : `${one.state} (${one.faultKind}): ${one.reason}`],
    ['step', one.step],
    ['region', one.region],
    ['project', one.project],
    ['image', one.imageId],
    ['snapshot', one.snapshotId],
    ['machine', one.machineId],
    ['done', `${formatBytes(one.doneBytes)} of ${formatBytes(one.totalBytes)}`],
    ['moved', formatBytes(one.movedBytes)],
    ['saved', isCopy ? formatBytes(one.savedBytes) : null],
    ['rate', describeSpeed(one)],
    ['left', describeLeft(one)],
    ['priority', isCopy ? String(one.priority) : null],
    ['deadline', describeDeadline(one, nowMs)],
    ['attempts', String(one.attemptCount)],
    ['last error', one.lastReason],
    ['created', formatTime(one.createdAtMs)],
    ['started', formatTime(one.startedAtMs)],
    ['ended', formatTime(one.endedAtMs)],
    // Of a batch its table says the same.
    ['output', children !== undefined || isEmpty(one.output) ? null : JSON.stringify(one.output)],
  ])
  if (children === undefined) return facts
  return `${facts}\n${printer.table([{ head: 'TASK', of: (child) => child.id }, ...copyColumns()], children, 'Of its copies none is left.')}`
}

const isEmpty = (output: object) => Object.keys(output).length === 0

function describeDeadline({ deadlineAtMs, endedAtMs, state }: ShownTask, nowMs: number): string | null {
  if (deadlineAtMs === null) return null
  const at = formatTime(deadlineAtMs)
  if (endedAtMs !== null) {
    return state === 'done' && endedAtMs <= deadlineAtMs ? `${at}, met` : `${at}, missed`
  }
  return nowMs <= deadlineAtMs ? `${at}, in ${formatDuration(deadlineAtMs - nowMs)}` : `${at}, passed`
}
