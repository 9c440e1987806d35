import { setTimeout as delay } from 'node:timers/promises'
import { type Fault, isFault } from '../image/fault.ts'
import type { ProjectId, RegionId } from '../image/ids.ts'
import type { Image } from '../image/image.ts'
import type { TaskKind } from '../image/task.ts'
import { createBackoff } from './backoff.ts'
import type { Caller } from './contract.ts'
import { createCopies } from './copies.ts'
import type { Guard } from './guard.ts'
import { createImages } from './images.ts'
import { createKeyring } from './keyring.ts'
import type { Parts } from './parts.ts'
import {
  beyondKept,
  forgetGone,
  lostCopies,
  noteFailure,
  noteOutcomes,
  tellFailure,
} from './replication-copies.ts'
import { copyByRule } from './replication-copy.ts'
import { findLoops, fitsFilter } from './replication-fit.ts'
import { NOTHING, openImages, type RuleRow, type Settled, settle, targetsOf } from './replication-row.ts'
import { imagesOf, taskOf } from './rows.ts'

export interface Replication {
  /** Asks for the copies that rules want, and lets go of those beyond the number to keep. */
  look(): Promise<void>
  close(): Promise<void>
}

type Available = Image & { readonly state: { readonly at: 'available' } }

const LOOK_MS = 30_000
const READ_COUNT = 500
const FORGET_EVERY_MS = 60 * 60 * 1000
/** What makes images. */
const MAKERS: readonly TaskKind[] = [
  ...(['import-image', 'capture-image', 'compose-image', 'clean-image', 'copy-image'] as const),
]

/**
 * Follows the replication rules, whenever a task that makes images has ended and every half minute; the first time when it
 * is asked to. Which images were looked at is in the rows, never in a time, so that each image is copied once: whatever
 * becomes available in one millisecond, while nobody looks, or while the clock is set.
 */
