import type { Catalog, Rows } from '../catalog/contract.ts'
import { type MachineId, spellId } from '../image/ids.ts'

/** Keeps on the policy's row that it made none of these machines' snapshots, and why: a sentence that says what to do. */
export async function noteFailure(
  rows: Rows,
  policyId: string,
  failure: { readonly machineIds: readonly MachineId[]; readonly reason: string; readonly atMs: number },
): Promise<void> {
  const [first, ...others] = failure.machineIds
  if (first === undefined) return
  const more = others.length === 0 ? '' : ` and ${others.length} more`
  await rows
    .updateTable('snapshotPolicy')
    .set({
      lastFailedAtMs: failure.atMs,
      lastReason: `Machine ${spellId('machine', first, 'native')}${more}: ${failure.reason}`,
    })
    .where('id', '=', policyId)
    // What came later has been noted: what is seen late does not take its place.
    .where((is) => is.or([is('lastFailedAtMs', 'is', null), is('lastFailedAtMs', '<', failure.atMs)]))
    .execute()
}

/** Keeps on the policies' rows what came of the snapshots that they asked for: those may be gone later. */
export async function noteOutcomes({ rows }: Pick<Catalog, 'rows'>): Promise<void> {
  const ended = await rows
    .selectFrom('snapshot')
    .select(({ fn }) => ['policyId', 'state', fn.max<number>('updatedAtMs').as('atMs')])
    .where('policyId', 'is not', null)
    .where('state', '!=', 'creating')
    .groupBy(['policyId', 'state'])
    .execute()
  for (const { policyId, state, atMs } of ended) {
    if (policyId === null) continue
    if (state === 'available') {
      await rows
        .updateTable('snapshotPolicy')
        .set({ lastDoneAtMs: atMs })
        .where('id', '=', policyId)
        .where((is) => is.or([is('lastDoneAtMs', 'is', null), is('lastDoneAtMs', '<', atMs)]))
        .execute()
      continue
    }
    const failed = await rows
      .selectFrom('snapshot')
      .select(['machineId', 'reason'])
      .where('policyId', '=', policyId)
      .where('state', '=', state)
      .where('updatedAtMs', '=', atMs)
      .executeTakeFirst()
    if (failed === undefined) continue
    const machineIds = [failed.machineId as MachineId]
    await noteFailure(rows, policyId, { machineIds, reason: failed.reason ?? '', atMs })
  }
}
