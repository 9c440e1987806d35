import { integer, orNone, project, text } from '../fields.ts'
import { type Route, route } from '../route.ts'

export const projectRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/projects',
    useCase: 'projects.list',
    about: 'The projects of the account, with what each is charged and its quota (null for none), in bytes.',
    status: 200,
    fields: {},
    async run({ app, caller }) {
      const projects = await app.projects.list(caller)
      return {
        total: projects.length,
        projects: projects.map(({ id, name, isDefault, createdAtMs, memberCount, ...bytes }) => ({
          id,
          name,
          isDefault,
          memberCount,
          createdAtMs,
          chargedBytes: bytes.chargedBytes ?? 0,
          quotaBytes: bytes.quotaBytes ?? null,
        })),
      }
    },
  }),
  route({
    method: 'POST',
    path: '/v1/projects',
    useCase: 'projects.create',
    about: 'A new, empty project.',
    status: 201,
    fields: { name: text(128, { lengthMin: 1, subject: 'name' }) },
    async run({ app, caller }, { name }) {
      const { projectId } = await app.projects.create(caller, name)
      return { project: projectId }
    },
  }),
  route({
    method: 'PUT',
    path: '/v1/projects/:projectId/quota',
    useCase: 'projects.setQuota',
    about:
      'How many bytes may be charged to a project: those of its available images that are not zero, in all regions and before deduplication, and what is reserved for those being made.',
    status: 200,
    fields: { projectId: project, quotaBytes: orNone(integer(0, Number.MAX_SAFE_INTEGER)) },
    async run({ app, caller }, { projectId, quotaBytes }) {
      const { chargedBytes } = await app.projects.setQuota(caller, projectId, quotaBytes)
      return { project: projectId, chargedBytes, quotaBytes }
    },
  }),
]
