import { Fault } from '../image/fault.ts'
import type { Digest, ImageId, ProjectId, RegionId, TaskId } from '../image/ids.ts'
import type { TaskKind } from '../image/task.ts'
import { type CollectInput, findLive } from '../tasks/collect-garbage.ts'
import { chargedBytes } from '../tasks/quota.ts'
import type { ScrubInput } from '../tasks/scrub-region.ts'
import type { App, ImageUsage, ProjectUsage, StoreUsage } from './contract.ts'
import { type Guard, isAdmitted } from './guard.ts'
import type { Parts } from './parts.ts'

/** The operator's work on the regions' stores, and what it looks like to those who fill them. */
export function createStore(parts: Parts, guard: Guard): App['store'] {
  const { catalog, runner, jobs, upkeep } = parts

  /** One task for each region, all or none; a region takes one of a kind at a time. */
  async function addToAll(
    kind: TaskKind,
    projectId: ProjectId,
    regionIds: readonly RegionId[],
    inputOf: (regionId: RegionId) => object,
  ): Promise<{ taskIds: TaskId[] }> {
    const taskIds = await catalog.transaction(async (rows) => {
      const made: TaskId[] = []
      for (const regionId of new Set(regionIds)) {
        const live = await findLive(rows, [kind], regionId)
        if (live !== undefined) {
          throw new Fault(
            'conflict',
            `Task task-${live} (${kind}) is at work in ${regionId}. Wait for it, or cancel it.`,
            { subject: 'task' },
          )
        }
        made.push(await runner.add(rows, { kind, projectId, regionId, input: inputOf(regionId) }))
      }
      return made
    })
    for (const id of taskIds) runner.kick(id)
    return { taskIds }
  }

  // A region holds the images of all projects, and the reports name what it holds.
  const target = (regionIds: readonly RegionId[]) => ({
    resource: regionIds.map((id) => `region/${id}`),
    reach: 'account' as const,
  })

  return {
    collect(caller, { regionIds, isDryRun, graceMs = upkeep.gcGraceMs }) {
      return guard.change(caller, 'store.collect', target(regionIds), (projectId) =>
        addToAll('collect-garbage', projectId, regionIds, (regionId): CollectInput => {
          return { regionId, isDryRun, graceMs }
        }),
      )
    },

    scrub(caller, { regionIds, bytesPerSecond = upkeep.scrubBytesPerSecond, all, repair }) {
      return guard.change(caller, 'store.scrub', target(regionIds), (projectId) =>
        addToAll('scrub-region', projectId, regionIds, (regionId): ScrubInput => {
          const due = all ? {} : { olderThanMs: upkeep.scrubEveryMs }
          return { regionId, bytesPerSecond, ...due, isRepairing: repair }
        }),
      )
    },

    async usage(caller, { projectId: named, regionIds }, signal) {
      const seesAll = await isAdmitted(guard, caller, 'store.usage', target(regionIds))
      const projectId =
        seesAll && named === undefined
          ? undefined
          : await guard.admit(caller, 'store.usage', {
              projectId: named,
              resource: regionIds.map((id) => `region/${id}`),
            })
      const images: ImageUsage[] = []
      const regions: StoreUsage['regions'][number][] = []
      for (const id of regionIds) {
        const { images: held, ...bytes } = await jobs.usage(id, signal)
        if (seesAll) regions.push({ id, ...bytes })
        const byDigest = new Map(held.map((image) => [image.digest, image]))
        images.push(...(await listUsage(id, projectId, byDigest)))
      }
      return { images, projects: await sumUp(caller.accountId, projectId, images), regions }
    },
  }

  async function listUsage(
    regionId: RegionId,
    projectId: ProjectId | undefined,
    byDigest: ReadonlyMap<Digest, { logicalBytes: number; storedBytes: number; uniqueBytes: number }>,
  ): Promise<ImageUsage[]> {
    const rows = await catalog.rows
      .selectFrom('image')
      .select(['id', 'name', 'projectId', 'digest', 'dataBytes'])
      .where('regionId', '=', regionId)
      .where('state', '=', 'available')
      .orderBy('createdAtMs', 'desc')
      .orderBy('id')
      .execute()
    const snapshots = await catalog.rows
      .selectFrom('snapshot')
      .select('digest')
      .where('regionId', '=', regionId)
      .where('state', '=', 'available')
      .execute()
    const sameContent = Map.groupBy([...rows, ...snapshots], (row) => row.digest ?? '')
    return rows
      .filter((row) => projectId === undefined || row.projectId === projectId)
      .flatMap(({ id, name, projectId: ownerId, digest, dataBytes }) => {
        const found = byDigest.get(digest as Digest)
        if (found === undefined) return []
        const { logicalBytes, storedBytes } = found
        // The store knows contents: of two images, or image and snapshot, with the same one neither has bytes of its own.
        const isAlone = sameContent.get(digest ?? '')?.length === 1
        const uniqueBytes = isAlone ? found.uniqueBytes : 0
        return {
          ...{ id: id as ImageId, name, projectId: ownerId as ProjectId, regionId },
          ...{ logicalBytes, dataBytes, storedBytes, uniqueBytes, sharedBytes: storedBytes - uniqueBytes },
        }
      })
  }

  async function sumUp(
    accountId: string,
    projectId: ProjectId | undefined,
    images: readonly ImageUsage[],
  ): Promise<ProjectUsage[]> {
    const { rows } = catalog
    let query = rows.selectFrom('project').selectAll().where('accountId', '=', accountId)
    if (projectId !== undefined) query = query.where('id', '=', projectId)
    const projects = await query.orderBy('createdAtMs').orderBy('id').execute()
    return Promise.all(
      projects.map(async ({ id, name, quotaBytes }) => {
        const own = images.filter((image) => image.projectId === id)
        const sum = (of: 'logicalBytes' | 'dataBytes' | 'uniqueBytes' | 'sharedBytes') =>
          own.reduce((bytes, image) => bytes + image[of], 0)
        return {
          ...{ id: id as ProjectId, name, imageCount: own.length },
          logicalBytes: sum('logicalBytes'),
          dataBytes: sum('dataBytes'),
          uniqueBytes: sum('uniqueBytes'),
          sharedBytes: sum('sharedBytes'),
          chargedBytes: await chargedBytes(rows, id),
          quotaBytes,
        }
      }),
    )
  }
}
