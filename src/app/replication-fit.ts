import { matchesWildcard } from '../access/wildcard.ts'
import type { Rows } from '../catalog/contract.ts'
import type { ProjectId, RegionId } from '../image/ids.ts'
import type { Image } from '../image/image.ts'
import { listAncestors } from './lineage.ts'
import { filterOf, NOTHING, type RuleRow } from './replication-row.ts'

type Available = Image & { readonly state: { readonly at: 'available' } }

/** A copy of a copy of a copy: further back nobody looks. */
const CHAIN_MAX = 100

/** Whether an available image of the rule's place is one of those that it copies. */
export async function fitsFilter(rows: Rows, rule: RuleRow, image: Available): Promise<boolean> {
  const { namePattern, tag, familyOf, familyDigest } = filterOf(rule)
  if (namePattern !== undefined && !matchesWildcard(namePattern, image.name)) return false
  if (tag !== undefined && tag !== image.tag) return false
  if (familyOf === undefined || image.id === familyOf || image.state.digest === familyDigest) return true
  const ancestors = await listAncestors(rows, image, image)
  return ancestors.some(({ id, digest }) => id === familyOf || digest === familyDigest)
}

interface Past {
  /** The image, what it is a copy of, and that in turn. */
  readonly imageIds: string[]
  /** Where they are or were. */
  readonly places: Set<string>
}

const placeOf = (projectId: string, regionId: string) => `${projectId} ${regionId}`

/** What is known of an image that is no longer listed: the rules that brought it or copied it. */
async function lookBack(rows: Rows, imageId: string, places: Past['places']): Promise<string | undefined> {
  const passed = await rows
    .selectFrom('replicated')
    // A rule that was removed has left what it brought, though not where to.
    .leftJoin('replicationRule as rule', 'rule.id', 'replicated.ruleId')
    .select(['replicated.imageId', 'replicated.copyId', 'replicated.regionId as targetRegionId'])
    .select(['rule.projectId', 'rule.regionId', 'rule.targetProjectId'])
    .where('replicated.copyId', '!=', NOTHING)
    .where((is) => is.or([is('replicated.copyId', '=', imageId), is('replicated.imageId', '=', imageId)]))
    .execute()
  let sourceId: string | undefined
  for (const one of passed) {
    if (one.copyId === imageId) sourceId = one.imageId
    const { projectId, regionId, targetProjectId } = one
    if (projectId === null || regionId === null || targetProjectId === null) continue
    const isThere = one.copyId === imageId
    places.add(isThere ? placeOf(targetProjectId, one.targetRegionId) : placeOf(projectId, regionId))
  }
  return sourceId
}

async function pastOf(rows: Rows, image: Image): Promise<Past> {
  const past: Past = { imageIds: [image.id], places: new Set([placeOf(image.projectId, image.regionId)]) }
  let id: string | undefined = image.sourceImageId
  while (id !== undefined && !past.imageIds.includes(id) && past.imageIds.length < CHAIN_MAX) {
    past.imageIds.push(id)
    const row = await rows
      .selectFrom('image')
      .select(['projectId', 'regionId', 'origin', 'sourceImageId'])
      .where('id', '=', id)
      .executeTakeFirst()
    if (row === undefined) id = await lookBack(rows, id, past.places)
    else {
      past.places.add(placeOf(row.projectId, row.regionId))
      id = row.origin === 'copy' ? (row.sourceImageId ?? undefined) : undefined
    }
  }
  return past
}

/**
 * The targets that an image must not go into, so that rules do not hand it round: a copy, whoever made it, goes to no place where
 * it or what it is a copy of is or was, nor to one that holds the same content or another copy of these. What is no copy goes
 * everywhere, also beside an equal image of another name.
 */
export async function findLoops(rows: Rows, rule: RuleRow, image: Available, regionIds: readonly RegionId[]) {
  if (image.origin !== 'copy') return []
  const past = await pastOf(rows, image)
  const loops: RegionId[] = []
  for (const regionId of regionIds) {
    if (past.places.has(placeOf(rule.targetProjectId, regionId))) loops.push(regionId)
    else if (await holds(rows, { projectId: rule.targetProjectId as ProjectId, regionId }, past, image)) {
      loops.push(regionId)
    }
  }
  return loops
}

async function holds(
  rows: Rows,
  { projectId, regionId }: { readonly projectId: ProjectId; readonly regionId: RegionId },
  { imageIds }: Past,
  image: Available,
): Promise<boolean> {
  const held = await rows
    .selectFrom('image')
    .select('id')
    .where('regionId', '=', regionId)
    .where('projectId', '=', projectId)
    .where('state', '!=', 'failed')
    .where((is) =>
      is.or([
        is('digest', '=', image.state.digest),
        // A copy that is still being made has no digest yet.
        is.and([is('origin', '=', 'copy'), is('sourceImageId', 'in', imageIds)]),
      ]),
    )
    .executeTakeFirst()
  return held !== undefined
}
