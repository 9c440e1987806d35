import assert from 'node:assert/strict'
import type { Selectable } from 'kysely'
import type { Schema } from '../catalog/schema.ts'
import type { ImageId, ProjectId, RegionId, TaskId } from '../image/ids.ts'
import { createEventLog } from '../tasks/events.ts'
import type { App, Caller } from './contract.ts'
import { type AppPlace, AWAY, FAR, HOME, newAppPlace } from './fixture.ts'
import { createGuard } from './guard.ts'
import type { Parts } from './parts.ts'
import { createReplication, type Replication } from './replicate.ts'
import { createReplicationRules } from './replication.ts'

export interface RulesPlace {
  readonly place: AppPlace
  readonly rules: App['replication']
  /** The one that runs now. */
  replication: Replication
  readonly log: Record<string, unknown>[]
  /** May be changed between two calls. */
  readonly parts: { -readonly [Part in keyof Parts]: Parts[Part] }
  /** As after a crash, or with parts that fail. */
  restart(change?: Partial<Parts>): Promise<void>
  /** A rule of root, from HOME. */
  rule(input?: Partial<Parameters<App['replication']['create']>[1]>, caller?: Caller): Promise<string>
  ruleRow(id: string): Promise<Awaited<ReturnType<App['replication']['list']>>['items'][number]>
  /** An image that becomes available now, in HOME unless the columns say something else. */
  image(name: string, columns?: Record<string, unknown>): Promise<ImageId>
  /** The row of the one image of that name in a region: the copy in AWAY, unless another is meant. */
  imageOf(name: string, regionId?: RegionId): Promise<Selectable<Schema['image']>>
  /** Of one region: names, in the order in which they were asked for. */
  names(regionId: RegionId, projectId?: ProjectId): Promise<string[]>
  /** Makes what is being copied available, as the task would; of one region, and of these names, or all. */
  finishCopies(regionId?: RegionId, names?: readonly string[]): Promise<void>
  /** Fails what is being copied. */
  failCopies(faultKind: string, state?: 'failed' | 'cancelled'): Promise<void>
  /** Looks until nothing is asked for any more, ending all copies as they come; at most so often. */
  settle(turnsMax?: number): Promise<void>
  /** Writes that a task has ended, and tells of it. */
  endTask(id: string, columns: Record<string, unknown>): Promise<void>
  close(): Promise<void>
}

export const MINUTE_MS = 60_000

/** Rules over a catalog in memory; the test ends the copies. */
export async function newRulesPlace(): Promise<RulesPlace> {
  const place = await newAppPlace()
  const { catalog, runner, root } = place
  const clock = () => place.nowMs
  const log: Record<string, unknown>[] = []
  const events = createEventLog({ catalog, clock })
  const guard = createGuard({ catalog, clock })
  const regions = [HOME, AWAY, FAR].map((id) => ({ id, localName: '', englishName: '', zones: [] }))
  // Only these are asked for by copies and removals.
  const parts = {
    ...{ catalog, runner, clock, events, regions, copies: place.copies, imagesPerRegionMax: 1000 },
    sources: place.sources,
  } as unknown as RulesPlace['parts']
  const begin = (change?: Partial<Parts>) =>
    createReplication({
      // Without a change the very same, so that what is changed later holds for it.
      parts: change === undefined ? parts : { ...parts, ...change },
      guard,
      log: (record) => void log.push(record),
    })
  let imageCount = 0
  const held: RulesPlace = {
    place,
    parts,
    rules: createReplicationRules(parts, guard),
    replication: begin(),
    log,
    endTask,
    async restart(change) {
      await held.replication.close()
      held.replication = begin(change)
    },
    async rule(input = {}, caller = root) {
      const words = { regionId: HOME, name: 'rule', filter: {}, targetRegionIds: [AWAY] }
      return (await held.rules.create(caller, { ...words, ...input })).id
    },
    async ruleRow(id) {
      for (const regionId of [HOME, AWAY, FAR]) {
        const { items } = await held.rules.list(root, { regionId }, { offset: 0, limit: 100 })
        const found = items.find((one) => one.id === id)
        if (found !== undefined) return found
      }
      throw new Error('there is no such rule')
    },
    async image(name, columns = {}) {
      const id = await place.availableImage(name)
      const digest = String(++imageCount).padStart(64, '0')
      await catalog.rows
        .updateTable('image')
        .set({ digest, updatedAtMs: place.nowMs, ...columns })
        .where('id', '=', id)
        .execute()
      return id
    },
    async imageOf(name, regionId = AWAY) {
      return catalog.rows
        .selectFrom('image')
        .selectAll()
        .where('name', '=', name)
        .where('regionId', '=', regionId)
        .executeTakeFirstOrThrow()
    },
    async names(regionId, projectId = root.defaultProjectId) {
      const found = await catalog.rows
        .selectFrom('image')
        .select(['name', 'state'])
        .where('regionId', '=', regionId)
        .where('projectId', '=', projectId)
        .orderBy('createdAtMs')
        .orderBy('name')
        .execute()
      return found.map(({ name, state }) => (state === 'available' ? name : `${name} ${state}`))
    },
    async finishCopies(regionId, names) {
      for (const one of await copying(regionId)) {
        if (names !== undefined && !names.includes(one.name)) continue
        const { digest } = JSON.parse(one.input)
        await catalog.rows
          .updateTable('image')
          .set({ state: 'available', digest, dataBytes: 1, reservedBytes: 0, updatedAtMs: place.nowMs })
          .where('id', '=', one.imageId)
          .execute()
        await endTask(one.taskId, { state: 'done' })
      }
    },
    async failCopies(faultKind, state = 'failed') {
      for (const one of await copying()) {
        const reason = `It is ${faultKind}.`
        await catalog.rows
          .updateTable('image')
          .set({ state: 'failed', reason, reservedBytes: 0, updatedAtMs: place.nowMs })
          .where('id', '=', one.imageId)
          .execute()
        await endTask(one.taskId, { state, faultKind, reason })
      }
    },
    async settle(turnsMax = 20) {
      for (let turn = 0; turn < turnsMax; turn++) {
        await held.replication.look()
        if ((await copying()).length === 0) return
        place.nowMs++
        await held.finishCopies()
      }
      assert.fail('copies are asked for without an end')
    },
    async close() {
      await held.replication.close()
      await place.close()
    },
  }
  return held

  function copying(regionId?: RegionId) {
    const query = catalog.rows
      .selectFrom('image')
      .innerJoin('task', 'task.id', 'image.taskId')
      .select(['image.id as imageId', 'image.name', 'task.id as taskId', 'task.input'])
      .where('image.state', '=', 'creating')
    return (regionId === undefined ? query : query.where('image.regionId', '=', regionId)).execute()
  }
  async function endTask(id: string, columns: Record<string, unknown>) {
    await catalog.transaction(async (rows) => {
      await rows
        .updateTable('task')
        .set({ step: '', endedAtMs: place.nowMs, ...columns })
        .where('id', '=', id)
        .execute()
      await events.note(rows, id as TaskId)
    })
    events.noted()
  }
}
