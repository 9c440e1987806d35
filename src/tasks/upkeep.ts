import type { Catalog } from '../catalog/contract.ts'
import type { ProjectId, RegionId, TaskId } from '../image/ids.ts'
import type { TaskKind } from '../image/task.ts'
import { type CollectInput, findLive } from './collect-garbage.ts'
import type { Runner } from './runner.ts'
import type { RepairInput, ScrubInput } from './scrub-region.ts'
import type { StoreJobs } from './store-jobs.ts'

export interface UpkeepOptions {
  readonly catalog: Catalog
  readonly runner: Pick<Runner, 'add' | 'kick'>
  readonly jobs: Pick<StoreJobs, 'onDamage'>
  readonly clock: () => number
  readonly regionIds: readonly RegionId[]
  readonly log: (record: Record<string, unknown>) => void
  /** Undefined: never by itself. */
  readonly gcEveryMs: number | undefined
  readonly gcGraceMs: number
  readonly scrubEveryMs: number | undefined
  readonly scrubBytesPerSecond: number
}

export interface Upkeep {
  /** Adds what is due. Called by itself every few minutes. */
  look(): Promise<void>
  close(): Promise<void>
}

const LOOK_MS = 5 * 60 * 1000
/** After one that failed or was cancelled. */
const AGAIN_MS = 60 * 60 * 1000

/**
 * What regions need without being asked: collections and scrubs, each so often, counted from the last one that the
 * catalog knows; and a repair soon after a reader met damage. One region after the other, so that a night's work does
 * not come all at once.
 */
export function createUpkeep(options: UpkeepOptions): Upkeep {
  const { catalog, runner, clock, regionIds, log } = options

  /** Tasks of upkeep are the operator's: they belong to the default project. */
  async function add(kind: TaskKind, regionId: RegionId, input: object): Promise<void> {
    const id = await catalog.transaction(async (rows): Promise<TaskId | undefined> => {
      if ((await findLive(rows, [kind], regionId)) !== undefined) return undefined
      const project = await rows
        .selectFrom('project')
        .select('id')
        .where('isDefault', '=', 1)
        .executeTakeFirst()
      if (project === undefined) return undefined
      return runner.add(rows, { kind, projectId: project.id as ProjectId, regionId, input })
    })
    if (id !== undefined) runner.kick(id)
  }

  /** When the next one is due: so long after the last one that did its work, or after the installation began. */
  async function dueMs(kind: TaskKind, regionId: RegionId, everyMs: number): Promise<number> {
    const tasks = await catalog.rows
      .selectFrom('task')
      .select(['input', 'state', 'createdAtMs'])
      .where('kind', '=', kind)
      .where('regionId', '=', regionId)
      .orderBy('createdAtMs', 'desc')
      .limit(20)
      .execute()
    const real = tasks.filter(({ input }) => (JSON.parse(input) as Partial<CollectInput>).isDryRun !== true)
    const account = await catalog.rows.selectFrom('account').select('createdAtMs').executeTakeFirst()
    const done = real.find(({ state }) => state === 'done')
    return Math.max(
      (done ?? account ?? { createdAtMs: clock() }).createdAtMs + everyMs,
      (real[0]?.createdAtMs ?? 0) + Math.min(everyMs, AGAIN_MS),
    )
  }

  async function addDue(kind: TaskKind, everyMs: number | undefined, inputOf: (id: RegionId) => object) {
    if (everyMs === undefined) return
    for (const regionId of regionIds) {
      // The others have their turn when this one is done.
      if ((await findLive(catalog.rows, [kind], regionId)) !== undefined) return
      if ((await dueMs(kind, regionId, everyMs)) > clock()) continue
      return add(kind, regionId, inputOf(regionId))
    }
  }

  async function look(): Promise<void> {
    await addDue('collect-garbage', options.gcEveryMs, (regionId): CollectInput => {
      return { regionId, isDryRun: false, graceMs: options.gcGraceMs }
    })
    const { scrubEveryMs = 0, scrubBytesPerSecond: bytesPerSecond } = options
    await addDue('scrub-region', options.scrubEveryMs, (regionId): ScrubInput => {
      // Half of the time: what the last scrub read late is due as well, what one that was cut short read is not.
      return { regionId, bytesPerSecond, olderThanMs: scrubEveryMs / 2, isRepairing: true }
    })
  }

  let working: Promise<void> = Promise.resolve()
  const inTurn = (work: () => Promise<void>): Promise<void> => {
    working = working.then(work).catch((error) => log({ level: 'error', message: 'upkeep failed', error }))
    return working
  }
  const timer = setInterval(() => void inTurn(look), LOOK_MS)
  timer.unref()
  options.jobs.onDamage((regionId) => {
    const input: RepairInput = { regionId }
    void inTurn(() => add('repair-region', regionId, input))
  })
  return {
    look: () => inTurn(look),
    async close() {
      clearInterval(timer)
      await working
    },
  }
}
