import { CONSISTENCIES } from '../../../image/consistency.ts'
import { Fault } from '../../../image/fault.ts'
import { type SnapshotId, spellId } from '../../../image/ids.ts'
import {
  diskChoice,
  flag,
  id,
  ids,
  integer,
  list,
  oneOf,
  optional,
  snapshotName,
  text,
  withDefault,
} from '../fields.ts'
import { type Route, route } from '../route.ts'
import { showSnapshot } from '../show.ts'
import { paging, place } from './common.ts'

const one = { ...place, id: id('snapshot') }
const spell = (snapshotId: SnapshotId) => spellId('snapshot', snapshotId, 'native')
const timeMs = integer(0, Number.MAX_SAFE_INTEGER)

/** Leaves out what was not said: a filter has no members that say nothing. */
function said<Values extends object>(values: Values) {
  type Said = { [K in keyof Values]?: Exclude<Values[K], undefined> }
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Said
}

export const snapshotRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/snapshots',
    useCase: 'snapshots.list',
    about:
      "The project's snapshots in a region, newest first. `madeBy` keeps those that users or policies asked for; `fromMs` and `untilMs` those made from one time on and before another.",
    status: 200,
    fields: {
      ...place,
      ids: optional(ids('snapshot')),
      machineIds: optional(ids('machine')),
      machineName: optional(text(256)),
      name: optional(text(256)),
      creator: optional(text(64)),
      osType: optional(oneOf('Linux', 'Windows')),
      disk: optional(oneOf('system', 'data')),
      madeBy: optional(oneOf('user', 'policy')),
      states: optional(list(oneOf('creating', 'available', 'failed'), 3)),
      fromMs: optional(timeMs),
      untilMs: optional(timeMs),
      ...paging,
    },
    async run({ app, caller, region }, parameters) {
      const { region: regionName, project: projectId, offset, limit, ...filter } = parameters
      const regionId = region(regionName)
      const { total, items } = await app.snapshots.list(
        caller,
        { regionId, projectId, ...said(filter) },
        { offset, limit },
      )
      return { total, snapshots: items.map(showSnapshot) }
    },
  }),
  route({
    method: 'GET',
    path: '/v1/snapshots/:id',
    useCase: 'snapshots.list',
    about: 'One snapshot.',
    status: 200,
    fields: one,
    async run({ app, caller, region }, parameters) {
      const regionId = region(parameters.region)
      const filter = { regionId, projectId: parameters.project, ids: [parameters.id] }
      const { items } = await app.snapshots.list(caller, filter, { offset: 0, limit: 1 })
      const [found] = items
      if (found === undefined) {
        const message = `There is no snapshot '${spell(parameters.id)}' in ${regionId}. List them, or name its region.`
        throw new Fault('absent', message, { subject: 'snapshot', field: 'id' })
      }
      return showSnapshot(found)
    },
  }),
  route({
    method: 'POST',
    path: '/v1/snapshots',
    useCase: 'snapshots.create',
    about:
      'Makes a snapshot of one disk of a machine that is running or stopped. `disk`: its system disk, its only data disk, or the disk of this id. `consistency` as of a capture.',
    status: 202,
    fields: {
      ...place,
      machineId: id('machine'),
      disk: withDefault(diskChoice, 'system'),
      name: snapshotName,
      description: optional(text(1024, { subject: 'description' })),
      consistency: withDefault(oneOf('best', ...CONSISTENCIES), 'best'),
    },
    async run({ app, caller, region }, parameters) {
      const { region: regionName, project: projectId, ...rest } = parameters
      const made = await app.snapshots.create(caller, { regionId: region(regionName), projectId, ...rest })
      return { snapshotId: spell(made.snapshotId), taskId: spellId('task', made.taskId, 'native') }
    },
  }),
  route({
    method: 'POST',
    path: '/v1/snapshots/:id/reset',
    useCase: 'snapshots.reset',
    about:
      "Gives the snapshot's disk its content again: what the disk held since is lost. Its machine has to be stopped, or is stopped first with `stopFirst`; it stays stopped.",
    status: 202,
    fields: { ...one, stopFirst: withDefault(flag, false) },
    async run({ app, caller, region }, parameters) {
      const { taskId } = await app.snapshots.reset(caller, {
        regionId: region(parameters.region),
        projectId: parameters.project,
        snapshotId: parameters.id,
        stopFirst: parameters.stopFirst,
      })
      return { taskId: spellId('task', taskId, 'native') }
    },
  }),
  route({
    method: 'DELETE',
    path: '/v1/snapshots/:id',
    useCase: 'snapshots.remove',
    about:
      'Takes a snapshot off the lists; one that is being made is cancelled. One that belongs to an image goes with that image only.',
    status: 200,
    fields: one,
    async run({ app, caller, region }, parameters) {
      await app.snapshots.remove(caller, {
        regionId: region(parameters.region),
        projectId: parameters.project,
        snapshotIds: [parameters.id],
      })
      return { id: spell(parameters.id) }
    },
  }),
]
