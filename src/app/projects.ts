import { randomBytes } from 'node:crypto'
import { Fault } from '../image/fault.ts'
import type { ProjectId } from '../image/ids.ts'
import { chargedBytes } from '../tasks/quota.ts'
import type { App } from './contract.ts'
import type { Guard } from './guard.ts'
import type { Parts } from './parts.ts'

/** `org-` and 8 random letters and digits; never all that a person could guess. */
export function newProjectId(): ProjectId {
  return `org-${randomBytes(5).readUIntBE(0, 5).toString(36).padStart(8, '0')}` as ProjectId
}

export function createProjects({ catalog, clock }: Parts, guard: Guard): App['projects'] {
  return {
    async list(caller) {
      await guard.admit(caller, 'projects.list', { reach: 'any' })
      const projects = await catalog.rows
        .selectFrom('project')
        .selectAll()
        .where('accountId', '=', caller.accountId)
        .orderBy('createdAtMs')
        .orderBy('id')
        .execute()
      const attachments = await catalog.rows
        .selectFrom('attachment')
        .innerJoin('user', 'user.id', 'attachment.userId')
        .select(['attachment.userId', 'attachment.projectId'])
        .distinct()
        .where('user.accountId', '=', caller.accountId)
        .execute()
      const members = (projectId: string) =>
        new Set(
          attachments.filter((a) => a.projectId === '' || a.projectId === projectId).map((a) => a.userId),
        )
      const seen = projects.filter((project) => caller.isRoot || members(project.id).has(caller.userId))
      return Promise.all(
        seen.map(async (project) => ({
          id: project.id as ProjectId,
          name: project.name,
          isDefault: project.isDefault === 1,
          createdAtMs: project.createdAtMs,
          memberCount: members(project.id).size + 1,
          quotaBytes: project.quotaBytes,
          chargedBytes: await chargedBytes(catalog.rows, project.id),
        })),
      )
    },
    setQuota(caller, projectId, quotaBytes) {
      return guard.change(
        caller,
        'projects.setQuota',
        // Who is held by a quota is not the one to change it.
        { projectId, resource: `project/${projectId}`, reach: 'account' },
        () =>
          catalog.transaction(async (rows) => {
            const charged = await chargedBytes(rows, projectId)
            await rows
              .updateTable('project')
              .set({ quotaBytes, chargedAtQuotaBytes: quotaBytes === null ? null : charged })
              .where('id', '=', projectId)
              .execute()
            return { chargedBytes: charged }
          }),
      )
    },
    create(caller, name) {
      return guard.change(
        caller,
        'projects.create',
        { resource: `project/${name}`, reach: 'account' },
        async () => {
          if (!/^[\p{L}\p{N}][\p{L}\p{N} ._-]{0,62}$(?<! )/u.test(name)) {
            throw new Fault(
              'invalid',
              'A project name has 1 to 63 letters, digits, dots, hyphens, underscores, and spaces inside.',
              {
                subject: 'name',
                field: 'name',
              },
            )
          }
          const projectId = newProjectId()
          await catalog.transaction(async (rows) => {
            const same = await rows
              .selectFrom('project')
              .select('id')
              .where('accountId', '=', caller.accountId)
              .where('name', '=', name)
              .executeTakeFirst()
            if (same !== undefined) {
              throw new Fault('conflict', `Project ${same.id} has this name already. Choose another.`, {
                subject: 'project',
              })
            }
            await rows
              .insertInto('project')
              .values({
                id: projectId,
                accountId: caller.accountId,
                name,
                isDefault: 0,
                createdAtMs: clock(),
              })
              .execute()
          })
          return { projectId }
        },
      )
    },
  }
}
