import type { Rows } from '../catalog/contract.ts'
import type { Digest, ImageId, ProjectId, RegionId } from '../image/ids.ts'
import type { Image } from '../image/image.ts'
import type { Ancestor } from './contract.ts'

const ANCESTORS_MAX = 100

interface Viewer {
  readonly projectId: ProjectId
  readonly regionId: RegionId
}

/** A content, and where to look next. `sourceImageId` undefined: nothing is known of how it came to be. */
interface Found extends Ancestor {
  readonly parent: string | null
  readonly sourceImageId: string | null | undefined
}

/** What an image was made from, nearest first: contents, each by the name that the project knows it by. */
export async function listAncestors(rows: Rows, viewer: Viewer, image: Image): Promise<Ancestor[]> {
  const seen = new Set<string>(image.state.at === 'available' ? [image.state.digest] : [])
  const visited = new Set<string>()
  const ancestors: Ancestor[] = []
  let parent: string | null = image.parent ?? null
  let sourceImageId: string | null = image.sourceImageId ?? null
  while (ancestors.length < ANCESTORS_MAX) {
    let found: Found | undefined
    if (parent !== null && !seen.has(parent)) found = await findContent(rows, viewer, parent as Digest)
    else if (sourceImageId !== null && !visited.has(sourceImageId)) {
      visited.add(sourceImageId)
      found = await findImageRow(rows, viewer, sourceImageId)
    }
    if (found === undefined) break
    const { id, digest, name } = found
    // The source of a copy has its content: no ancestor, but the way to some.
    if (!seen.has(digest)) ancestors.push({ id, digest, name })
    seen.add(digest)
    parent = found.parent
    // Behind a content that tells nothing there may still be the image that its machine was made of.
    if (found.sourceImageId !== undefined) sourceImageId = found.sourceImageId
  }
  return ancestors
}

const images = (rows: Rows, { projectId }: Viewer) =>
  rows
    .selectFrom('image')
    .select(['id', 'regionId', 'digest', 'name', 'parent', 'sourceImageId'])
    .where('state', '=', 'available')
    .where((is) => is.or([is('projectId', '=', projectId), is('kind', '=', 'base')]))
    .orderBy('createdAtMs')
    .orderBy('id')

type Row = Awaited<ReturnType<ReturnType<typeof images>['execute']>>[number]

const foundOf = ({ id, digest, regionId, ...row }: Row, viewer: Viewer): Found => ({
  id: regionId === viewer.regionId ? (id as ImageId) : undefined,
  digest: digest as Digest,
  ...{ name: row.name, parent: row.parent, sourceImageId: row.sourceImageId },
})

async function findImageRow(rows: Rows, viewer: Viewer, id: string): Promise<Found | undefined> {
  const row = await images(rows, viewer).where('id', '=', id).executeTakeFirst()
  return row === undefined ? undefined : foundOf(row, viewer)
}

async function findContent(rows: Rows, viewer: Viewer, digest: Digest): Promise<Found> {
  const held = await images(rows, viewer).where('digest', '=', digest).execute()
  const row = held.find(({ regionId }) => regionId === viewer.regionId) ?? held[0]
  if (row !== undefined) return foundOf(row, viewer)
  const snapshot = await rows
    .selectFrom('snapshot')
    .select('name')
    .where('digest', '=', digest)
    .where('projectId', '=', viewer.projectId)
    .executeTakeFirst()
  return { id: undefined, digest, name: snapshot?.name ?? '', parent: null, sourceImageId: undefined }
}
