import { createHash } from 'node:crypto'
import type { CopyWay } from '../image/copy.ts'
import { Fault } from '../image/fault.ts'
import type { ProjectId, RegionId } from '../image/ids.ts'
import { PRIORITY_MAX } from '../tasks/gates.ts'
import type { Caller } from './caller.ts'
import type { CopyWish } from './copy-contract.ts'
import type { CopyOrigin } from './copy-origin.ts'
import type { Parts } from './parts.ts'

const TARGETS_MAX = 100

function refuseNumber(field: string, value: number | undefined, min: number, max: number): void {
  if (value === undefined || (Number.isSafeInteger(value) && value >= min && value <= max)) return
  throw new Fault('invalid', `'${field}' takes a whole number from ${min} to ${max}.`, { field })
}

/** What is wrong with a request by itself. Fault 'invalid', naming the field; 'absent' 'region'. */
export function refuseWish({ regions }: Pick<Parts, 'regions'>, wish: CopyWish): void {
  const { targetRegionIds } = wish
  const known = new Set(regions.map(({ id }) => id))
  const unknown = targetRegionIds.find((id) => !known.has(id))
  if (unknown !== undefined) {
    throw new Fault('absent', `There is no region ${unknown} here. Ask for the list of regions.`, {
      subject: 'region',
    })
  }
  const isTwice = new Set(targetRegionIds).size !== targetRegionIds.length
  if (targetRegionIds.length === 0 || targetRegionIds.length > TARGETS_MAX || isTwice) {
    throw new Fault('invalid', `Name 1 to ${TARGETS_MAX} target regions, each once.`, { subject: 'region' })
  }
  refuseNumber('priority', wish.priority, 0, PRIORITY_MAX)
  refuseNumber('withinMs', wish.withinMs, 1, Number.MAX_SAFE_INTEGER)
  refuseNumber('bytesPerSecond', wish.bytesPerSecond, 1, Number.MAX_SAFE_INTEGER)
}

/** Fault 'invalid' 'image' reason 'same-place'. */
export function refuseSamePlace(
  { source, own }: CopyOrigin,
  targetProjectId: ProjectId,
  regionId: RegionId,
): void {
  if (source.is !== 'region' || source.regionId !== regionId || own?.projectId !== targetProjectId) return
  throw samePlace()
}

export const samePlace = () =>
  new Fault(
    'invalid',
    'Source and target are the same project and region. Name another region or another project.',
    { subject: 'image', reason: 'same-place' },
  )

/**
 * How the copy comes about. An image of another installation is of no project here, so it may be rekeyed into any. Fault
 * 'invalid' for new keys within one project, which has one set of them.
 */
export function chooseWay(
  { copies }: Pick<Parts, 'copies'>,
  { source, own }: Pick<CopyOrigin, 'source' | 'own'>,
  wish: Pick<CopyWish, 'rekey'>,
  target: { readonly projectId: ProjectId; readonly regionId: RegionId },
): CopyWay {
  const isAcross = own?.projectId !== target.projectId
  if (wish.rekey === true && !isAcross) {
    throw new Fault(
      'invalid',
      'Other keys are for a copy into another project: within one, all images have the same. Name another project, or leave it out.',
      { subject: 'image', reason: 'same-project', field: 'rekey' },
    )
  }
  if (isAcross && (wish.rekey ?? copies.acrossProjects === 'rekey')) return 'rekey'
  return source.is === 'region' && source.regionId === target.regionId ? 'reference' : 'pull'
}

/**
 * What a request is known by when it comes again: hex. The order of the targets is no part of it, for the answer is in the
 * order asked. Users and doors have theirs apart: what one asked, another may not be told.
 */
export function requestKeyOf(caller: Caller, projectId: ProjectId, wish: CopyWish): string {
  const parts = [
    ...['copy', caller.accountId, caller.userId, caller.door, projectId],
    ...[wish.peer, wish.regionId, wish.imageId, wish.targetProjectId ?? projectId],
    [...wish.targetRegionIds].sort(),
    ...[wish.name, wish.description, wish.tag],
    ...[wish.rekey, wish.priority, wish.withinMs, wish.bytesPerSecond],
  ]
  // An absent part is null, which no text is.
  const text = JSON.stringify(parts.map((part) => part ?? null))
  return createHash('sha256').update(text).digest('hex')
}
