import type { ShownTask } from '../wire/native/show.ts'
import { formatBytes, formatDuration, printable } from './format.ts'
import type { Io } from './io.ts'
import { drawBar, fit, partDone, REDRAW_MS } from './progress.ts'
import { type Column, formatTable, stateColour } from './table.ts'

/** Shows how copies go on, on standard error: a table that redraws on a terminal, a line now and then elsewhere. */
export interface CopyProgress {
  update(tasks: readonly ShownTask[]): void
  /** Something to know that is of no copy: the server is away. */
  note(text: string): void
  /** Leaves the last state standing. */
  end(): void
}

/** Of a terminal's lines, those for the head, what is left out, the note, and the cursor. */
const OTHER_LINES = 4

/** On a terminal of 80 columns the rate and what is left have to fit. */
const WIDE_COLUMNS = 120
const BAR_CELLS = 24
const NARROW_BAR_CELLS = 10

/** Where a copy is: its step while it runs, with our words for those that are no work. */
export function describeState({ state, step }: ShownTask): string {
  if (step === 'queue') return 'waits'
  if (step === 'wait') return 'tries again'
  if (step === 'undo') return 'taking back'
  return step ?? state
}

export const describeDone = ({
  doneBytes,
  totalBytes,
}: Pick<ShownTask, 'doneBytes' | 'totalBytes'>): string =>
  totalBytes > 0 ? `${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}` : ''

/** '10 MiB/s'; empty while nothing moves. */
export const describeSpeed = ({ bytesPerSecond }: ShownTask): string =>
  bytesPerSecond === null || bytesPerSecond === 0 ? '' : `${formatBytes(bytesPerSecond)}/s`

export const describeLeft = ({ etaMs }: ShownTask): string => (etaMs === null ? '' : formatDuration(etaMs))

/** Why it failed, or why its last attempt did; of one that is done nothing, as all of it went well in the end. */
export const lastError = (task: ShownTask): string =>
  task.reason ?? (task.state === 'done' ? '' : (task.lastReason ?? ''))

const percentOf = (task: ShownTask) => `${Math.floor(partDone(task) * 100)} %`

/** What a table of copies says of each; on a terminal that redraws with a bar of so many cells. */
export function copyColumns(barCells = 0): readonly Column<ShownTask>[] {
  const done: Column<ShownTask> =
    barCells > 0
      ? { head: 'DONE', of: (one) => `${drawBar(partDone(one), barCells)} ${percentOf(one).padStart(5)}` }
      : { head: 'DONE', align: 'right', of: percentOf }
  return [
    { head: 'REGION', of: (one) => one.region },
    { head: 'STATE', of: describeState, colour: (one) => stateColour(one.state) },
    done,
    { head: 'BYTES', align: 'right', of: describeDone },
    { head: 'RATE', align: 'right', of: describeSpeed },
    { head: 'LEFT', align: 'right', of: describeLeft },
    { head: 'SAVED', align: 'right', of: (one) => formatBytes(one.savedBytes) },
    { head: 'TRIES', align: 'right', of: (one) => String(one.attemptCount) },
    { head: 'LAST ERROR', of: lastError },
  ]
}

/** What wants to be seen most comes first where not all fit: what runs, what failed, what waits, what is done. */
function rankOf({ state }: ShownTask): number {
  return ['running', 'failed', 'paused', 'queued', 'cancelled', 'done'].indexOf(state)
}

function countStates(tasks: readonly ShownTask[]): string {
  const counts = new Map<string, number>()
  for (const { state } of tasks) counts.set(state, (counts.get(state) ?? 0) + 1)
  return [...counts].map(([state, count]) => `${count} ${state}`).join(', ')
}

function terminalProgress(io: Io): CopyProgress {
  const { stderr } = io
  let latest: readonly ShownTask[] = []
  let noted = ''
  let lines = 0
  let drawnAtMs = Number.NEGATIVE_INFINITY
  const draw = () => {
    drawnAtMs = io.nowMs()
    const rowsMax = Math.max(1, stderr.rows - OTHER_LINES)
    const isWhole = latest.length <= rowsMax
    const shown = isWhole ? latest : latest.toSorted((a, b) => rankOf(a) - rankOf(b)).slice(0, rowsMax)
    const rest = latest.filter((one) => !shown.includes(one))
    const barCells = stderr.columns < WIDE_COLUMNS ? NARROW_BAR_CELLS : BAR_CELLS
    const text = [
      ...(latest.length === 0 ? [] : formatTable(copyColumns(barCells), shown, false).trimEnd().split('\n')),
      ...(isWhole ? [] : [`and ${rest.length} more: ${countStates(rest)}`]),
      ...(noted === '' ? [] : [noted]),
    ]
    // Upwards and all of it anew: fewer lines than before must leave none of those standing.
    const up = lines > 0 ? `\x1b[${lines}A` : ''
    stderr.write(`${up}\x1b[J${text.map((line) => `${fit(line, stderr.columns)}\n`).join('')}`)
    lines = text.length
  }
  return {
    update(tasks) {
      const hasNews = noted !== '' || tasks.every(({ endedAtMs }) => endedAtMs !== null)
      latest = tasks
      noted = ''
      if (hasNews || io.nowMs() - drawnAtMs >= REDRAW_MS) draw()
    },
    note(text) {
      if (text === noted) return
      noted = printable(text)
      draw()
    },
    end() {
      lines = 0
    },
  }
}

function describeCopy(task: ShownTask): string {
  const { region, savedBytes, attemptCount, endedAtMs, startedAtMs } = task
  const took =
    endedAtMs === null || startedAtMs === null ? '' : ` in ${formatDuration(endedAtMs - startedAtMs)}`
  const left = describeLeft(task)
  const error = lastError(task)
  const parts = [
    `${region}: ${describeState(task)}${took}`,
    endedAtMs === null ? percentOf(task) : '',
    describeDone(task),
    describeSpeed(task),
    left === '' ? '' : `${left} left`,
    savedBytes === 0 ? '' : `${formatBytes(savedBytes)} saved`,
    attemptCount > 1 ? `try ${attemptCount}` : '',
    error,
  ]
  return printable(parts.filter((part) => part !== '').join('  '))
}

function plainProgress(io: Io): CopyProgress {
  const said = new Map<string, string>()
  let noted = ''
  return {
    update(tasks) {
      noted = ''
      for (const task of tasks) {
        // A line for each state, step, attempt and tenth of the way: enough for a log, and no more.
        const { state, step, attemptCount } = task
        const mark = `${state} ${step} ${attemptCount} ${Math.floor(partDone(task) * 10)} ${lastError(task)}`
        if (said.get(task.id) === mark) continue
        said.set(task.id, mark)
        io.stderr.write(`${describeCopy(task)}\n`)
      }
    },
    note(text) {
      if (text === noted) return
      noted = text
      io.stderr.write(`${printable(text)}\n`)
    },
    end() {},
  }
}

export function createCopyProgress(io: Io): CopyProgress {
  return io.stderr.isTerminal ? terminalProgress(io) : plainProgress(io)
}
