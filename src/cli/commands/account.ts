import { readFileSync } from 'node:fs'
import type { Command } from 'commander'
import { CommandFailure, EXIT, usageFailure } from '../failure.ts'
import { act, clientCommand, type ProgramParts } from '../options.ts'
import type { SessionFlags } from '../session.ts'
import { findSize } from '../size.ts'

interface ShownProject {
  readonly id: string
  readonly name: string
  readonly isDefault: boolean
  readonly memberCount: number
  readonly chargedBytes: number
  readonly quotaBytes: number | null
  readonly createdAtMs: number
}

/** Declares `project`, `user` and `policy`: who may do what, and where. */
export function accountCommands(program: Command, parts: ProgramParts): void {
  const project = program.command('project').description('projects of the account')
  clientCommand(project, 'list', 'the projects').action(
    act(parts, async (session) => {
      const { formatBytes, formatTime } = await import('../format.ts')
      const answer = await session.client.call<{ projects: ShownProject[] }>('GET', '/v1/projects')
      session.print(answer, ({ projects }) =>
        session.table(
          [
            { head: 'PROJECT', of: (one) => one.id },
            { head: 'NAME', of: (one) => one.name },
            { head: 'DEFAULT', of: (one) => (one.isDefault ? 'yes' : '') },
            { head: 'MEMBERS', align: 'right', of: (one) => String(one.memberCount) },
            { head: 'CHARGED', align: 'right', of: (one) => formatBytes(one.chargedBytes) },
            {
              head: 'QUOTA',
              align: 'right',
              of: (one) => (one.quotaBytes === null ? 'none' : formatBytes(one.quotaBytes)),
            },
            { head: 'CREATED (UTC)', of: (one) => formatTime(one.createdAtMs) },
          ],
          projects,
          'No projects.',
        ),
      )
    }),
  )
  clientCommand(project, 'create <name>', 'a new, empty project').action(
    act(parts, async (session, _flags: SessionFlags, name: string) => {
      const made = await session.client.call<{ project: string }>('POST', '/v1/projects', { body: { name } })
      session.print(made, () => `${made.project}\n`)
    }),
  )

  clientCommand(
    project,
    'quota <project> <size>',
    "how many bytes may be charged to a project, such as 500GiB, or 'none'",
  ).action(
    act(parts, async (session, _flags: SessionFlags, id: string, size: string) => {
      const { formatBytes } = await import('../format.ts')
      const quotaBytes = /^(none|0)$/.test(size) ? size : findSize(size)
      if (quotaBytes === undefined)
        throw usageFailure(`The quota takes a size such as 500GiB, or none, not '${size}'.`)
      const path = `/v1/projects/${encodeURIComponent(id)}/quota`
      const set = await session.client.call<{ chargedBytes: number; quotaBytes: number | null }>(
        'PUT',
        path,
        {
          body: { quotaBytes },
        },
      )
      session.print(set, () => {
        const quota = set.quotaBytes === null ? 'no quota' : `a quota of ${formatBytes(set.quotaBytes)}`
        return `Project ${id} has ${quota}; it is charged ${formatBytes(set.chargedBytes)}.\n`
      })
    }),
  )

  const user = program.command('user').description('users of the account')
  clientCommand(
    user,
    'create <name>',
    'a user with an access key and no rights; the secret is shown this once',
  ).action(
    act(parts, async (session, _flags: SessionFlags, name: string) => {
      const made = await session.client.call<{ accessKeyId: string; accessKeySecret: string }>(
        'POST',
        '/v1/users',
        { body: { name } },
      )
      session.print(
        made,
        () =>
          `User ${name}\naccess key id      ${made.accessKeyId}\naccess key secret  ${made.accessKeySecret}\n` +
          `The secret is not shown again. Give the user a right with: calotype policy attach\n`,
      )
    }),
  )

  const policy = program.command('policy').description('policies in the RAM grammar, and who has them')
  clientCommand(
    policy,
    'put <name> <file>',
    "adds or replaces a policy from a JSON file; '-' reads standard input",
  ).action(
    act(parts, async (session, _flags: SessionFlags, name: string, file: string) => {
      const document = parseDocument(await readText(parts, file), file)
      const made = await session.client.call<{ name: string }>(
        'PUT',
        `/v1/policies/${encodeURIComponent(name)}`,
        {
          body: { document },
        },
      )
      session.print(made, () => `Policy ${name} is stored.\n`)
    }),
  )
  clientCommand(policy, 'attach <policy> <user>', 'gives a user a policy, everywhere or in one project')
    .option('--project <project>', 'only in this project')
    .action(
      act(
        parts,
        async (session, flags: SessionFlags & { project?: string }, name: string, userName: string) => {
          const body = { user: userName, policy: name, project: flags.project }
          const made = await session.client.call<object>('POST', '/v1/attachments', { body })
          session.print(
            made,
            () => `User ${userName} has ${name} ${flags.project ? `in ${flags.project}` : 'everywhere'}.\n`,
          )
        },
      ),
    )
}

async function readText(parts: ProgramParts, file: string): Promise<string> {
  if (file !== '-') {
    try {
      return readFileSync(file, 'utf8')
    } catch (error) {
      throw usageFailure(`Cannot read ${file} (${(error as NodeJS.ErrnoException).code}).`)
    }
  }
  const chunks: Buffer[] = []
  for await (const chunk of parts.io.stdin) chunks.push(Buffer.from(chunk))
  return Buffer.concat(chunks).toString('utf8')
}

function parseDocument(text: string, file: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new CommandFailure(EXIT.usage, `${file} is not JSON: ${(cause as Error).message}`, { cause })
  }
}
