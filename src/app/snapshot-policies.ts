import type { Selectable } from 'kysely'
import type { Rows } from '../catalog/contract.ts'
import type { Schema } from '../catalog/schema.ts'
import { Fault } from '../image/fault.ts'
import {
  type MachineId,
  newId,
  type ProjectId,
  type RegionId,
  type SnapshotPolicyId,
  spellId,
} from '../image/ids.ts'
import type { SnapshotPolicy } from '../image/snapshot.ts'
import { checkTimes, lastDueMs, nextDueMs } from '../tasks/cron.ts'
import type { App, Caller, NewSnapshotPolicy } from './contract.ts'
import type { Guard } from './guard.ts'
import type { Parts } from './parts.ts'

const POLICIES_PER_REGION_MAX = 100
const MACHINES_MAX = 100
const KEEP_COUNT_MAX = 1000

type PolicyRow = Selectable<Schema['snapshotPolicy']>

function policyOf(row: PolicyRow): SnapshotPolicy {
  return {
    id: row.id as SnapshotPolicyId,
    projectId: row.projectId as ProjectId,
    regionId: row.regionId as RegionId,
    ...{ name: row.name, cron: row.cron, timeZone: row.timeZone, keepCount: row.keepCount },
    disks: row.disks as SnapshotPolicy['disks'],
    machineIds: JSON.parse(row.machineIds),
    isEnabled: row.isEnabled === 1,
    lastDueAtMs: row.lastDueAtMs ?? undefined,
    lastDoneAtMs: row.lastDoneAtMs ?? undefined,
    lastFailedAtMs: row.lastFailedAtMs ?? undefined,
    lastReason: row.lastReason ?? undefined,
    createdAtMs: row.createdAtMs,
  }
}

const invalid = (field: string, message: string) => new Fault('invalid', message, { field })

/** Throws Fault 'invalid' with the field for what no policy may have. */
function checkWords(policy: Partial<NewSnapshotPolicy>): void {
  const { name, keepCount, machineIds } = policy
  // Its snapshots are called after it, with 19 characters more, and any door's names have room for that.
  if (name !== undefined && !/^[\p{L}\p{N}][\p{L}\p{N} ._-]{0,62}$(?<! )/u.test(name)) {
    throw invalid(
      'name',
      'A policy name has 1 to 63 letters, digits, dots, hyphens, underscores, and spaces inside.',
    )
  }
  if (
    keepCount !== undefined &&
    !(Number.isInteger(keepCount) && keepCount >= 1 && keepCount <= KEEP_COUNT_MAX)
  ) {
    throw invalid('keepCount', `A policy keeps 1 to ${KEEP_COUNT_MAX} snapshots of each disk.`)
  }
  if (machineIds !== undefined && (machineIds.length < 1 || new Set(machineIds).size > MACHINES_MAX)) {
    throw invalid('machineIds', `A policy is for 1 to ${MACHINES_MAX} machines.`)
  }
}

/** Throws Fault 'absent' 'machine' unless they all are the project's, in the region. */
async function checkMachines(
  rows: Rows,
  where: { projectId: ProjectId; regionId: RegionId },
  ids: readonly MachineId[],
): Promise<void> {
  const found = await rows
    .selectFrom('machine')
    .select('id')
    .where('id', 'in', ids)
    .where('projectId', '=', where.projectId)
    .where('regionId', '=', where.regionId)
    .where('state', '!=', 'deleting')
    .execute()
  const known = new Set<string>(found.map(({ id }) => id))
  const unknown = ids.find((id) => !known.has(id))
  if (unknown === undefined) return
  throw new Fault(
    'absent',
    `There is no machine ${spellId('machine', unknown, 'native')} in region ${where.regionId}. List the machines there.`,
    { subject: 'machine' },
  )
}

