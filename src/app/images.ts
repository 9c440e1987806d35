import { Fault } from '../image/fault.ts'
import type { ImageId, ProjectId, RegionId } from '../image/ids.ts'
import { removeRows, seeTo } from '../tasks/release-image.ts'
import type { App, Caller, ImageFilter } from './contract.ts'
import { findImage } from './find.ts'
import type { Guard } from './guard.ts'
import { listAncestors } from './lineage.ts'
import type { Parts } from './parts.ts'
import { imagesOf } from './rows.ts'

/** What images are there, and their removal. */
export function createImages(
  parts: Parts,
  guard: Guard,
): Pick<App['images'], 'list' | 'get' | 'lineage' | 'remove'> {
  const { catalog, runner } = parts

  const target = (
    input: { regionId: RegionId; projectId?: ProjectId | undefined },
    resource: string | readonly string[],
  ) => ({
    regionId: input.regionId,
    projectId: input.projectId,
    resource,
  })

  const query = (filter: ImageFilter, projectId: ProjectId) => {
    let q = catalog.rows
      .selectFrom('image')
      .where('regionId', '=', filter.regionId)
      .where((is) => is.or([is('projectId', '=', projectId), is('kind', '=', 'base')]))
    if (filter.ids !== undefined) q = q.where('id', 'in', filter.ids)
    if (filter.kinds !== undefined) q = q.where('kind', 'in', filter.kinds)
    if (filter.states !== undefined) q = q.where('state', 'in', filter.states)
    if (filter.osType !== undefined) q = q.where('osType', '=', filter.osType)
    if (filter.name !== undefined) q = q.where('name', '=', filter.name)
    if (filter.tag !== undefined) q = q.where('tag', '=', filter.tag)
    return q
  }

  /** A base image is every project's: whoever removes one needs the right that making one takes. */
  async function admitForBase(
    caller: Caller,
    input: { readonly regionId: RegionId; readonly imageIds: readonly ImageId[] },
    projectId: ProjectId,
  ): Promise<void> {
    if (caller.door !== 'native') return
    const base = await catalog.rows
      .selectFrom('image')
      .select('id')
      .where('id', 'in', input.imageIds)
      .where('kind', '=', 'base')
      .execute()
    if (base.length === 0) return
    await guard.admit(caller, 'images.remove', {
      regionId: input.regionId,
      projectId,
      resource: base.map(({ id }) => `image/${id}`),
      reach: 'account',
    })
  }

  return {
    async list(caller, filter, paging) {
      const projectId = await guard.admit(
        caller,
        'images.list',
        target(filter, filter.ids?.length ? filter.ids.map((id) => `image/${id}`) : 'image/*'),
      )
      if (filter.ids?.length === 0) return { total: 0, items: [] }
      const count = await query(filter, projectId)
        .select((q) => q.fn.countAll<number>().as('count'))
        .executeTakeFirstOrThrow()
      const rows = await query(filter, projectId)
        .selectAll()
        .orderBy('createdAtMs', 'desc')
        .orderBy('id')
        .limit(paging.limit)
        .offset(paging.offset)
        .execute()
      return { total: Number(count.count), items: await imagesOf(catalog.rows, rows) }
    },

    async get(caller, where) {
      const projectId = await guard.admit(caller, 'images.list', target(where, `image/${where.imageId}`))
      return findImage(catalog.rows, { ...where, projectId })
    },

    async lineage(caller, where) {
      const projectId = await guard.admit(caller, 'images.list', target(where, `image/${where.imageId}`))
      return listAncestors(
        catalog.rows,
        { projectId, regionId: where.regionId },
        await findImage(catalog.rows, { ...where, projectId }),
      )
    },

    remove(caller, input) {
      const resources = [...new Set(input.imageIds)].map((id) => `image/${id}`)
      return guard.change(caller, 'images.remove', target(input, resources), async (projectId) => {
        await admitForBase(caller, input, projectId)
        const removal = await catalog.transaction(async (rows) => {
          const images = []
          for (const imageId of new Set(input.imageIds)) {
            const image = await findImage(rows, { regionId: input.regionId, projectId, imageId })
            if (image.kind !== 'custom' && (caller.door !== 'native' || image.projectId !== projectId)) {
              throw new Fault('invalid', 'A base image belongs to the operator and cannot be deleted here.', {
                subject: 'image',
                reason: 'not-custom',
              })
            }
            images.push(imageId)
          }
          if (images.length === 0) return { releases: [], idle: [] }
          const linked = await rows
            .selectFrom('snapshot')
            .selectAll()
            .where('imageId', 'in', images)
            .execute()
          const held = await rows.selectFrom('image').selectAll().where('id', 'in', images).execute()
          return removeRows(rows, runner, { image: held, snapshot: linked })
        })
        await seeTo(runner, removal)
      })
    },
  }
}
