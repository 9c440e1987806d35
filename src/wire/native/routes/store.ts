import { type RegionId, spellId, type TaskId } from '../../../image/ids.ts'
import { distinct, flag, integer, optional, project, text, withDefault } from '../fields.ts'
import { type Route, type RouteContext, route } from '../route.ts'

const regions = withDefault(distinct(text(64, { lengthMin: 1 }), 50), [])
const YEAR_HOURS = 8760
const HOUR_MS = 60 * 60 * 1000

async function regionsOf(
  { app, caller, region }: RouteContext,
  names: readonly string[],
): Promise<RegionId[]> {
  if (names.length > 0) return names.map((name) => region(name))
  return (await app.regions.list(caller)).map((one) => one.id)
}

const begun = ({ taskIds }: { readonly taskIds: readonly TaskId[] }) => ({
  taskIds: taskIds.map((taskId) => spellId('task', taskId, 'native')),
})

export const storeRoutes: readonly Route[] = [
  route({
    method: 'POST',
    path: '/v1/store/collect',
    useCase: 'store.collect',
    about:
      'Removes from the stores of the named regions, or of all, what nobody needs; one task for each, whose output is the report. With `dryRun` it only says what it would do. `graceHours`: how long what nobody needs is kept; without it as the settings say.',
    status: 202,
    fields: {
      regions,
      dryRun: withDefault(flag, false),
      graceHours: optional(integer(0, YEAR_HOURS)),
    },
    async run(context, { regions: names, dryRun, graceHours }) {
      const input = {
        regionIds: await regionsOf(context, names),
        isDryRun: dryRun,
        ...(graceHours === undefined ? {} : { graceMs: graceHours * HOUR_MS }),
      }
      return begun(await context.app.store.collect(context.caller, input))
    },
  }),
  route({
    method: 'POST',
    path: '/v1/store/scrub',
    useCase: 'store.scrub',
    about:
      'Reads again what the named regions store, or all of them, and checks it; one task for each, whose output is the report. With `all` also what was read lately; with `repair` what is damaged is fetched from other regions.',
    status: 202,
    fields: {
      regions,
      bytesPerSecond: optional(integer(1_048_576, 1_000_000_000_000)),
      all: withDefault(flag, false),
      repair: withDefault(flag, true),
    },
    async run(context, { regions: names, ...rest }) {
      const input = { ...rest, regionIds: await regionsOf(context, names) }
      return begun(await context.app.store.scrub(context.caller, input))
    },
  }),
  route({
    method: 'GET',
    path: '/v1/store/usage',
    useCase: 'store.usage',
    about:
      'What images take in the stores of the named regions, or of all: of the named project; without one of all projects, for a caller whose right reaches beyond one, else of the default one. What whole regions hold is answered to the former only.',
    status: 200,
    fields: { regions, project: optional(project) },
    async run(context, { regions: names, project: projectId }) {
      const { app, caller, signal } = context
      const regionIds = await regionsOf(context, names)
      const { images, ...rest } = await app.store.usage(caller, { projectId, regionIds }, signal)
      return {
        images: images.map(({ id, projectId: owner, regionId, ...image }) => {
          return { id: spellId('image', id, 'native'), project: owner, region: regionId, ...image }
        }),
        ...rest,
      }
    },
  }),
]