export function createReplication({
  parts,
  guard,
  log,
}: {
  readonly parts: Parts
  readonly guard: Guard
  readonly log: (record: Record<string, unknown>) => void
}): Replication {
  const { catalog, clock, events } = parts
  const { rows } = catalog
  const { retry } = createCopies(parts, guard)
  const { remove } = createImages(parts, guard)
  const keyring = createKeyring(parts)
  const backoff = createBackoff(clock)
  const closing = new AbortController()
  const isClosed = () => closing.signal.aborted
  let forgottenAtMs = Number.NEGATIVE_INFINITY

  /** Who made the rule, as that user now is. Fault 'denied' 'user' if it is gone. */
  function callerOf(rule: RuleRow): Promise<Caller> {
    const { userId, door, sourceIp, secureTransport } = JSON.parse(rule.caller) as Caller
    return keyring.caller(userId, door, { requestId: `rule-${rule.id}`, sourceIp, secureTransport })
  }

  async function refuse(rule: RuleRow, key: string, told: string, fault: Fault): Promise<void> {
    backoff.fail(key)
    const { id, name } = rule
    log({ level: 'warn', message: 'a replication rule could not be followed', rule: id, name, error: fault })
    await noteFailure(rows, id, told, clock())
  }

  const placeKey = (rule: RuleRow, regionId: RegionId) => `${rule.id} ${regionId}`
  const imageKey = (rule: RuleRow, regionId: RegionId, image: Image) =>
    `${placeKey(rule, regionId)} ${image.id}`

  async function refuseCopy(rule: RuleRow, image: Image, regionId: RegionId, fault: Fault): Promise<void> {
    // The rule or the image is gone, and with it what was to be done.
    if (fault.kind === 'absent' && (fault.subject === 'image' || fault.subject === 'replication-rule')) return
    // What keeps out one image most likely keeps out the next; after a while another one is tried first.
    const isOfImage = fault.kind === 'invalid' || fault.kind === 'conflict' || fault.kind === 'corrupt'
    if (!isOfImage) backoff.fail(placeKey(rule, regionId))
    const told = tellFailure({ name: image.name, regionId }, fault.message)
    await refuse(rule, imageKey(rule, regionId, image), told, fault)
  }

  /** All at once, so that their source is read once; one by one where one is refused, so that it holds up no other. */
  async function ask(
    rule: RuleRow,
    caller: Caller,
    image: Available,
    regionIds: readonly RegionId[],
  ): Promise<void> {
    try {
      await copyByRule(parts, guard, { rule, image, caller, regionIds })
      for (const regionId of regionIds) {
        backoff.clear(placeKey(rule, regionId))
        backoff.clear(imageKey(rule, regionId, image))
      }
    } catch (error) {
      if (!isFault(error)) throw error
      const [first, ...others] = regionIds
      if (first === undefined) return
      if (others.length === 0) return await refuseCopy(rule, image, first, error)
      for (const regionId of regionIds) await ask(rule, caller, image, [regionId])
    }
  }

  /** Where an image has still to go, and what is settled of it by that. */
  async function findTargets(
    rule: RuleRow,
    image: Available,
    known: readonly { readonly regionId: string }[],
  ): Promise<{ readonly regionIds: readonly RegionId[]; readonly settled: readonly Settled[] }> {
    const open = targetsOf(rule).filter((regionId) => !known.some((one) => one.regionId === regionId))
    // What has rows was found to fit.
    const fits = open.length > 0 && (known.length > 0 || (await fitsFilter(rows, rule, image)))
    const loops = fits ? await findLoops(rows, rule, image, open) : open
    const regionIds = open.filter((regionId) => !loops.includes(regionId))
    const settledIn: readonly Settled['regionId'][] = regionIds.length === 0 ? [NOTHING] : loops
    return { regionIds, settled: settledIn.map((regionId) => ({ image, regionId })) }
  }

  async function copyNew(rule: RuleRow, caller: Caller): Promise<void> {
    const found = await openImages(rows, rule).selectAll('image').execute()
    const wanted: { readonly image: Available; readonly regionIds: readonly RegionId[] }[] = []
    for (let i = 0; i < found.length && !isClosed(); i += READ_COUNT) {
      const images = await imagesOf(rows, found.slice(i, i + READ_COUNT))
      const ids = images.map(({ id }) => id)
      const known = await rows
        .selectFrom('replicated')
        .select(['imageId', 'regionId'])
        .where('ruleId', '=', rule.id)
        .where('imageId', 'in', ids)
        .execute()
      const knownOf = Map.groupBy(known, ({ imageId }) => imageId)
      const allSettled: Settled[] = []
      for (const image of images as Available[]) {
        const { regionIds, settled } = await findTargets(rule, image, knownOf.get(image.id) ?? [])
        if (regionIds.length > 0) wanted.push({ image, regionIds })
        allSettled.push(...settled)
      }
      await settle(rows, rule.id, allSettled)
    }
    const triesOf = ({ image, regionIds }: (typeof wanted)[number]) =>
      Math.max(...regionIds.map((regionId) => backoff.countOf(imageKey(rule, regionId, image))))
    for (const { image, regionIds } of wanted.toSorted((a, b) => triesOf(a) - triesOf(b))) {
      if (isClosed()) return
      const open = regionIds.filter(
        (regionId) =>
          !backoff.isHeld(placeKey(rule, regionId)) && !backoff.isHeld(imageKey(rule, regionId, image)),
      )
      if (open.length > 0) await ask(rule, caller, image, open)
    }
  }

  /** An image that a machine uses goes as any image does: what machines stand on stays. */
  async function thin(rule: RuleRow, caller: Caller): Promise<void> {
    for (const regionId of targetsOf(rule)) {
      const key = `keep ${placeKey(rule, regionId)}`
      if (isClosed() || backoff.isHeld(key)) continue
      const imageIds = await beyondKept(rows, rule, regionId)
      if (imageIds.length === 0) continue
      try {
        await remove(caller, { projectId: rule.targetProjectId as ProjectId, regionId, imageIds })
        backoff.clear(key)
      } catch (error) {
        if (!isFault(error)) throw error
        const told = `Old copies in ${regionId} could not be deleted: ${error.message}`
        await refuse(rule, key, told, error)
      }
    }
  }

  /** Copies that failed for what may pass, with the same images. */
  async function retryLost(rule: RuleRow, caller: Caller): Promise<void> {
    for (const { name, lostAtMs, sourceId, ...task } of await lostCopies(rows, rule)) {
      const key = `copy ${task.imageId}`
      if (backoff.countOf(key) === 0) backoff.fail(key, lostAtMs)
      if (isClosed() || backoff.isHeld(key)) continue
      const resource = `image/${sourceId}`
      const source = { projectId: rule.projectId as ProjectId, regionId: rule.regionId, resource }
      const target = { projectId: rule.targetProjectId as ProjectId, regionId: task.regionId, resource }
      try {
        await guard.change(caller, 'images.copy', source, async () => {
          await guard.admit(caller, 'images.copy', target)
          await retry(taskOf(task, clock()))
        })
        // Should it fail again, the next time is later.
        backoff.fail(key)
      } catch (error) {
        if (!isFault(error)) throw error
        await refuse(rule, key, tellFailure({ name, regionId: task.regionId }, error.message), error)
      }
    }
  }

  async function follow(id: string): Promise<void> {
    const rule = await rows
      .selectFrom('replicationRule')
      .selectAll()
      .where('id', '=', id)
      .where('isEnabled', '=', 1)
      .executeTakeFirst()
    if (rule === undefined) return
    await noteOutcomes(rows, rule)
    if (backoff.isHeld(rule.id)) return
    let caller: Caller
    try {
      caller = await callerOf(rule)
      backoff.clear(rule.id)
    } catch (error) {
      if (!isFault(error)) throw error
      return await refuse(rule, rule.id, `${rule.creator}: ${error.message}`, error)
    }
    await copyNew(rule, caller)
    await thin(rule, caller)
    await retryLost(rule, caller)
  }

  async function lookOnce(): Promise<void> {
    if (isClosed()) return
    const rules = await rows
      .selectFrom('replicationRule')
      .select(['id', 'name'])
      .where('isEnabled', '=', 1)
      .orderBy('createdAtMs')
      .orderBy('id')
      .execute()
    for (const { id, name } of rules) {
      if (isClosed()) return
      // What fails for one rule is no reason to leave out another.
      await follow(id).catch((error) => {
        log({ level: 'error', message: 'a replication rule failed', rule: id, name, error })
      })
    }
    backoff.sweep()
    if (clock() - forgottenAtMs < FORGET_EVERY_MS) return
    forgottenAtMs = clock()
    await forgetGone(rows, clock())
  }

  let working: Promise<void> = Promise.resolve()
  const look = (): Promise<void> => {
    working = working.then(lookOnce).catch((error) => {
      log({ level: 'error', message: 'the replication rules could not be looked at', error })
    })
    return working
  }

  /** Resolves when a task that makes images has ended since, also a copy that failed; or when it is time anyway. */
  async function nextEnd(afterId: number): Promise<number> {
    const untilMs = performance.now() + LOOK_MS
    let seenId = afterId
    for (;;) {
      await events.wait(seenId, Math.ceil(untilMs - performance.now()), closing.signal)
      const lastId = await events.last()
      const ended = await events.list({ kinds: MAKERS, endsOnly: true }, seenId, 1)
      seenId = lastId
      if (ended.length > 0 || isClosed() || performance.now() >= untilMs) return seenId
    }
  }

  const pause = (ms: number) =>
    delay(Math.ceil(ms), undefined, { signal: closing.signal, ref: false }).catch(() => {})

  async function watch(): Promise<void> {
    let seenId = 0
    while (!isClosed()) {
      try {
        if (seenId === 0) seenId = await events.last()
        seenId = await nextEnd(seenId)
        const beganMs = performance.now()
        await look()
        // With many rules and images it takes no more than half of the time.
        await pause(performance.now() - beganMs)
      } catch (error) {
        log({ level: 'error', message: 'the ends of tasks could not be followed', error })
        await pause(LOOK_MS)
      }
    }
  }
  const watching = watch()
  return {
    look,
    async close() {
      closing.abort()
      await watching
      await working
    },
  }
}
