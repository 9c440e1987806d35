import type { CopyOf, CopyWish } from '../../../app/copy-contract.ts'
import { Fault } from '../../../image/fault.ts'
import { type RegionId, spellId, type TaskId } from '../../../image/ids.ts'
import { distinct, flag, id, integer, optional, type Parsed, project, text } from '../fields.ts'
import { type Route, type RouteContext, route } from '../route.ts'
import { place } from './common.ts'

const WITHIN_SECONDS_MAX = 30 * 24 * 60 * 60
const TARGET_COUNT_MAX = 100
/** As the settings take it: below the first a copy of one pack lasts minutes, and looks as if it stood still. */
const RATE = integer(65_536, 1_000_000_000_000)

/** What is asked of a copy, real or on paper. */
const wish = {
  ...place,
  id: id('image'),
  peer: optional(text(32, { lengthMin: 1 })),
  targetRegions: optional(distinct(text(64, { lengthMin: 1 }), TARGET_COUNT_MAX)),
  targetProject: optional(project),
  // How long a name or a description may be is the image's own rule; these bounds only keep nonsense out.
  name: optional(text(256, { lengthMin: 1, subject: 'name' })),
  description: optional(text(1024, { subject: 'description' })),
  tag: optional(text(128)),
  rekey: optional(flag),
  priority: optional(integer(0, 9)),
  within: optional(integer(1, WITHIN_SECONDS_MAX)),
  bytesPerSecond: optional(RATE),
}

function wishOf({ region }: RouteContext, given: Parsed<typeof wish>): CopyWish {
  const { id: imageId, region: regionName, project: projectId, peer, targetRegions, within } = given
  if (peer !== undefined && regionName === undefined) {
    const message = "'region' is missing. With 'peer' it takes the region of that installation to copy from."
    throw new Fault('invalid', message, { field: 'region', subject: 'region' })
  }
  if (targetRegions?.length === 0)
    throw new Fault('invalid', "'targetRegions' is empty. Name a region, or leave it out.", {
      ...{ field: 'targetRegions', subject: 'region' },
    })
  const { targetProject: targetProjectId, name, description, tag, rekey, priority, bytesPerSecond } = given
  return {
    projectId,
    imageId,
    peer,
    // A peer's regions are its own words, which nobody here can judge.
    regionId: peer === undefined ? region(regionName) : (regionName as RegionId),
    // Without any: to another project of the same region, or from a peer into our default region.
    targetRegionIds: targetRegions?.map((one) => region(one)) ?? [
      region(peer === undefined ? regionName : undefined),
    ],
    ...{ targetProjectId, name, description, tag, rekey, priority, bytesPerSecond },
    withinMs: within === undefined ? undefined : within * 1000,
  }
}

/** How copies that were begun are answered. */
export function showCopies(made: { readonly taskId: TaskId; readonly copies: readonly CopyOf[] }) {
  return {
    taskId: spellId('task', made.taskId, 'native'),
    copies: made.copies.map((copy) => ({
      region: copy.regionId,
      imageId: spellId('image', copy.imageId, 'native'),
      taskId: spellId('task', copy.taskId, 'native'),
    })),
  }
}

export const copyRoutes: readonly Route[] = [
  route({
    method: 'POST',
    path: '/v1/images/:id/copy',
    useCase: 'images.copy',
    about:
      "Copies an available custom image to other regions or another project (docs/copies.md). Every target is checked before the first is begun; then each goes its own way. `taskId` is the one copy or, of several, their batch. With `peer` the image is another installation's, and `id` and `region` are its words. `rekey`: into another project, so that the two share nothing; without it as the settings say. `priority`: the higher goes first, 5 where nothing is said. `within`: seconds after which all of it is to be done; refused (`conflict`, reason `deadline`) where the estimate is longer. `bytesPerSecond`: of each copy. Name, description and tag are those of the source where none are named.",
    status: 202,
    fields: wish,
    async run(context, parameters) {
      return showCopies(await context.app.images.copy(context.caller, wishOf(context, parameters)))
    },
  }),
  route({
    method: 'POST',
    path: '/v1/images/:id/copy/plan',
    useCase: 'images.planCopy',
    about:
      "What a copy would do, on paper: the task's output has `targets` (each with `regionId`, its `way`, bytes to move, saved, charged and free, `estimateMs`, and as `blockers` why it would be refused), `moveBytes`, `estimateMs` and `isPossible`. What is not known is null. Nothing is made.",
    status: 202,
    fields: wish,
    async run(context, parameters) {
      const made = await context.app.images.planCopy(context.caller, wishOf(context, parameters))
      return { taskId: spellId('task', made.taskId, 'native') }
    },
  }),
]
