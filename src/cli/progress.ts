import type { ShownTask } from '../wire/native/show.ts'
import { cellWidth, formatBytes, formatDuration, printable } from './format.ts'
import type { Io } from './io.ts'

/** Shows how tasks go on, on standard error: bars that redraw on a terminal, a line now and then elsewhere. */
export interface Progress {
  update(tasks: readonly ShownTask[]): void
  /** Leaves the last state standing. */
  end(): void
}

const BAR_CELLS = 24
const RATE_WINDOW_MS = 5_000
/** Of looks closer together than this, one is enough to know the rate. */
const LOOK_MS = 100
export const REDRAW_MS = 100

/** The part done, 0 to 1; a task that is done is whole, even one without bytes. */
export function partDone(task: ShownTask): number {
  if (task.state === 'done') return 1
  return task.totalBytes > 0 ? Math.min(1, task.doneBytes / task.totalBytes) : 0
}

type Looked = Pick<ShownTask, 'id' | 'doneBytes'>

/** Bytes a second over the last few seconds; undefined until there are two looks at different times. */
export function rateMeter() {
  const looks = new Map<string, { atMs: number; doneBytes: number }[]>()
  return (task: Looked, nowMs: number): number | undefined => {
    const list = looks.get(task.id) ?? []
    looks.set(task.id, list)
    if (nowMs - (list.at(-1)?.atMs ?? Number.NEGATIVE_INFINITY) >= LOOK_MS)
      list.push({ atMs: nowMs, doneBytes: task.doneBytes })
    while (list.length > 2 && (list[1]?.atMs ?? nowMs) < nowMs - RATE_WINDOW_MS) list.shift()
    const first = list[0]
    if (first === undefined || first.atMs === nowMs) return undefined
    return ((task.doneBytes - first.doneBytes) * 1000) / (nowMs - first.atMs)
  }
}

/** '  200 MiB/s  3 s left'; nothing while nothing moves. */
export function describeRate(rate: number | undefined, leftBytes: number | undefined): string {
  if (rate === undefined || rate <= 0) return ''
  const left = leftBytes === undefined ? '' : `  ${formatDuration((leftBytes * 1000) / rate)} left`
  return `  ${formatBytes(rate)}/s${left}`
}

export function describeTask(task: ShownTask, rate?: number): string {
  const percent = `${Math.floor(partDone(task) * 100)} %`
  const where = `${task.kind} ${task.region}`
  if (task.endedAtMs !== null) {
    const bytes = task.doneBytes > 0 ? `, ${formatBytes(task.doneBytes)}` : ''
    const took =
      task.startedAtMs !== null && task.endedAtMs !== null
        ? ` in ${formatDuration(task.endedAtMs - task.startedAtMs)}`
        : ''
    return `${where}: ${task.state}${took}${bytes}${task.reason === null ? '' : `: ${printable(task.reason)}`}`
  }
  const step = task.step === null ? task.state : task.step
  // The bytes of a task are those that it reads and writes for an image: they stand still while disks are cleaned.
  if (step.startsWith('clean: ')) return `${where}: ${printable(step)}`
  const bytes =
    task.totalBytes > 0 ? `  ${formatBytes(task.doneBytes)} of ${formatBytes(task.totalBytes)}` : ''
  const left = describeRate(rate, task.totalBytes - task.doneBytes)
  return `${where}: ${printable(step)}  ${percent}${bytes}${left}`
}

export function drawBar(part: number, cells = BAR_CELLS): string {
  const full = Math.floor(part * cells)
  return `[${'█'.repeat(full)}${'░'.repeat(cells - full)}]`
}

/** Cut to the terminal's width: a wrapped line could not be drawn over again. */
export function fit(text: string, columns: number): string {
  let shown = ''
  let width = 0
  for (const character of text) {
    width += cellWidth(character)
    if (width >= columns) break
    shown += character
  }
  return shown
}

function terminalProgress(io: Io): Progress {
  const rateOf = rateMeter()
  let lines = 0
  let drawnAtMs = Number.NEGATIVE_INFINITY
  return {
    update(tasks) {
      const nowMs = io.nowMs()
      const rates = tasks.map((task) => rateOf(task, nowMs))
      if (nowMs - drawnAtMs < REDRAW_MS && tasks.some((task) => task.endedAtMs === null)) return
      drawnAtMs = nowMs
      const text = tasks.map((task, index) => {
        const line = `${drawBar(partDone(task))} ${describeTask(task, rates[index])}`
        return `\x1b[2K${fit(line, io.stderr.columns)}\n`
      })
      io.stderr.write((lines > 0 ? `\x1b[${lines}A` : '') + text.join(''))
      lines = tasks.length
    },
    end() {
      lines = 0
    },
  }
}

function plainProgress(io: Io): Progress {
  const said = new Map<string, string>()
  const rateOf = rateMeter()
  return {
    update(tasks) {
      for (const task of tasks) {
        const rate = rateOf(task, io.nowMs())
        // A line for each state, step and tenth of the way: enough for a log, and no more.
        const mark = `${task.state} ${task.step} ${Math.floor(partDone(task) * 10)}`
        if (said.get(task.id) === mark) continue
        said.set(task.id, mark)
        io.stderr.write(`${describeTask(task, rate)}\n`)
      }
    },
    end() {},
  }
}

export function createProgress(io: Io): Progress {
  return io.stderr.isTerminal ? terminalProgress(io) : plainProgress(io)
}
