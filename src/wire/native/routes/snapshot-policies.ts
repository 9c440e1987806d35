import { Fault } from '../../../image/fault.ts'
import { type SnapshotPolicyId, spellId } from '../../../image/ids.ts'
import { flag, id, ids, integer, list, oneOf, optional, text, withDefault } from '../fields.ts'
import { type Route, route } from '../route.ts'
import { showSnapshotPolicy } from '../show.ts'
import { paging, place } from './common.ts'

const one = { ...place, id: id('snapshot-policy') }
const spell = (policyId: SnapshotPolicyId) => spellId('snapshot-policy', policyId, 'native')
const name = text(256, { lengthMin: 1, subject: 'name' })
const cron = text(256, { lengthMin: 1 })
const timeZone = text(64)
const keepCount = integer(1, 1000)
const disks = oneOf('system', 'all')
const machineIds = list(id('machine'), 100)

export const snapshotPolicyRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/snapshot-policies',
    useCase: 'snapshotPolicies.list',
    about:
      "The project's snapshot policies in a region, newest first, each with its next time, the last one that was acted on (`lastDueAtMs`), when the newest of its snapshots was made (`lastDoneAtMs`), and when it last made none that it should have made, and why (`lastFailedAtMs`, `lastReason`).",
    status: 200,
    fields: { ...place, ids: optional(ids('snapshot-policy')), ...paging },
    async run({ app, caller, region }, parameters) {
      const { offset, limit } = parameters
      const filter = {
        regionId: region(parameters.region),
        projectId: parameters.project,
        ...(parameters.ids === undefined ? {} : { ids: parameters.ids }),
      }
      const { total, items } = await app.snapshotPolicies.list(caller, filter, { offset, limit })
      return { total, policies: items.map(showSnapshotPolicy) }
    },
  }),
  route({
    method: 'GET',
    path: '/v1/snapshot-policies/:id',
    useCase: 'snapshotPolicies.list',
    about: 'One snapshot policy.',
    status: 200,
    fields: one,
    async run({ app, caller, region }, parameters) {
      const regionId = region(parameters.region)
      const filter = { regionId, projectId: parameters.project, ids: [parameters.id] }
      const { items } = await app.snapshotPolicies.list(caller, filter, { offset: 0, limit: 1 })
      const [found] = items
      if (found === undefined) {
        const message = `There is no snapshot policy '${spell(parameters.id)}' in ${regionId}. List them, or name its region.`
        throw new Fault('absent', message, { subject: 'snapshot-policy', field: 'id' })
      }
      return showSnapshotPolicy(found)
    },
  }),
  route({
    method: 'POST',
    path: '/v1/snapshot-policies',
    useCase: 'snapshotPolicies.create',
    about:
      "Snapshots by the clock: of these machines' disks, all of one machine at one moment, at the times of `cron` (minute, hour, day of the month, month, day of the week) in `timeZone` (an IANA name). Of each disk the newest `keepCount` that this policy made are kept. Whoever makes one needs the right to make snapshots of these machines.",
    status: 201,
    fields: {
      ...place,
      name,
      cron,
      timeZone: withDefault(timeZone, 'UTC'),
      keepCount,
      disks: withDefault(disks, 'all'),
      machineIds,
      isEnabled: withDefault(flag, true),
    },
    async run({ app, caller, region }, parameters) {
      const { region: regionName, project: projectId, ...policy } = parameters
      const input = { regionId: region(regionName), projectId, ...policy }
      const { policyId } = await app.snapshotPolicies.create(caller, input)
      return { policyId: spell(policyId) }
    },
  }),
  route({
    method: 'PATCH',
    path: '/v1/snapshot-policies/:id',
    useCase: 'snapshotPolicies.change',
    about:
      'Changes what is named; the rest stays. Times that passed before, by new times or while it was off, are not made up for.',
    status: 200,
    fields: {
      ...one,
      name: optional(name),
      cron: optional(cron),
      timeZone: optional(timeZone),
      keepCount: optional(keepCount),
      disks: optional(disks),
      machineIds: optional(machineIds),
      isEnabled: optional(flag),
    },
    async run({ app, caller, region }, parameters) {
      const { region: regionName, project: projectId, id: policyId, ...changes } = parameters
      const said = Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined))
      await app.snapshotPolicies.change(caller, {
        ...said,
        regionId: region(regionName),
        projectId,
        policyId,
      })
      return { id: spell(policyId) }
    },
  }),
  route({
    method: 'DELETE',
    path: '/v1/snapshot-policies/:id',
    useCase: 'snapshotPolicies.remove',
    about: 'Ends a snapshot policy; the snapshots that it made stay.',
    status: 200,
    fields: one,
    async run({ app, caller, region }, parameters) {
      const input = {
        regionId: region(parameters.region),
        projectId: parameters.project,
        policyId: parameters.id,
      }
      await app.snapshotPolicies.remove(caller, input)
      return { id: spell(parameters.id) }
    },
  }),
]
