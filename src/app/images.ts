import type { Rows } from '../catalog/contract.ts'
import { Fault } from '../image/fault.ts'
import type { ImageId, ProjectId, RegionId, TaskId } from '../image/ids.ts'
import type { CopyInput } from '../tasks/copy-image.ts'
import { refuseAboveQuota } from '../tasks/quota.ts'
import { removeRows, seeTo } from '../tasks/release-image.ts'
import type { App, Caller, ImageFilter } from './contract.ts'
import { findImage } from './find.ts'
import type { Guard } from './guard.ts'
import { listAncestors } from './lineage.ts'
import { insertImage } from './new-image.ts'
import type { Parts } from './parts.ts'
import { imagesOf } from './rows.ts'

/** Everything of images but their making from machines and snapshots. */
export function createImages(
  parts: Parts,
  guard: Guard,
): Omit<App['images'], 'capture' | 'plan' | 'compose' | 'clean' | 'planClean' | 'report' | 'import'> {
  const { catalog, runner } = parts

  const setTask = (rows: Rows, imageId: ImageId, taskId: TaskId) =>
    rows.updateTable('image').set({ taskId }).where('id', '=', imageId).execute()

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
    copy(caller, input) {
      return guard.change(
        caller,
        'images.copy',
        target(input, `image/${input.imageId}`),
        async (projectId) => {
          const targetProjectId = input.targetProjectId ?? projectId
          // The right has to hold at every end: a policy for one region or project alone lets nothing out of it.
          for (const regionId of new Set(input.targetRegionIds)) {
            await guard.admit(caller, 'images.copy', {
              regionId,
              resource: `image/${input.imageId}`,
              projectId: input.targetProjectId ?? input.projectId,
            })
          }
          const made = await catalog.transaction(async (rows) => {
            const source = await findImage(rows, { ...input, projectId })
            if (source.kind !== 'custom') {
              throw new Fault(
                'invalid',
                'Base images are in every region already; only custom images are copied.',
                {
                  subject: 'image',
                  reason: 'not-custom',
                },
              )
            }
            if (source.state.at !== 'available') {
              throw new Fault(
                'conflict',
                `The image is ${source.state.at}; it can be copied once it is available.`,
                {
                  subject: 'image',
                },
              )
            }
            if (targetProjectId === projectId && input.targetRegionIds.includes(input.regionId)) {
              throw new Fault(
                'invalid',
                'Source and target are the same project and region. Name another region or another project.',
                { subject: 'image', reason: 'same-place' },
              )
            }
            // All of them or none: what a copy will hold is known.
            const { dataBytes } = source
            await refuseAboveQuota(rows, targetProjectId, dataBytes * input.targetRegionIds.length)
            const parentId =
              input.targetRegionIds.length > 1
                ? await runner.add(rows, {
                    kind: 'copy-batch',
                    projectId: targetProjectId,
                    regionId: input.regionId,
                    input: {},
                  })
                : undefined
            const copies = []
            for (const regionId of input.targetRegionIds) {
              const imageId = await insertImage(parts, rows, {
                projectId: targetProjectId,
                regionId,
                kind: 'custom',
                origin: 'copy',
                name: input.name ?? source.name,
                description: input.description ?? source.description,
                tag: input.tag ?? source.tag,
                labels: source.labels,
                osType: source.osType,
                osName: source.osName,
                disks: source.disks,
                config: source.config,
                consistency: source.consistency,
                parent: source.parent,
                cleaning: source.cleaning,
                imported: source.imported,
                sourceImageId: source.id,
                reservedBytes: dataBytes,
              })
              const task: CopyInput = {
                imageId,
                digest: source.state.digest,
                sourceRegionId: source.regionId,
                targetRegionId: regionId,
                dataBytes,
              }
              const taskId = await runner.add(rows, {
                kind: 'copy-image',
                projectId: targetProjectId,
                regionId,
                imageId,
                input: task,
                ...(parentId === undefined ? {} : { parentId }),
              })
              await setTask(rows, imageId, taskId)
              copies.push({ regionId, imageId, taskId })
            }
            return { parentId, copies }
          })
          for (const { taskId } of made.copies) runner.kick(taskId)
          if (made.parentId !== undefined) runner.kick(made.parentId)
          const first = made.copies[0]?.taskId
          const taskId = made.parentId ?? first
          if (taskId === undefined)
            throw new Fault('invalid', 'Name at least one target region.', { subject: 'region' })
          return { taskId, copies: made.copies }
        },
      )
    },

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

    async copyProgress(caller, where) {
      const projectId = await guard.admit(
        caller,
        'images.copyProgress',
        target(where, `image/${where.imageId}`),
      )
      const image = await findImage(catalog.rows, { ...where, projectId })
      if (image.origin !== 'copy') {
        throw new Fault(
          'invalid',
          'This image is no copy, so it has no copy progress. List it to see its state.',
          {
            subject: 'image',
            reason: 'not-a-copy',
          },
        )
      }
      if (image.state.at === 'failed') {
        throw new Fault('conflict', `The copy failed: ${image.state.reason}`, {
          subject: 'image',
          reason: 'copy-failed',
        })
      }
      return image.progressPermille
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
