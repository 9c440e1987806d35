import type { Catalog } from '../catalog/contract.ts'
import { removeRows, seeTo } from './release-image.ts'
import type { Runner } from './runner.ts'

interface Parts {
  readonly catalog: Catalog
  readonly runner: Pick<Runner, 'add' | 'kick' | 'cancel' | 'markCancelled'>
}

/** Disks with more available snapshots of one policy than it keeps, or with failed ones. */
function findCrowded({ rows }: Catalog) {
  return rows
    .selectFrom('snapshot')
    .innerJoin('snapshotPolicy as policy', 'policy.id', 'snapshot.policyId')
    .select(['snapshot.policyId', 'snapshot.diskId', 'policy.keepCount'])
    .where('snapshot.imageId', 'is', null)
    .where('snapshot.state', '!=', 'creating')
    .groupBy(['snapshot.policyId', 'snapshot.diskId', 'policy.keepCount'])
    .having((is) =>
      is.or([
        is(is.fn.countAll(), '>', is.ref('policy.keepCount')),
        is(is.fn.max('snapshot.state'), '=', 'failed'),
      ]),
    )
    .execute()
}

type Crowd = Awaited<ReturnType<typeof findCrowded>>[number]

async function thin({ catalog, runner }: Parts, { policyId, diskId, keepCount }: Crowd): Promise<void> {
  const removal = await catalog.transaction(async (rows) => {
    const newestFirst = await rows
      .selectFrom('snapshot')
      .select(['id', 'projectId', 'regionId', 'state', 'digest', 'taskId'])
      .where('policyId', '=', policyId)
      .where('diskId', '=', diskId)
      .where('imageId', 'is', null)
      .where('state', '!=', 'creating')
      .orderBy('createdAtMs', 'desc')
      .orderBy('id')
      .execute()
    let availableCount = 0
    let failedCount = 0
    const goes = newestFirst.filter(({ state }) => {
      if (state !== 'available') return availableCount > 0 || failedCount++ > 0
      availableCount++
      return availableCount > keepCount
    })
    return removeRows(rows, runner, { snapshot: goes })
  })
  await seeTo(runner, removal)
}

/**
 * Of the snapshots that policies made: the oldest available ones of a disk beyond those to keep go, and all failed ones
 * but the newest, which goes as well once a newer one has made up for it. Users' own and those that belong to images count
 * not and stay.
 */
export async function thinSnapshots(parts: Parts): Promise<void> {
  for (const crowd of await findCrowded(parts.catalog)) await thin(parts, crowd)
}
