import type { Rows } from '../catalog/contract.ts'
import { Fault, isFault } from '../image/fault.ts'
import type { ImageId, ProjectId, RegionId } from '../image/ids.ts'
import { parseDescription, parseImageName } from '../image/names.ts'
import type { Task } from '../image/task.ts'
import type { PlanCopyInput } from '../tasks/plan-copy.ts'
import { refuseAboveQuota } from '../tasks/quota.ts'
import { removeRows, seeTo } from '../tasks/release-image.ts'
import type { App, Caller } from './contract.ts'
import type { CopyWish } from './copy-contract.ts'
import { refuseTooLong } from './copy-deadline.ts'
import {
  askPeer,
  type CopyableOrigin,
  type CopyOrigin,
  findDamage,
  findOrigin,
  lookAtImage,
  refuseUncopyable,
} from './copy-origin.ts'
import { admitPeer, peersOf } from './copy-peer.ts'
import { retryCopies, sourcesElsewhere } from './copy-retry.ts'
import { addCopyTasks, type CopyTasks, findRepeated, kickCopies, type ListedCopy } from './copy-tasks.ts'
import { chooseWay, refuseSamePlace, refuseWish, requestKeyOf } from './copy-wish.ts'
import { findImage } from './find.ts'
import type { Guard } from './guard.ts'
import { insertImage, parseWord, refuseTooMany } from './new-image.ts'
import type { Parts } from './parts.ts'

type CopyApp = Pick<App['images'], 'copy' | 'planCopy' | 'cancelCopy' | 'copyProgress'>

/**
 * Images that come into regions and projects from others. `retry` is for those who have the guard around it; with a caller it
 * asks for his right to what is copied out of another project or from a peer, which may have been taken away since.
 */
