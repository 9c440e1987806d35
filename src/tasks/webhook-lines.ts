import type { TaskEvent } from '../image/event.ts'
import { filterOf, type WebhookRow } from './webhook-row.ts'

/** What is known of an enabled webhook beside its row: whether it has something to be told, and whether it is being told. */
export interface Line {
  readonly id: string
  readonly projectId: string
  /** Something that it is to be told of may be behind what it has. */
  isWaiting: boolean
  /** Nothing up to here is left for it. */
  scannedId: number
  nextAtMs: number
  isFailing: boolean
  /** When the rights of its maker were last asked for; undefined before. */
  admittedAtMs: number | undefined
  /** When it was last told, counted in messages of all: who waits longest goes first. */
  turn: number
  flight: AbortController | undefined
  /** Disabled or removed while a message was on its way. */
  isGone: boolean
  matches(event: TaskEvent): boolean
}

const SENDING_MAX = 16
/** Those that fail wait for an answer most of the time; they must not hold all places. */
const FAILING_MAX = SENDING_MAX / 2

const ENDS: readonly string[] = ['done', 'failed', 'cancelled'] satisfies TaskEvent['state'][]

export function newLine(row: WebhookRow): Line {
  const { id, projectId } = row
  const { kinds, endsOnly } = filterOf(row)
  return {
    ...{ id, projectId, isWaiting: true, scannedId: row.deliveredId, nextAtMs: row.nextAtMs },
    ...{ isFailing: row.failingSinceMs !== null, turn: 0, flight: undefined, isGone: false },
    admittedAtMs: undefined,
    matches: (event) =>
      event.projectId === projectId &&
      (kinds?.includes(event.kind) ?? true) &&
      (endsOnly !== true || ENDS.includes(event.state)),
  }
}

/**
 * Whose turn it is: of those that may be told something now one of the project with the fewest messages on their way,
 * and of these who waits longest. Undefined where nobody is, or no place is free.
 */
export function nextLine(lines: ReadonlyMap<string, Line>, nowMs: number): Line | undefined {
  const all = [...lines.values()]
  const flying = all.filter(({ flight }) => flight !== undefined)
  if (flying.length >= SENDING_MAX) return undefined
  const isFull = flying.filter(({ isFailing }) => isFailing).length >= FAILING_MAX
  const counts = new Map<string, number>()
  for (const { projectId } of flying) counts.set(projectId, (counts.get(projectId) ?? 0) + 1)
  const countOf = ({ projectId }: Line) => counts.get(projectId) ?? 0
  let best: Line | undefined
  for (const line of all) {
    if (!line.isWaiting || line.isGone || line.flight !== undefined || line.nextAtMs > nowMs) continue
    if (isFull && line.isFailing) continue
    const order = best === undefined ? -1 : countOf(line) - countOf(best) || line.turn - best.turn
    if (order < 0) best = line
  }
  return best
}

/** How long until one that has to wait may be tried again. */
export function untilNextMs(lines: ReadonlyMap<string, Line>, nowMs: number, mostMs: number): number {
  let ms = mostMs
  for (const { isWaiting, flight, nextAtMs } of lines.values()) {
    if (isWaiting && flight === undefined && nextAtMs > nowMs) ms = Math.min(ms, nextAtMs - nowMs)
  }
  return ms
}
