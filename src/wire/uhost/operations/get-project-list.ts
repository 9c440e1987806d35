import { defineOperation } from '../operation.ts'
import { accepted } from '../parameter.ts'
import { choice } from '../rules.ts'

/** Source: uhost.md §3.16. */
export const getProjectList = defineOperation({
  name: 'GetProjectList',
  useCase: 'projects.list',
  summary: 'The projects of the account that the caller may see.',
  parameters: {
    IsFinance: accepted(choice('Yes', 'No'), 'nothing is charged here, so no project differs in it'),
  },
  words: {},
  async run({ app, caller }) {
    const projects = await app.projects.list(caller)
    return {
      ProjectCount: projects.length,
      ProjectSet: projects.map((project) => ({
        ProjectId: project.id,
        ProjectName: project.name,
        CreateTime: Math.floor(project.createdAtMs / 1000),
        IsDefault: project.isDefault,
        ResourceCount: 0,
        MemberCount: project.memberCount,
        ParentId: '',
        ParentName: '',
      })),
    }
  },
})