export function createCopies(
  parts: Parts,
  guard: Guard,
): CopyApp & { retry(task: Task, caller?: Caller): Promise<CopyTasks> } {
  const { catalog, runner, clock, copies } = parts

  const target = (where: { regionId: RegionId; projectId?: ProjectId | undefined; imageId: ImageId }) => ({
    ...{ regionId: where.regionId, projectId: where.projectId, resource: `image/${where.imageId}` },
  })
  /** Where it is asked for: a peer's regions are no words of ours. */
  const homeOf = ({ peer, regionId, targetRegionIds: [first] }: CopyWish): RegionId =>
    peer === undefined ? regionId : (first ?? regionId)
  const sourceTarget = (wish: CopyWish) => target({ ...wish, regionId: homeOf(wish) })

  /** The right has to hold at every end: a policy for one region or project alone lets nothing out of it. */
  async function admitTargets(caller: Caller, useCase: 'images.copy' | 'images.planCopy', wish: CopyWish) {
    const projectId = wish.targetProjectId ?? wish.projectId
    for (const regionId of wish.targetRegionIds) {
      await guard.admit(caller, useCase, target({ ...wish, projectId, regionId }))
    }
  }

  const waysOf = (origin: CopyOrigin, wish: CopyWish, projectId: ProjectId) =>
    wish.targetRegionIds.map((regionId) => ({
      regionId,
      way: chooseWay(parts, origin, wish, { projectId, regionId }),
    }))

  /** Lists the image of one copy, as its source is but for what the wish says. */
  const list = (
    rows: Rows,
    { facts, own }: CopyOrigin,
    wish: CopyWish,
    place: { readonly projectId: ProjectId; readonly regionId: RegionId },
  ) =>
    insertImage(parts, rows, {
      ...place,
      ...{ kind: 'custom', origin: 'copy' },
      name: wish.name ?? facts.name,
      description: wish.description ?? facts.description,
      tag: wish.tag ?? facts.tag,
      labels: facts.labels,
      osType: facts.osType,
      osName: facts.osName,
      disks: facts.disks,
      config: facts.config,
      consistency: facts.consistency,
      parent: facts.parent,
      cleaning: facts.cleaning,
      imported: facts.imported,
      sourceImageId: own?.imageId,
      reservedBytes: facts.dataBytes,
    })

  /** What the catalog has against one target, in the words in which it would be refused. */
  async function blockersOf(
    rows: Rows,
    origin: CopyOrigin,
    wish: CopyWish,
    place: { readonly projectId: ProjectId; readonly regionId: RegionId },
    refuseSource: () => void,
  ): Promise<string[]> {
    const blockers: string[] = []
    for (const refuse of [
      refuseSource,
      () => refuseSamePlace(origin, place.projectId, place.regionId),
      () => void parseImageName(wish.name ?? origin.facts.name),
      () => void parseDescription(wish.description ?? origin.facts.description),
      () => void parseWord(wish.tag ?? origin.facts.tag, 'tag'),
      () => refuseTooMany(parts, rows, place),
    ]) {
      try {
        await refuse()
      } catch (error) {
        if (!isFault(error)) throw error
        blockers.push(error.message)
      }
    }
    return blockers
  }

  return {
    copy(caller, wish) {
      return guard.change(caller, 'images.copy', sourceTarget(wish), async (projectId) => {
        refuseWish(parts, wish)
        await admitTargets(caller, 'images.copy', wish)
        await admitPeer(guard, caller, wish.peer, { projectId, regionIds: wish.targetRegionIds })
        const { targetRegionIds, withinMs, bytesPerSecond, priority, peer } = wish
        const targetProjectId = wish.targetProjectId ?? projectId
        const remote = peer === undefined ? undefined : await askPeer(parts, { ...wish, peer })
        const origin = (rows: Rows): Promise<CopyableOrigin> =>
          remote === undefined ? findOrigin(rows, wish, projectId) : Promise.resolve(remote)
        const refuse = (found: CopyOrigin) => {
          for (const regionId of targetRegionIds) refuseSamePlace(found, targetProjectId, regionId)
        }
        const { repeatMs } = copies
        const isRepeatable = caller.door !== 'native' && repeatMs !== undefined
        const requestKey = isRepeatable ? requestKeyOf(caller, projectId, wish) : undefined
        // Before anything else is asked: the source may be gone by now, and the answer is the same.
        const findAnswer = async (rows: Rows) =>
          requestKey === undefined || repeatMs === undefined
            ? undefined
            : findRepeated(rows, requestKey, clock() - repeatMs, targetRegionIds)
        let bytes: readonly (number | null)[] = []
        if ((await findAnswer(catalog.rows)) === undefined) {
          const found = await origin(catalog.rows)
          refuse(found)
          const damage = await findDamage(parts, found)
          if (damage !== undefined) {
            // What was deleted meanwhile is not damaged, but absent.
            await origin(catalog.rows)
            throw damage
          }
          if (withinMs !== undefined) {
            const ways = waysOf(found, wish, targetProjectId)
            bytes = await refuseTooLong(parts, found, ways, { withinMs, bytesPerSecond })
          }
        }
        const made = await catalog.transaction(async (rows) => {
          const repeated = await findAnswer(rows)
          if (repeated !== undefined) return repeated
          const found = await origin(rows)
          refuse(found)
          const { source, digest, facts } = found
          const { dataBytes } = facts
          // All of them or none: what a copy will hold is known.
          await refuseAboveQuota(rows, targetProjectId, dataBytes * targetRegionIds.length)
          const listed: ListedCopy[] = []
          for (const [i, { regionId, way }] of waysOf(found, wish, targetProjectId).entries()) {
            const imageId = await list(rows, found, wish, { projectId: targetProjectId, regionId })
            const limit = bytesPerSecond === undefined ? {} : { bytesPerSecond }
            const totalBytes = bytes[i] ?? undefined
            listed.push({
              ...{ regionId, imageId, input: { digest, source, way, dataBytes, ...limit } },
              ...(totalBytes === undefined ? {} : { totalBytes }),
            })
          }
          return addCopyTasks(runner, rows, targetProjectId, listed as [ListedCopy, ...ListedCopy[]], {
            ...(priority === undefined ? {} : { priority }),
            ...(withinMs === undefined ? {} : { deadlineAtMs: clock() + withinMs }),
            ...(requestKey === undefined ? {} : { requestKey }),
            ...(listed.length > 1 ? { batchRegionId: homeOf(wish) } : {}),
          })
        })
        kickCopies(runner, made)
        return made
      })
    },

    planCopy(caller, wish) {
      return guard.change(caller, 'images.planCopy', sourceTarget(wish), async (projectId) => {
        refuseWish(parts, wish)
        await admitTargets(caller, 'images.planCopy', wish)
        await admitPeer(guard, caller, wish.peer, { projectId, regionIds: wish.targetRegionIds })
        const { bytesPerSecond, withinMs, peer } = wish
        const targetProjectId = wish.targetProjectId ?? projectId
        const remote = peer === undefined ? undefined : await askPeer(parts, { ...wish, peer })
        const damage =
          remote === undefined
            ? await findDamage(parts, await lookAtImage(catalog.rows, wish, projectId))
            : undefined
        const taskId = await catalog.transaction(async (rows) => {
          const local = remote === undefined ? await lookAtImage(rows, wish, projectId) : undefined
          const origin: CopyOrigin = (remote ?? local) as CopyOrigin
          const refuseSource = () => {
            if (local !== undefined) refuseUncopyable(local.image)
            if (damage !== undefined) throw damage
          }
          const targets = []
          for (const { regionId, way } of waysOf(origin, wish, targetProjectId)) {
            const place = { projectId: targetProjectId, regionId }
            const blockers = await blockersOf(rows, origin, wish, place, refuseSource)
            targets.push({ regionId, way, blockers })
          }
          const input: PlanCopyInput = {
            ...{ source: origin.source, targets },
            // What is damaged cannot be compared with anything.
            digest: (damage === undefined ? origin.digest : undefined) ?? null,
            dataBytes: origin.facts.dataBytes,
            ...(bytesPerSecond === undefined ? {} : { bytesPerSecond }),
            ...(withinMs === undefined ? {} : { withinMs }),
            tellsSpace: caller.isRoot,
          }
          return runner.add(rows, {
            kind: 'plan-copy',
            projectId: targetProjectId,
            regionId: homeOf(wish),
            input,
          })
        })
        runner.kick(taskId)
        return { taskId }
      })
    },

    cancelCopy(caller, where) {
      return guard.change(caller, 'images.cancelCopy', target(where), async (projectId) => {
        const removal = await catalog.transaction(async (rows) => {
          const image = await findCopy(
            rows,
            { ...where, projectId },
            ', so there is no copying to cancel. Delete it if nobody needs it.',
          )
          if (image.state.at === 'available') {
            throw new Fault('conflict', 'The copy is made already. Delete the image if nobody needs it.', {
              subject: 'image',
            })
          }
          const held = await rows.selectFrom('image').selectAll().where('id', '=', image.id).execute()
          return removeRows(rows, runner, { image: held })
        })
        await seeTo(runner, removal)
      })
    },

    async copyProgress(caller, where) {
      const projectId = await guard.admit(caller, 'images.copyProgress', target(where))
      const { state, progressPermille } = await findCopy(
        catalog.rows,
        { ...where, projectId },
        ', so it has no copy progress. List it to see its state.',
      )
      if (state.at === 'failed') {
        throw new Fault('conflict', `The copy failed: ${state.reason}`, {
          subject: 'image',
          reason: 'copy-failed',
        })
      }
      return state.at === 'available' ? 1000 : Math.min(999, progressPermille)
    },

    async retry(task, caller) {
      for (const source of caller === undefined ? [] : await sourcesElsewhere(catalog.rows, task)) {
        await guard.admit(caller as Caller, 'images.copy', target(source)).catch((error: unknown) => {
          if (!isFault(error, 'denied')) throw error
          const message =
            'The image is copied from another project, out of which you may not copy. Ask somebody who may.'
          throw new Fault('denied', message, {
            ...{ subject: 'policy', reason: 'implicit', cause: error },
            ...(error.field === undefined ? {} : { field: error.field }),
          })
        })
      }
      for (const [peer, regionIds] of caller === undefined ? [] : await peersOf(catalog.rows, task)) {
        await admitPeer(guard, caller as Caller, peer, { projectId: task.projectId, regionIds })
      }
      return retryCopies(parts, task)
    },
  }
}

/** Faults: 'absent' 'image'; 'invalid' 'image' reason 'not-a-copy', with `hint` at the end of its message. */
async function findCopy(rows: Rows, where: Parameters<typeof findImage>[1], hint: string) {
  const image = await findImage(rows, where)
  if (image.origin === 'copy') return image
  throw new Fault('invalid', `This image is no copy${hint}`, { subject: 'image', reason: 'not-a-copy' })
}
