import { inspect } from 'node:util'
import fc from 'fast-check'
import type { Counters } from './counters.ts'
import { type Schedule, schedules } from './schedule.ts'
import { simulate } from './simulate.ts'

export interface Runs {
  readonly scheduleCount: number
  readonly seed: number
  /** Begins at the schedule that failed, as a failure names it. */
  readonly path?: string
  readonly counters: Counters
  /** How long the shrinker may look for a smaller schedule that fails too. */
  readonly shrinkMs?: number
}

/** Undefined if every schedule went well; else what went wrong, how to repeat it, and what had happened until then. */
export async function runSchedules(runs: Runs): Promise<string | undefined> {
  const { scheduleCount, seed, path, counters, shrinkMs = 60_000 } = runs
  let failedMs: number | undefined
  const details = await fc.check(
    fc.asyncProperty(schedules, async (schedule) => {
      // The shrinker has had its time.
      if (failedMs !== undefined && performance.now() - failedMs > shrinkMs) return
      counters.count('schedules')
      try {
        await simulate(schedule, counters)
      } catch (error) {
        failedMs ??= performance.now()
        throw error
      }
    }),
    { numRuns: scheduleCount, seed, ...(path === undefined ? {} : { path }) },
  )
  if (!details.failed) return undefined
  const [schedule] = details.counterexample ?? []
  return [
    `Failed after ${details.numRuns} schedules, ${details.numShrinks} times made smaller.`,
    `Repeat it: npm run simulate -- --seed ${seed} --path ${details.counterexamplePath}`,
    schedule === undefined ? '' : await tellOf(schedule),
    inspect(details.errorInstance),
  ].join('\n')
}

async function tellOf(schedule: Schedule): Promise<string> {
  const trace: string[] = []
  const { Counters } = await import('./counters.ts')
  await simulate(schedule, new Counters(), trace).catch(() => {})
  return `${inspect(schedule, { depth: 9 })}\n${foldRepeats(trace).slice(-400).join('\n')}`
}

/** Whoever waits long says the same again and again. */
function foldRepeats(trace: readonly string[]): string[] {
  const said = (line: string) => line.slice(line.indexOf(' '))
  return trace.filter(
    (line, i) => said(line) !== said(trace[i - 1] ?? '') || said(line) !== said(trace[i + 1] ?? ''),
  )
}
