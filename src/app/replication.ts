import type { Rows } from '../catalog/contract.ts'
import type { ReplicationFilter } from '../image/copy.ts'
import { Fault } from '../image/fault.ts'
import { type ImageId, newCore, type ProjectId, type RegionId } from '../image/ids.ts'
import type { App, Caller } from './contract.ts'
import { refuseWish, samePlace } from './copy-wish.ts'
import { findImage } from './find.ts'
import type { Guard } from './guard.ts'
import { parseWord } from './new-image.ts'
import type { Parts } from './parts.ts'
import { findRule, type KeptFilter, NOTHING, ruleOf, settleAll } from './replication-row.ts'
import { refuseShortName } from './short-name.ts'
import type { InProject } from './wishes.ts'

const RULES_PER_PROJECT_MAX = 100
const KEEP_COUNT_MAX = 1000
const WORD_CHARS_MAX = 128
const ANY = 'replication-rule/*'

type NewRule = Parameters<App['replication']['create']>[1]

const invalid = (field: string, message: string) => new Fault('invalid', message, { field })

/** Throws Fault 'invalid' with the field for what no rule may have. */
function checkWords({ name, filter, keepCount }: NewRule): void {
  refuseShortName('rule', name)
  for (const field of ['namePattern', 'tag'] as const) {
    const text = filter[field]
    if (text !== undefined && (text.length < 1 || text.length > WORD_CHARS_MAX || /\p{Cc}/u.test(text))) {
      throw invalid(field, `'${field}' takes 1 to ${WORD_CHARS_MAX} characters, no control characters.`)
    }
  }
  const isCount = Number.isInteger(keepCount) && Number(keepCount) >= 1 && Number(keepCount) <= KEEP_COUNT_MAX
  if (keepCount !== undefined && !isCount) {
    throw invalid('keepCount', `A rule keeps 1 to ${KEEP_COUNT_MAX} copies in each target, or all.`)
  }
}

