import { anyObject, optional, project, text } from '../fields.ts'
import { type Route, route } from '../route.ts'

const name = text(128, { lengthMin: 1, subject: 'name' })

export const userRoutes: readonly Route[] = [
  route({
    method: 'POST',
    path: '/v1/users',
    useCase: 'users.create',
    about: 'A user with an access key and no rights at all. The secret is shown this once.',
    status: 201,
    fields: { name },
    async run({ app, caller }, parameters) {
      const { keyId, secret } = await app.users.create(caller, parameters.name)
      return { name: parameters.name, accessKeyId: keyId, accessKeySecret: secret }
    },
  }),
  route({
    method: 'PUT',
    path: '/v1/policies/:name',
    useCase: 'users.putPolicy',
    about: 'Adds or replaces a policy document in the RAM grammar.',
    status: 200,
    fields: { name, document: anyObject },
    async run({ app, caller }, parameters) {
      await app.users.putPolicy(caller, parameters.name, parameters.document)
      return { name: parameters.name }
    },
  }),
  route({
    method: 'POST',
    path: '/v1/attachments',
    useCase: 'users.attach',
    about: 'Gives a user a policy, everywhere or in one project.',
    status: 201,
    fields: { user: name, policy: name, project: optional(project) },
    async run({ app, caller }, parameters) {
      await app.users.attach(caller, parameters.user, parameters.policy, parameters.project)
      return { user: parameters.user, policy: parameters.policy, project: parameters.project ?? null }
    },
  }),
]
