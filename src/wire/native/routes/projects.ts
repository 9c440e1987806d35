import { text } from '../fields.ts'
import { type Route, route } from '../route.ts'

export const projectRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/projects',
    useCase: 'projects.list',
    about: 'The projects of the account.',
    status: 200,
    fields: {},
    async run({ app, caller }) {
      const projects = await app.projects.list(caller)
      return {
        total: projects.length,
        projects: projects.map(({ id, name, isDefault, createdAtMs, memberCount }) => ({
          id,
          name,
          isDefault,
          memberCount,
          createdAtMs,
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
]
