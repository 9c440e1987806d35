import { sql } from 'kysely'
import type { Rows } from '../catalog/contract.ts'
import { Fault } from '../image/fault.ts'
import type { ImageId, SnapshotId } from '../image/ids.ts'

/** What a project is charged for. */
export type Charged =
  | { readonly is: 'image'; readonly id: ImageId }
  | { readonly is: 'snapshot'; readonly id: SnapshotId }

const CHARGED = ['image', 'snapshot'] as const

/**
 * What a project is charged: the bytes that are not zero of its available images and snapshots in all regions, before
 * deduplication, so that it says nothing of what others store, what is reserved for those being made, and for files that
 * are being received.
 */
export async function chargedBytes(rows: Rows, projectId: string, without?: string): Promise<number> {
  let bytes = 0
  for (const noun of CHARGED) {
    let query = rows
      .selectFrom(noun)
      .select(
        sql<number | null>`sum(case state when 'available' then ${sql.ref('dataBytes')}
        when 'creating' then ${sql.ref('reservedBytes')} else 0 end)`.as('bytes'),
      )
      .where('projectId', '=', projectId)
    if (without !== undefined) query = query.where('id', '!=', without)
    bytes += Number((await query.executeTakeFirstOrThrow()).bytes ?? 0)
  }
  let uploads = rows
    .selectFrom('upload')
    .select((q) => q.fn.sum<number | null>('reservedBytes').as('bytes'))
    .where('projectId', '=', projectId)
    .where('state', '=', 'receiving')
  if (without !== undefined) uploads = uploads.where('id', '!=', without)
  return bytes + Number((await uploads.executeTakeFirstOrThrow()).bytes ?? 0)
}

/** Bytes; null for any number. */
export async function quotaOf(rows: Rows, projectId: string): Promise<number | null> {
  const row = await rows
    .selectFrom('project')
    .select('quotaBytes')
    .where('id', '=', projectId)
    .executeTakeFirst()
  return row?.quotaBytes ?? null
}

function exceeded(projectId: string, charged: number, wanted: number | undefined, quota: number): Fault {
  const more = wanted === undefined ? '' : `, ${wanted} bytes more are wanted`
  return new Fault(
    'full',
    `Project ${projectId} is charged ${charged} bytes${more}, and its quota is ${quota} bytes. ` +
      'Delete images or snapshots of it, or have its quota raised.',
    { subject: 'project', reason: 'quota' },
  )
}

/**
 * To be called in the transaction that charges. Throws Fault 'full' 'project' reason 'quota' if `wantedBytes` more
 * than what is charged (`without` one image or snapshot) exceed the project's quota (I7).
 */
export async function refuseAboveQuota(
  rows: Rows,
  projectId: string,
  wantedBytes: number,
  without?: string,
): Promise<void> {
  const quota = await quotaOf(rows, projectId)
  if (quota === null) return
  const charged = await chargedBytes(rows, projectId, without)
  if (charged + wantedBytes > quota) throw exceeded(projectId, charged, wantedBytes, quota)
}

/** For images whose size is not known yet: the same fault if the quota is used up already. */
export async function refuseWhenUsedUp(rows: Rows, projectId: string): Promise<void> {
  const quota = await quotaOf(rows, projectId)
  if (quota === null) return
  const charged = await chargedBytes(rows, projectId)
  if (charged >= quota) throw exceeded(projectId, charged, undefined, quota)
}

/** Charges what is being made, in place of what was reserved for it before. Inside a transaction. */
export async function reserve(rows: Rows, { is, id }: Charged, wantedBytes: number): Promise<void> {
  const row = await rows
    .selectFrom(is)
    .select('projectId')
    .where('id', '=', id)
    .where('state', '=', 'creating')
    .executeTakeFirst()
  if (row === undefined) {
    throw new Fault('conflict', `The ${is} was deleted before it was made.`, { subject: is })
  }
  await refuseAboveQuota(rows, row.projectId, wantedBytes, id)
  await rows.updateTable(is).set({ reservedBytes: wantedBytes }).where('id', '=', id).execute()
}

/** What is wrong with the charges (I7), of every project that has images or snapshots in the region. */
export async function chargeProblems(rows: Rows, regionId: string): Promise<string[]> {
  const projects = await rows
    .selectFrom('project')
    .select(['id', 'quotaBytes', 'chargedAtQuotaBytes'])
    .where((is) =>
      is.or(
        CHARGED.map((noun) =>
          is('id', 'in', is.selectFrom(noun).select('projectId').where('regionId', '=', regionId)),
        ),
      ),
    )
    .execute()
  const problems: string[] = []
  for (const { id, quotaBytes, chargedAtQuotaBytes } of projects) {
    const charged = await chargedBytes(rows, id)
    // A quota may be set below what there is; from then on the charge only falls, until it fits.
    if (quotaBytes !== null && charged > Math.max(quotaBytes, chargedAtQuotaBytes ?? 0)) {
      problems.push(`I7: project ${id} is charged ${charged} bytes, above its quota of ${quotaBytes}`)
    }
  }
  for (const noun of CHARGED) {
    const kept = await rows
      .selectFrom(noun)
      .select('id')
      .where('regionId', '=', regionId)
      .where('state', '!=', 'creating')
      .where('reservedBytes', '!=', 0)
      .execute()
    problems.push(...kept.map(({ id }) => `I7: ${noun} ${id} is not being made and reserves bytes`))
  }
  return problems
}
