import { distinct, flag, id, integer, object, optional, project, text } from '../fields.ts'
import { type Route, route } from '../route.ts'
import { showReplicationRule } from '../show-replication.ts'
import { paging, place } from './common.ts'

const one = { project: place.project, id: text(64, { lengthMin: 1 }) }

export const replicationRoutes: readonly Route[] = [
  route({
    method: 'POST',
    path: '/v1/replication-rules',
    useCase: 'replication.create',
    about:
      'From now on copies every image of the region that becomes available and fits all that the filter says (docs/copies.md, "Rules"): `namePattern` with * for any text and ? for one character, `tag`, `familyOf` for an image and all that is made of it. Copies are asked for in the caller\'s name, whose right to copy is checked at every end, now and each time. Of its copies the newest `keepCount` stay in each target; all where nothing is said. Without `targetProject` they stay in the project.',
    status: 201,
    fields: {
      ...place,
      name: text(64, { lengthMin: 1, subject: 'name' }),
      filter: optional(
        object({
          namePattern: optional(text(128, { lengthMin: 1 })),
          tag: optional(text(128, { lengthMin: 1 })),
          familyOf: optional(id('image')),
        }),
      ),
      targetRegions: distinct(text(64, { lengthMin: 1 }), 100),
      targetProject: optional(project),
      keepCount: optional(integer(1, 1000)),
    },
    async run({ app, caller, region }, parameters) {
      const { name, filter = {}, keepCount, targetProject: targetProjectId, targetRegions } = parameters
      return await app.replication.create(caller, {
        regionId: region(parameters.region),
        projectId: parameters.project,
        ...{ name, filter, targetProjectId, keepCount },
        targetRegionIds: targetRegions.map((one) => region(one)),
      })
    },
  }),
  route({
    method: 'GET',
    path: '/v1/replication-rules',
    useCase: 'replication.list',
    about:
      "The project's replication rules in a region, newest first: when the newest copy of each was made (`lastDoneAtMs`), and when one last was not, and why (`lastFailedAtMs`, `lastReason`).",
    status: 200,
    fields: { ...place, ...paging },
    async run({ app, caller, region }, { region: regionName, project: projectId, offset, limit }) {
      const filter = { regionId: region(regionName), projectId }
      const { total, items } = await app.replication.list(caller, filter, { offset, limit })
      return { total, rules: items.map(showReplicationRule) }
    },
  }),
  route({
    method: 'GET',
    path: '/v1/replication-rules/:id',
    useCase: 'replication.list',
    about: 'One replication rule, as the list has it.',
    status: 200,
    fields: one,
    async run({ app, caller }, { project: projectId, id: ruleId }) {
      return showReplicationRule(await app.replication.get(caller, { projectId, id: ruleId }))
    },
  }),
  route({
    method: 'PATCH',
    path: '/v1/replication-rules/:id',
    useCase: 'replication.change',
    about:
      'Disables a replication rule, or enables it again: it copies what becomes available from then on. What it has asked for goes on.',
    status: 200,
    fields: { ...one, isEnabled: flag },
    async run({ app, caller }, { project: projectId, id: ruleId, isEnabled }) {
      await app.replication.change(caller, { projectId, id: ruleId, isEnabled })
      return { id: ruleId }
    },
  }),
  route({
    method: 'DELETE',
    path: '/v1/replication-rules/:id',
    useCase: 'replication.remove',
    about: 'Ends a replication rule; its copies stay, and those that are being made are made.',
    status: 200,
    fields: one,
    async run({ app, caller }, { project: projectId, id: ruleId }) {
      await app.replication.remove(caller, { projectId, id: ruleId })
      return { id: ruleId }
    },
  }),
]