/** The standing orders to copy; `createReplication` follows them. */
export function createReplicationRules(
  { catalog, clock, regions }: Pick<Parts, 'catalog' | 'clock' | 'regions'>,
  guard: Guard,
): App['replication'] {
  const targetOf = ({ projectId, id }: InProject & { readonly id: string }) => ({
    ...{ projectId, resource: `replication-rule/${id}` },
  })

  interface Ends {
    readonly projectId: ProjectId
    readonly regionId: RegionId
    readonly targetProjectId: ProjectId
    readonly targetRegionIds: readonly RegionId[]
    readonly keepCount: number | null
  }

  /** What a rule does by itself, whoever lets it has to have the right to do by hand: to copy, and to delete what is not kept. */
  async function admitEnds(caller: Caller, { projectId, regionId, ...rule }: Ends): Promise<void> {
    const resource = 'image/*'
    await guard.admit(caller, 'images.copy', { projectId, regionId, resource })
    for (const targetRegionId of rule.targetRegionIds) {
      const there = { projectId: rule.targetProjectId, regionId: targetRegionId, resource }
      await guard.admit(caller, 'images.copy', there)
      if (rule.keepCount !== null) await guard.admit(caller, 'images.remove', there)
    }
  }

  /** Faults as of a copy: 'absent' 'region', 'invalid' 'region', 'invalid' 'image' reason 'same-place'. */
  function refusePlaces({ projectId, regionId, targetProjectId, targetRegionIds }: Ends): void {
    const imageId = '' as ImageId
    refuseWish({ regions }, { regionId, imageId, targetRegionIds })
    // A source is judged as a target is.
    refuseWish({ regions }, { regionId, imageId, targetRegionIds: [regionId] })
    if (projectId !== targetProjectId || !targetRegionIds.includes(regionId)) return
    throw samePlace()
  }

  /** Fault 'absent' 'image' for a family of what nobody may see; 'conflict' 'image' while it is not available. */
  async function keptFilter(
    rows: Rows,
    { namePattern, tag, familyOf }: ReplicationFilter,
    where: { readonly projectId: ProjectId; readonly regionId: RegionId },
  ): Promise<KeptFilter> {
    const words = {
      ...(namePattern === undefined ? {} : { namePattern }),
      ...(tag === undefined ? {} : { tag: parseWord(tag, 'tag') }),
    }
    if (familyOf === undefined) return words
    const { state } = await findImage(rows, { ...where, imageId: familyOf })
    if (state.at === 'available') return { ...words, familyOf, familyDigest: state.digest }
    const message = `The image that the family is of is ${state.at}. Make the rule once it is available.`
    throw new Fault('conflict', message, { subject: 'image' })
  }

  return {
    create(caller, input) {
      const { regionId, name, targetRegionIds, keepCount = null } = input
      const target = { projectId: input.projectId, regionId, resource: ANY }
      return guard.change(caller, 'replication.create', target, async (projectId) => {
        checkWords(input)
        const targetProjectId = input.targetProjectId ?? projectId
        const ends = { projectId, regionId, targetProjectId, targetRegionIds, keepCount }
        refusePlaces(ends)
        await admitEnds(caller, ends)
        const id = newCore()
        await catalog.transaction(async (rows) => {
          const held = await rows
            .selectFrom('replicationRule')
            .select((q) => q.fn.countAll<number>().as('count'))
            .where('projectId', '=', projectId)
            .executeTakeFirstOrThrow()
          if (Number(held.count) >= RULES_PER_PROJECT_MAX) {
            const message = `Project ${projectId} has its ${RULES_PER_PROJECT_MAX} replication rules. Delete one.`
            throw new Fault('full', message, { subject: 'replication-rule' })
          }
          const filter = await keptFilter(rows, input.filter, { projectId, regionId })
          const nowMs = clock()
          await rows
            .insertInto('replicationRule')
            .values({
              ...{ id, projectId, regionId, name, filter: JSON.stringify(filter), targetProjectId },
              ...{ targetRegionIds: JSON.stringify(targetRegionIds), keepCount, isEnabled: 1 },
              ...{ creator: caller.userName, caller: JSON.stringify(caller) },
              ...{ createdAtMs: nowMs, seenUntilMs: nowMs },
              ...{ lastDoneAtMs: null, lastFailedAtMs: null, lastReason: null },
            })
            .execute()
          await settleAll(rows, { id, projectId, regionId, seenUntilMs: nowMs })
        })
        return { id }
      })
    },

    async list(caller, filter, paging) {
      const { regionId } = filter
      const target = { projectId: filter.projectId, regionId, resource: ANY }
      const projectId = await guard.admit(caller, 'replication.list', target)
      const query = catalog.rows
        .selectFrom('replicationRule')
        .where('projectId', '=', projectId)
        .where('regionId', '=', regionId)
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
      return { total: Number(count), items: rows.map(ruleOf) }
    },

    async get(caller, where) {
      const projectId = await guard.admit(caller, 'replication.list', targetOf(where))
      return ruleOf(await findRule(catalog.rows, where.id, projectId))
    },

    async change(caller, input) {
      await guard.change(caller, 'replication.change', targetOf(input), async (projectId) => {
        const before = await findRule(catalog.rows, input.id, projectId)
        if (input.isEnabled) await admitEnds(caller, ruleOf(before))
        await catalog.transaction(async (rows) => {
          const row = await findRule(rows, input.id, projectId)
          if ((row.isEnabled === 1) === input.isEnabled) return
          const seenUntilMs = clock()
          await rows
            .updateTable('replicationRule')
            .set(input.isEnabled ? { isEnabled: 1, seenUntilMs } : { isEnabled: 0 })
            .where('id', '=', row.id)
            .execute()
          if (input.isEnabled) await settleAll(rows, { ...row, seenUntilMs })
        })
      })
    },

    async remove(caller, input) {
      await guard.change(caller, 'replication.remove', targetOf(input), (projectId) =>
        catalog.transaction(async (rows) => {
          const { id } = await findRule(rows, input.id, projectId)
          await rows.deleteFrom('replicationRule').where('id', '=', id).execute()
          // What it copied stays known for a while: other rules must not carry it back to where it came from.
          await rows.deleteFrom('replicated').where('ruleId', '=', id).where('copyId', '=', NOTHING).execute()
        }),
      )
    },
  }
}
