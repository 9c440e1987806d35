import { randomBytes, randomUUID } from 'node:crypto'
import { parsePolicy } from '../access/policy.ts'
import { systemPolicies } from '../access/system-policies.ts'
import { Fault } from '../image/fault.ts'
import type { App, Caller } from './contract.ts'
import type { Guard } from './guard.ts'
import type { Parts } from './parts.ts'

const NAME = /^[A-Za-z0-9][A-Za-z0-9@._-]{0,63}$/

/** A key pair in the shape both clouds' tools accept: an id of 24 and a secret of 40 characters. */
export function newAccessKey(): { keyId: string; secret: string } {
  const text = (length: number) =>
    randomBytes(length).toString('base64url').replace(/[-_]/g, 'x').slice(0, length)
  return { keyId: `CALO${text(20)}`, secret: text(40) }
}

export function createUsers({ catalog, clock }: Parts, guard: Guard): App['users'] {
  const checkName = (name: string, what: string) => {
    if (NAME.test(name)) return
    throw new Fault(
      'invalid',
      `A ${what} name has 1 to 64 letters, digits and @ . _ - and starts with one.`,
      {
        subject: 'name',
        field: 'name',
      },
    )
  }
  const userOf = async (caller: Caller, name: string) => {
    const user = await catalog.rows
      .selectFrom('user')
      .selectAll()
      .where('accountId', '=', caller.accountId)
      .where('name', '=', name)
      .executeTakeFirst()
    if (user === undefined)
      throw new Fault('absent', `There is no user '${name}'. Create it first.`, { subject: 'user' })
    return user
  }
  return {
    create(caller, name) {
      return guard.change(
        caller,
        'users.create',
        { resource: `user/${name}`, reach: 'account' },
        async () => {
          checkName(name, 'user')
          const { keyId, secret } = newAccessKey()
          await catalog.transaction(async (rows) => {
            const same = await rows
              .selectFrom('user')
              .select('id')
              .where('accountId', '=', caller.accountId)
              .where('name', '=', name)
              .executeTakeFirst()
            if (same !== undefined) {
              throw new Fault('conflict', `There is a user '${name}' already. Choose another name.`, {
                subject: 'user',
              })
            }
            const id = randomUUID()
            const createdAtMs = clock()
            await rows
              .insertInto('user')
              .values({
                id,
                accountId: caller.accountId,
                name,
                isRoot: 0,
                defaultProjectId: caller.defaultProjectId,
                createdAtMs,
              })
              .execute()
            await rows
              .insertInto('accessKey')
              .values({ id: keyId, userId: id, secret, isActive: 1, createdAtMs })
              .execute()
          })
          return { keyId, secret }
        },
      )
    },
    putPolicy(caller, name, document) {
      return guard.change(
        caller,
        'users.putPolicy',
        { resource: `policy/${name}`, reach: 'account' },
        async () => {
          checkName(name, 'policy')
          if (systemPolicies.has(name)) {
            throw new Fault('conflict', `${name} is built in and cannot be changed. Choose another name.`, {
              subject: 'policy',
            })
          }
          parsePolicy(document)
          const values = {
            accountId: caller.accountId,
            name,
            document: JSON.stringify(document),
            createdAtMs: clock(),
          }
          await catalog.rows
            .insertInto('policy')
            .values(values)
            .onConflict((on) => on.columns(['accountId', 'name']).doUpdateSet({ document: values.document }))
            .execute()
        },
      )
    },
    attach(caller, userName, policyName, projectId) {
      return guard.change(
        caller,
        'users.attach',
        { resource: `user/${userName}`, projectId, reach: projectId === undefined ? 'account' : 'project' },
        async () => {
          const user = await userOf(caller, userName)
          const policy = await catalog.rows
            .selectFrom('policy')
            .select('name')
            .where('accountId', '=', caller.accountId)
            .where('name', '=', policyName)
            .executeTakeFirst()
          if (policy === undefined && !systemPolicies.has(policyName)) {
            const builtIn = [...systemPolicies.keys()].join(', ')
            throw new Fault(
              'absent',
              `There is no policy '${policyName}'. Put it first, or use ${builtIn}.`,
              {
                subject: 'policy',
              },
            )
          }
          await catalog.rows
            .insertInto('attachment')
            .values({ userId: user.id, policyName, projectId: projectId ?? '' })
            .onConflict((on) => on.doNothing())
            .execute()
        },
      )
    },
  }
}
