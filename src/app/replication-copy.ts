import assert from 'node:assert/strict'
import type { Catalog, Rows } from '../catalog/contract.ts'
import { Fault } from '../image/fault.ts'
import type { RegionId } from '../image/ids.ts'
import type { Image } from '../image/image.ts'
import type { Caller } from './contract.ts'
import { createCopies } from './copies.ts'
import type { CopyTasks } from './copy-tasks.ts'
import type { Guard } from './guard.ts'
import type { Parts } from './parts.ts'
import type { RuleRow } from './replication-row.ts'

/**
 * Asks for the copies of one image that a rule wants, in the caller's name. That they were asked for is written in the
 * transaction that lists them, so that none is asked for twice and none forgotten, whenever the server ends. Faults as of
 * `Copies.copy`; 'absent' 'replication-rule' if the rule was disabled or removed meanwhile.
 */
export async function copyByRule(
  parts: Parts,
  guard: Guard,
  {
    rule,
    image,
    caller,
    regionIds,
  }: {
    readonly rule: RuleRow
    readonly image: Image
    readonly caller: Caller
    readonly regionIds: readonly RegionId[]
  },
): Promise<void> {
  // A copy's rows are one transaction; this one has more in it, so that the copies need not know of rules.
  const catalog: Catalog = {
    rows: parts.catalog.rows,
    transaction: (work) =>
      parts.catalog.transaction(async (rows) => {
        const made = await work(rows)
        await note(rows, rule, image, made)
        return made
      }),
    close: () => parts.catalog.close(),
  }
  await createCopies({ ...parts, catalog }, guard).copy(caller, {
    projectId: image.projectId,
    regionId: image.regionId,
    imageId: image.id,
    targetProjectId: rule.targetProjectId as Image['projectId'],
    targetRegionIds: regionIds,
  })
}

async function note(rows: Rows, rule: RuleRow, image: Image, made: unknown): Promise<void> {
  assert(typeof made === 'object' && made !== null && 'copies' in made)
  const still = await rows
    .selectFrom('replicationRule')
    .select('id')
    .where('id', '=', rule.id)
    .where('isEnabled', '=', 1)
    .executeTakeFirst()
  if (still === undefined) {
    throw new Fault('absent', 'The rule was disabled or removed meanwhile.', { subject: 'replication-rule' })
  }
  const { copies } = made as CopyTasks
  await rows
    .insertInto('replicated')
    .values(
      copies.map(({ regionId, imageId }) => ({
        ...{ ruleId: rule.id, imageId: image.id, regionId, copyId: imageId, atMs: image.updatedAtMs },
      })),
    )
    .execute()
}