export function createSnapshotPolicies(
  { catalog, clock }: Pick<Parts, 'catalog' | 'clock'>,
  guard: Guard,
): App['snapshotPolicies'] {
  const target = (where: { regionId: RegionId; projectId?: ProjectId | undefined }, resource: string) => ({
    ...{ regionId: where.regionId, projectId: where.projectId, resource },
  })

  /** What a policy does by the clock, its user has to have the right to do by hand. */
  const admitMachines = (
    caller: Caller,
    where: { regionId: RegionId; projectId?: ProjectId | undefined },
    machineIds: readonly MachineId[],
  ) =>
    guard.admit(caller, 'snapshots.create', {
      ...{ regionId: where.regionId, projectId: where.projectId },
      resource: machineIds.map((id) => `machine/${id}`),
    })

  /** Whoever says how many are kept has the others deleted. */
  const admitThinning = (caller: Caller, where: { regionId: RegionId; projectId?: ProjectId | undefined }) =>
    guard.admit(caller, 'snapshots.remove', target(where, 'snapshot/*'))

  async function findPolicy(
    rows: Rows,
    where: { projectId: ProjectId; regionId: RegionId; policyId: SnapshotPolicyId },
  ): Promise<PolicyRow> {
    const row = await rows
      .selectFrom('snapshotPolicy')
      .selectAll()
      .where('id', '=', where.policyId)
      .where('projectId', '=', where.projectId)
      .where('regionId', '=', where.regionId)
      .executeTakeFirst()
    if (row !== undefined) return row
    throw new Fault(
      'absent',
      `There is no such snapshot policy in region ${where.regionId}. List the policies there.`,
      { subject: 'snapshot-policy' },
    )
  }

  return {
    create(caller, input) {
      return guard.change(
        caller,
        'snapshotPolicies.create',
        target(input, 'snapshot-policy/*'),
        async (projectId) => {
          checkWords(input)
          checkTimes(input, clock())
          const { regionId, name, cron, timeZone, keepCount, disks } = input
          const machineIds = [...new Set(input.machineIds)]
          await admitMachines(caller, input, machineIds)
          await admitThinning(caller, input)
          const policyId = newId('snapshot-policy')
          await catalog.transaction(async (rows) => {
            await checkMachines(rows, { projectId, regionId }, machineIds)
            const held = await rows
              .selectFrom('snapshotPolicy')
              .select((q) => q.fn.countAll<number>().as('count'))
              .where('projectId', '=', projectId)
              .where('regionId', '=', regionId)
              .executeTakeFirstOrThrow()
            if (Number(held.count) >= POLICIES_PER_REGION_MAX) {
              throw new Fault(
                'full',
                `Project ${projectId} has its ${POLICIES_PER_REGION_MAX} snapshot policies in region ${regionId}. Delete one.`,
                { subject: 'snapshot-policy' },
              )
            }
            await rows
              .insertInto('snapshotPolicy')
              .values({
                ...{ id: policyId, projectId, regionId, name, cron, timeZone, keepCount, disks },
                ...{ machineIds: JSON.stringify(machineIds), waitingMachineIds: '[]' },
                ...{ creator: caller.userName, isEnabled: input.isEnabled ? 1 : 0 },
                ...{ lastDueAtMs: null, createdAtMs: clock() },
              })
              .execute()
          })
          return { policyId }
        },
      )
    },

    async list(caller, filter, paging) {
      const { ids, regionId } = filter
      const resource = ids?.length === 1 ? `snapshot-policy/${ids[0]}` : 'snapshot-policy/*'
      const projectId = await guard.admit(caller, 'snapshotPolicies.list', target(filter, resource))
      if (ids?.length === 0) return { total: 0, items: [] }
      let query = catalog.rows
        .selectFrom('snapshotPolicy')
        .where('projectId', '=', projectId)
        .where('regionId', '=', regionId)
      if (ids !== undefined) query = query.where('id', 'in', ids)
      const { count } = await query
        .select((q) => q.fn.countAll<number>().as('count'))
        .executeTakeFirstOrThrow()
      const rows = await query
        .selectAll()
        .orderBy('createdAtMs', 'desc')
        .orderBy('id')
        .limit(paging.limit)
        .offset(paging.offset)
        .execute()
      const items = rows.map((row) => {
        const nextDueAtMs = row.isEnabled === 1 ? nextDueMs(row, clock()) : undefined
        return { ...policyOf(row), nextDueAtMs }
      })
      return { total: Number(count), items }
    },

    change(caller, input) {
      const resource = `snapshot-policy/${input.policyId}`
      return guard.change(caller, 'snapshotPolicies.change', target(input, resource), async (projectId) => {
        checkWords(input)
        const where = { projectId, regionId: input.regionId, policyId: input.policyId }
        const before = policyOf(await findPolicy(catalog.rows, where))
        const machineIds = [...new Set(input.machineIds ?? before.machineIds)]
        if (machineIds.length > 0) await admitMachines(caller, input, machineIds)
        if (input.keepCount !== undefined) await admitThinning(caller, input)
        await catalog.transaction(async (rows) => {
          const row = await findPolicy(rows, where)
          const old = policyOf(row)
          const cron = input.cron ?? old.cron
          const timeZone = input.timeZone ?? old.timeZone
          const isEnabled = input.isEnabled ?? old.isEnabled
          const isRescheduled = cron !== old.cron || timeZone !== old.timeZone || isEnabled !== old.isEnabled
          if (isRescheduled) checkTimes({ cron, timeZone }, clock())
          if (input.machineIds !== undefined) await checkMachines(rows, where, machineIds)
          // Times that have passed by the new clock, or while it was off, are no missed ones to be made up for.
          const passedMs = isRescheduled ? lastDueMs({ cron, timeZone }, clock()) : undefined
          const handledMs = old.lastDueAtMs ?? old.createdAtMs
          const ids = input.machineIds === undefined ? old.machineIds : machineIds
          const waiting = (JSON.parse(row.waitingMachineIds) as MachineId[]).filter(
            (id) => isEnabled && ids.includes(id),
          )
          await rows
            .updateTable('snapshotPolicy')
            .set({
              ...{ name: input.name ?? old.name, cron, timeZone, isEnabled: isEnabled ? 1 : 0 },
              ...{ keepCount: input.keepCount ?? old.keepCount, disks: input.disks ?? old.disks },
              ...{ machineIds: JSON.stringify(ids), waitingMachineIds: JSON.stringify(waiting) },
              ...(passedMs !== undefined && passedMs > handledMs ? { lastDueAtMs: passedMs } : {}),
            })
            .where('id', '=', input.policyId)
            .execute()
        })
      })
    },

    remove(caller, input) {
      const resource = `snapshot-policy/${input.policyId}`
      return guard.change(caller, 'snapshotPolicies.remove', target(input, resource), (projectId) =>
        catalog.transaction(async (rows) => {
          await findPolicy(rows, { ...input, projectId })
          await rows.deleteFrom('snapshotPolicy').where('id', '=', input.policyId).execute()
        }),
      )
    },
  }
}
