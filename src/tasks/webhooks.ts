import { setTimeout as delay } from 'node:timers/promises'
import type { Catalog } from '../catalog/contract.ts'
import type { TaskEvent } from '../image/event.ts'
import { isFault } from '../image/fault.ts'
import type { Sender } from '../intake/sender.ts'
import type { EventLog } from './event-log.ts'
import { type Line, newLine, nextLine, untilNextMs } from './webhook-lines.ts'
import { messageOf } from './webhook-message.ts'
import { filterOf, type WebhookRow, type WebhookSeal } from './webhook-row.ts'

export interface WebhookSenderOptions {
  readonly catalog: Catalog
  readonly events: Pick<EventLog, 'last' | 'list' | 'wait'>
  readonly send: Pick<Sender, 'post'>
  readonly seal: Pick<WebhookSeal, 'open'>
  /** Faults 'denied' and 'absent' where whoever made the webhook may no longer be told. */
  readonly admit: (row: WebhookRow) => Promise<void>
  /** An event in the words of our own door. */
  readonly show: (event: TaskEvent) => object
  readonly clock: () => number
  readonly log: (record: Record<string, unknown>) => void
}

export interface WebhookSender {
  /** For when one was made, changed or removed: what is on its way to one that is no more is broken off. */
  look(): Promise<void>
  /** Breaks off what is on its way; it is sent again after the next start. */
  close(): Promise<void>
}

const AGAIN_MS = 1000
const AGAIN_MS_MAX = 300_000
const GIVE_UP_MS = 3 * 24 * 60 * 60 * 1000
/** Days in which the server was off are not the receiver's. */
const GIVE_UP_COUNT = 12
/** How long a right that was taken away may still be used. */
const ADMIT_MS = 60_000
const READ_COUNT = 1000
const WAIT_MS_MAX = 60_000

/** Undefined: it was broken off, or its webhook is gone. */
type Outcome =
  | { readonly is: 'taken' }
  | { readonly is: 'failed'; readonly reason: string }
  /** Trying again would not help. */
  | { readonly is: 'lost'; readonly reason: string }

/**
 * Tells webhooks of events: each of one event at a time, in their order, again and again until it answers 2xx (1, 2, 4 …
 * 300 s later), for 3 days; then it is disabled. What it has is in its row, so a restart goes on from there: each event
 * arrives once at least. Whoever is slow or gone holds up nobody else. One whose maker lost the right is disabled, too.
 */
