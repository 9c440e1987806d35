import { Cron } from 'croner'
import { Fault } from '../image/fault.ts'
import type { SnapshotPolicy } from '../image/snapshot.ts'

type Times = Pick<SnapshotPolicy, 'cron' | 'timeZone'>

const CRON_LENGTH_MAX = 128

/**
 * Where clocks are put forward, a time of day that is left out counts at the first moment after the gap; where they are
 * put back, one that comes twice counts once. What runs by steps or ranges keeps to the clock instead.
 */
function open({ cron, timeZone }: Times): Cron {
  return new Cron(cron, { mode: '5-part', timezone: timeZone, paused: true })
}

/**
 * Throws Fault 'invalid' with the field, 'cron' or 'timeZone', unless there are five fields with a time to come, in a
 * zone of the IANA's list.
 */
export function checkTimes(times: Times, nowMs: number): void {
  const { cron, timeZone } = times
  const zoneFault = (options?: ErrorOptions) =>
    new Fault(
      'invalid',
      `There is no time zone '${timeZone.slice(0, 80)}'. Use a name such as Asia/Hong_Kong.`,
      {
        ...options,
        field: 'timeZone',
      },
    )
  // Offsets are no names: they know nothing of summer time.
  if (!/^[A-Za-z][\w+/-]{1,63}$/.test(timeZone)) throw zoneFault()
  try {
    new Intl.DateTimeFormat('en', { timeZone })
  } catch (cause) {
    throw zoneFault({ cause })
  }
  const cronFault = (why: string, options?: ErrorOptions) =>
    new Fault(
      'invalid',
      `The times '${cron.slice(0, CRON_LENGTH_MAX)}' ${why}. Write minute, hour, day of the month, month and day of the ` +
        `week: '0 3 * * *' is 03:00 every day.`,
      { ...options, field: 'cron' },
    )
  if (cron.length > CRON_LENGTH_MAX || cron.trim().split(/\s+/).length !== 5) {
    throw cronFault('are not five fields')
  }
  let next: number | undefined
  try {
    next = nextDueMs(times, nowMs)
  } catch (cause) {
    throw cronFault('cannot be read', { cause })
  }
  if (next === undefined) throw cronFault('never come')
}

/** The first due time after this moment; undefined if there is none. */
export function nextDueMs(times: Times, afterMs: number): number | undefined {
  return open(times).nextRun(new Date(afterMs))?.getTime()
}

/** The last due time up to and with this moment; undefined if there was none. */
export function lastDueMs(times: Times, untilMs: number): number | undefined {
  return open(times)
    .previousRuns(1, new Date(untilMs + 1))[0]
    ?.getTime()
}

/** A moment on the clock of a zone: '20261122-0300'. */
export function stampOf(timeZone: string, atMs: number): string {
  const parts = new Intl.DateTimeFormat('en-GB', {
    ...{ timeZone, hourCycle: 'h23', year: 'numeric', month: '2-digit' },
    ...{ day: '2-digit', hour: '2-digit', minute: '2-digit' },
  } as const).formatToParts(atMs)
  const part = (type: Intl.DateTimeFormatPartTypes) => parts.find((one) => one.type === type)?.value ?? ''
  return `${part('year')}${part('month')}${part('day')}-${part('hour')}${part('minute')}`
}
