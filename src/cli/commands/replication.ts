import { type Command, InvalidArgumentError } from 'commander'
import type { ShownReplicationRule } from '../../wire/native/show-replication.ts'
import { act, clientCommand, type PlaceFlags, type ProgramParts, parseCount, placed } from '../options.ts'
import type { SessionFlags } from '../session.ts'
import { inProject, type ProjectFlags, switchCommands } from './following.ts'

type Flags = SessionFlags & PlaceFlags

interface AddFlags extends Flags {
  readonly name: string
  readonly to: readonly string[]
  readonly toProject?: string
  readonly match?: string
  readonly tag?: string
  readonly family?: string
  readonly keep?: number
}

/** Declares `replication`: rules by which new images are copied. */
export function replicationCommands(program: Command, parts: ProgramParts): void {
  const replication = program.command('replication').description('rules by which new images are copied')

  placed(clientCommand(replication, 'add', 'copies every image that becomes available from now on and fits'))
    .requiredOption('--name <name>', 'what the rule is called')
    .requiredOption('--to <region...>', 'the regions to copy to')
    .option('--to-project <project>', 'the project to copy to; without it the same project')
    .option('--match <pattern>', 'only of such names: * is any text, ? one character')
    .option('--tag <tag>', 'only of this business group')
    .option('--family <image>', 'only this image and what is made of it, in however many steps')
    .option('--keep <count>', 'the newest so many copies stay in each region; without it all', parseKeep)
    .action(
      act(parts, async (session, flags: AddFlags) => {
        const { region, project, name, match: namePattern, tag, family: familyOf } = flags
        const filter = { namePattern, tag, familyOf }
        const target = { targetRegions: flags.to, targetProject: flags.toProject, keepCount: flags.keep }
        const body = { region, project, name, filter, ...target }
        const made = await session.client.call<{ id: string }>('POST', '/v1/replication-rules', { body })
        session.print(made, () => `Rule ${made.id} copies what becomes available from now on.\n`)
      }),
    )

  placed(clientCommand(replication, 'list', 'the rules for images of a region, newest first')).action(
    act(parts, async (session, { region, project }: Flags) => {
      const query = { region, project }
      const rules = await session.listAll<ShownReplicationRule>('/v1/replication-rules', 'rules', query)
      const { formatTime } = await import('../format.ts')
      session.print({ total: rules.length, rules }, () =>
        session.table<ShownReplicationRule>(
          [
            { head: 'RULE', of: (one) => one.id },
            { head: 'NAME', of: (one) => one.name },
            { head: 'COPIES', of: describeFilter },
            { head: 'TO', of: (one) => one.targetRegions.join(', ') },
            { head: 'PROJECT', of: (one) => one.targetProject },
            { head: 'KEEP', align: 'right', of: describeKept },
            { head: 'ENABLED', of: (one) => (one.isEnabled ? 'yes' : 'no') },
            { head: 'DONE (UTC)', of: (one) => formatTime(one.lastDoneAtMs) },
            { head: 'FAILED (UTC)', of: (one) => formatTime(one.lastFailedAtMs) },
            { head: 'FAILURE', of: (one) => (hasFailed(one) ? (one.lastReason ?? '') : '') },
          ],
          rules,
          'No replication rules.',
        ),
      )
    }),
  )

  inProject(clientCommand(replication, 'show <rule>', 'one rule, with how its last copies went')).action(
    act(parts, async (session, { project }: ProjectFlags, id: string) => {
      const path = `/v1/replication-rules/${encodeURIComponent(id)}`
      const rule = await session.client.call<ShownReplicationRule>('GET', path, { query: { project } })
      const [{ formatFacts }, { formatTime }] = await Promise.all([
        import('../facts.ts'),
        import('../format.ts'),
      ])
      session.print(rule, () =>
        formatFacts([
          ['rule', rule.id],
          ['name', rule.name],
          ['region', rule.region],
          ['project', rule.project],
          ['copies', describeFilter(rule)],
          ['to', rule.targetRegions.join(', ')],
          ['to project', rule.targetProject],
          ['keeps', describeKept(rule)],
          ['enabled', rule.isEnabled ? 'yes' : 'no'],
          ['made by', rule.creator],
          ['created', formatTime(rule.createdAtMs)],
          ['last done', formatTime(rule.lastDoneAtMs)],
          ['last failed', formatTime(rule.lastFailedAtMs)],
          [hasFailed(rule) ? 'failure' : 'old failure', rule.lastReason],
        ]),
      )
    }),
  )

  switchCommands(replication, parts, {
    ...{ word: 'rule', name: 'Rule', path: '/v1/replication-rules' },
    abouts: {
      enable: 'copies again what becomes available from now on',
      disable: 'copies no more until it is enabled; what was begun goes on',
      delete: 'ends a rule; its copies stay',
    },
    afterDelete: '; its copies stay',
  })
}

function parseKeep(text: string): number {
  const count = parseCount(text)
  if (count < 1) throw new InvalidArgumentError('It keeps one at least.')
  return count
}

function describeFilter({ filter }: ShownReplicationRule): string {
  const { namePattern, tag, familyOf } = filter
  const said = [namePattern, tag && `tag ${tag}`, familyOf && `of ${familyOf}`].filter(Boolean)
  return said.length === 0 ? 'every image' : said.join(', ')
}

const describeKept = ({ keepCount }: ShownReplicationRule) => (keepCount === null ? 'all' : String(keepCount))

/** Whether the last that it did was a failure: once a copy was made again, nobody need act on the old one. */
function hasFailed({ lastFailedAtMs, lastDoneAtMs }: ShownReplicationRule): boolean {
  return lastFailedAtMs !== null && lastFailedAtMs >= (lastDoneAtMs ?? 0)
}