export function createWebhookSender(options: WebhookSenderOptions): WebhookSender {
  const { catalog, events, send, seal, clock, log } = options
  const lines = new Map<string, Line>()
  const closing = new AbortController()
  const flights = new Set<Promise<void>>()
  let wake = new AbortController()
  let turnCount = 0

  function dispatch(): void {
    while (!closing.signal.aborted) {
      const line = nextLine(lines, clock())
      if (line === undefined) return
      const flight = fly(line).finally(() => flights.delete(flight))
      flights.add(flight)
    }
  }

  async function fly(line: Line): Promise<void> {
    const flight = new AbortController()
    line.flight = flight
    // Before the look: what is noted from here on marks it anew.
    line.isWaiting = false
    try {
      await tell(line, AbortSignal.any([flight.signal, closing.signal]))
    } catch (error) {
      line.isWaiting = true
      line.nextAtMs = clock() + AGAIN_MS
      if (!closing.signal.aborted)
        log({ level: 'error', message: 'a webhook could not be told', webhook: line.id, error })
    } finally {
      line.flight = undefined
      line.turn = ++turnCount
      if (line.isGone) lines.delete(line.id)
      dispatch()
      // It may have to be tried again sooner than anybody looks.
      if (line.isWaiting && line.nextAtMs > clock()) wake.abort()
    }
  }

  async function tell(line: Line, signal: AbortSignal): Promise<void> {
    const row = await catalog.rows
      .selectFrom('webhook')
      .selectAll()
      .where('id', '=', line.id)
      .where('isEnabled', '=', 1)
      .executeTakeFirst()
    if (row === undefined) {
      line.isGone = true
      return
    }
    line.nextAtMs = row.nextAtMs
    if (row.nextAtMs > clock()) {
      line.isWaiting = true
      return
    }
    const afterId = Math.max(row.deliveredId, line.scannedId)
    const lastId = await events.last()
    const [event] = await events.list(filterOf(row), afterId, 1)
    if (event === undefined) {
      // Whoever is told of little would else be looked through all that others do, again and again.
      line.scannedId = Math.max(afterId, lastId)
      return
    }
    line.isWaiting = true
    line.scannedId = event.id - 1
    const outcome = (await findRefusal(line, row)) ?? (await deliver(row, event, signal))
    if (outcome !== undefined) await keep(line, row, event, outcome)
  }

  /** Asked for once a minute at most, while there is something to send. */
  async function findRefusal(line: Line, row: WebhookRow): Promise<Outcome | undefined> {
    const nowMs = clock()
    const sinceMs = nowMs - (line.admittedAtMs ?? Number.NEGATIVE_INFINITY)
    // A clock that was set back would else leave a right unasked for as long.
    if (sinceMs >= 0 && sinceMs < ADMIT_MS) return undefined
    try {
      await options.admit(row)
      line.admittedAtMs = nowMs
      return undefined
    } catch (error) {
      if (!isFault(error, 'denied') && !isFault(error, 'absent')) throw error
      const reason = `Disabled: whoever made it may no longer be told of these tasks. ${error.message} Give the right back and enable it, or make the webhook anew.`
      return { is: 'lost', reason }
    }
  }

  async function deliver(
    row: WebhookRow,
    event: TaskEvent,
    signal: AbortSignal,
  ): Promise<Outcome | undefined> {
    try {
      const { url, secret } = seal.open(row.secret)
      const told = { eventId: event.id, webhookId: row.id, body: options.show(event) }
      const status = await send.post(url, messageOf(told, secret, clock()), signal)
      if (status >= 200 && status < 300) return { is: 'taken' }
      const isRedirect = status >= 300 && status < 400
      const reason = isRedirect
        ? `It answered with status ${status} and sends us on, which is not followed. Give the address that takes messages itself.`
        : `It answered with status ${status}.`
      return { is: 'failed', reason }
    } catch (error) {
      if (signal.aborted) return undefined
      if (!isFault(error)) throw error
      return { is: error.kind === 'corrupt' ? 'lost' : 'failed', reason: error.message }
    }
  }

  async function keep(line: Line, row: WebhookRow, event: TaskEvent, outcome: Outcome): Promise<void> {
    const nowMs = clock()
    const update = catalog.rows.updateTable('webhook').where('id', '=', row.id)
    if (outcome.is === 'taken') {
      line.scannedId = event.id
      line.isFailing = false
      line.nextAtMs = 0
      const well = { failingSinceMs: null, lastReason: null, attemptCount: 0, nextAtMs: 0 }
      await update
        .set({ deliveredId: event.id, deliveredAtMs: nowMs, ...well })
        .where('deliveredId', '<', event.id)
        .execute()
      return
    }
    const failingSinceMs = row.failingSinceMs ?? nowMs
    const attemptCount = row.attemptCount + 1
    const isTooLong = nowMs - failingSinceMs >= GIVE_UP_MS && attemptCount >= GIVE_UP_COUNT
    const isOver = outcome.is === 'lost' || isTooLong
    const nextAtMs = nowMs + Math.min(AGAIN_MS_MAX, AGAIN_MS * 2 ** Math.min(row.attemptCount, 20))
    const lastReason =
      isOver && outcome.is === 'failed'
        ? `Disabled after 3 days without success. ${outcome.reason}`
        : outcome.reason
    line.isFailing = true
    line.nextAtMs = nextAtMs
    line.isGone ||= isOver
    await update
      .set({ failingSinceMs, lastReason, nextAtMs, attemptCount })
      .set({ isEnabled: isOver ? 0 : 1 })
      // One that was disabled or enabled anew in between is another by now.
      .where('isEnabled', '=', 1)
      .where('deliveredId', '=', row.deliveredId)
      .execute()
    if (isOver) log({ level: 'warn', message: 'a webhook was disabled', webhook: row.id, reason: lastReason })
  }

  async function refresh(): Promise<void> {
    const rows = await catalog.rows.selectFrom('webhook').selectAll().where('isEnabled', '=', 1).execute()
    const enabled = new Map(rows.map((row) => [row.id, row]))
    for (const line of lines.values()) {
      const row = enabled.get(line.id)
      line.isGone = row === undefined
      if (row === undefined) line.flight?.abort()
      else {
        line.isWaiting = true
        line.nextAtMs = row.nextAtMs
        line.isFailing = row.failingSinceMs !== null
      }
      // One with a message on its way goes when that has ended, so that it never has two.
      if (line.isGone && line.flight === undefined) lines.delete(line.id)
    }
    for (const row of rows) if (!lines.has(row.id)) lines.set(row.id, newLine(row))
  }

  // One after the other, so that an older answer never comes over a newer one.
  let looking: Promise<unknown> = Promise.resolve()
  const look = (): Promise<void> => {
    const looked = looking.then(async () => {
      if (closing.signal.aborted) return
      await refresh()
      dispatch()
      wake.abort()
    })
    looking = looked.catch(() => undefined)
    return looked
  }

  /** Marks whom new events are for, from now on: what was before, each finds behind what it has. */
  async function follow(): Promise<void> {
    let lastId: number | undefined
    while (!closing.signal.aborted) {
      try {
        if (lastId === undefined) {
          // In this order: what is noted in between is then looked at twice, not never.
          const last = await events.last()
          await look()
          lastId = last
        }
        wake = new AbortController()
        const news = await events.list({}, lastId, READ_COUNT)
        for (const event of news) {
          for (const line of lines.values()) line.isWaiting ||= line.matches(event)
          lastId = event.id
        }
        dispatch()
        if (news.length === READ_COUNT) continue
        const waitMs = untilNextMs(lines, clock(), WAIT_MS_MAX)
        await events.wait(lastId, waitMs, AbortSignal.any([wake.signal, closing.signal]))
      } catch (error) {
        if (closing.signal.aborted) return
        log({ level: 'error', message: 'events for webhooks could not be read', error })
        await delay(AGAIN_MS, undefined, { signal: closing.signal }).catch(() => undefined)
      }
    }
  }
  const following = follow()

  return {
    look,
    async close() {
      closing.abort()
      await following
      await looking
      await Promise.all(flights)
    },
  }
}
