import type { Selectable } from 'kysely'
import type { Rows } from '../catalog/contract.ts'
import type { Schema } from '../catalog/schema.ts'
import type { ReplicationFilter, ReplicationRule } from '../image/copy.ts'
import { Fault } from '../image/fault.ts'
import type { Digest, ProjectId, RegionId } from '../image/ids.ts'

export type RuleRow = Selectable<Schema['replicationRule']>

/** As it is kept: the image that a family is of may be deleted, and its family goes on. */
export interface KeptFilter extends ReplicationFilter {
  readonly familyDigest?: Digest
}

/**
 * In the place of a region: every target is meant; in the place of a copy: there is none. A row with both says that nothing is
 * left to be done for an image; one without a copy alone, that it does not go into that target.
 */
export const NOTHING = ''

/**
 * Clocks are set back at times: an image counts as new though its time is so much before the rule's. Those that were there when
 * the rule began have rows that say so.
 */
const CLOCK_SLACK_MS = 24 * 60 * 60 * 1000

export const filterOf = (row: Pick<RuleRow, 'filter'>) => JSON.parse(row.filter) as KeptFilter
export const targetsOf = (row: Pick<RuleRow, 'targetRegionIds'>) =>
  JSON.parse(row.targetRegionIds) as RegionId[]

export function ruleOf(row: RuleRow): ReplicationRule {
  const { familyDigest: _digest, ...filter } = filterOf(row)
  return {
    ...{ id: row.id, projectId: row.projectId as ProjectId, regionId: row.regionId as RegionId },
    ...{ name: row.name, filter, targetProjectId: row.targetProjectId as ProjectId },
    ...{ targetRegionIds: targetsOf(row), keepCount: row.keepCount, isEnabled: row.isEnabled === 1 },
    ...{ creator: row.creator, createdAtMs: row.createdAtMs },
    lastDoneAtMs: row.lastDoneAtMs ?? undefined,
    lastFailedAtMs: row.lastFailedAtMs ?? undefined,
    lastReason: row.lastReason ?? undefined,
  }
}

/** Fault 'absent' 'replication-rule'. */
export async function findRule(rows: Rows, id: string, projectId: ProjectId): Promise<RuleRow> {
  const row = await rows
    .selectFrom('replicationRule')
    .selectAll()
    .where('id', '=', id)
    .where('projectId', '=', projectId)
    .executeTakeFirst()
  if (row !== undefined) return row
  throw new Fault('absent', 'There is no such replication rule in this project. List the rules.', {
    subject: 'replication-rule',
  })
}

/** The images that a rule has still to do something for, whether they fit it or not, in the order in which they came. */
export function openImages(rows: Rows, rule: Pick<RuleRow, 'id' | 'projectId' | 'regionId' | 'seenUntilMs'>) {
  return rows
    .selectFrom('image')
    .where('image.regionId', '=', rule.regionId)
    .where('image.projectId', '=', rule.projectId)
    .where('image.kind', '=', 'custom')
    .where('image.state', '=', 'available')
    .where('image.updatedAtMs', '>=', rule.seenUntilMs - CLOCK_SLACK_MS)
    .where(({ not, exists, selectFrom }) =>
      not(
        exists(
          selectFrom('replicated')
            .select('replicated.imageId')
            .where('replicated.ruleId', '=', rule.id)
            .whereRef('replicated.imageId', '=', 'image.id')
            .where('replicated.regionId', '=', NOTHING),
        ),
      ),
    )
    .orderBy('image.updatedAtMs')
    .orderBy('image.id')
}

/** That nothing is to be done for an image: in one target, or in all (`NOTHING`). */
export interface Settled {
  readonly image: { readonly id: string; readonly updatedAtMs: number }
  readonly regionId: RegionId | typeof NOTHING
}

const WRITE_COUNT = 500

/** May be written twice. */
export async function settle(rows: Rows, ruleId: string, settled: readonly Settled[]): Promise<void> {
  for (let i = 0; i < settled.length; i += WRITE_COUNT) {
    const values = settled.slice(i, i + WRITE_COUNT).map(({ image, regionId }) => {
      return { ruleId, imageId: image.id, regionId, copyId: NOTHING, atMs: image.updatedAtMs }
    })
    await rows
      .insertInto('replicated')
      .values(values)
      .onConflict((on) => on.doNothing())
      .execute()
  }
}

/** In the transaction that makes the rule or enables it: what is there already is not new. */
export async function settleAll(rows: Rows, rule: Parameters<typeof openImages>[1]): Promise<void> {
  const there = await openImages(rows, rule).select(['image.id', 'image.updatedAtMs']).execute()
  await settle(
    rows,
    rule.id,
    there.map((image) => ({ image, regionId: NOTHING })),
  )
}
