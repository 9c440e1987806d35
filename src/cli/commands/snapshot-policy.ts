import { type Command, Option } from 'commander'
import type { ShownSnapshotPolicy } from '../../wire/native/show.ts'
import { act, clientCommand, type PlaceFlags, type ProgramParts, parseCount, placed } from '../options.ts'
import type { Session, SessionFlags } from '../session.ts'

type Flags = SessionFlags & PlaceFlags

interface PolicyFlags extends Flags {
  readonly name?: string
  readonly cron?: string
  readonly timeZone?: string
  readonly keep?: number
  readonly disks?: string
  readonly machine?: readonly string[]
  readonly disable?: boolean
  readonly enable?: boolean
}

/** Declares `snapshot policy`. */
export function snapshotPolicyCommands(snapshot: Command, parts: ProgramParts): void {
  const policy = snapshot.command('policy').description('snapshots by the clock')

  placed(clientCommand(policy, 'list', 'the policies of a region, newest first')).action(
    act(parts, async (session, { region, project }: Flags) => {
      const query = { region, project }
      const path = '/v1/snapshot-policies'
      await printPolicies(session, await session.listAll<ShownSnapshotPolicy>(path, 'policies', query))
    }),
  )

  placed(clientCommand(policy, 'show <policy>', 'one policy, with its times and machines')).action(
    act(parts, async (session, flags: Flags, id: string) => {
      await showPolicy(session, await getPolicy(session, flags, id))
    }),
  )

  described(placed(clientCommand(policy, 'create', 'makes snapshots of machines from now on')), true)
    .option('--disable', 'not before it is enabled')
    .action(
      act(parts, async (session, flags: PolicyFlags) => {
        const body = bodyOf(flags)
        const { policyId } = await session.client.call<{ policyId: string }>(
          'POST',
          '/v1/snapshot-policies',
          {
            body,
          },
        )
        await printNext(session, await getPolicy(session, flags, policyId), 'is made')
      }),
    )

  described(
    placed(clientCommand(policy, 'change <policy>', 'changes what is named, and nothing else')),
    false,
  )
    .addOption(new Option('--disable', 'makes no more until it is enabled').conflicts('enable'))
    .option('--enable', 'goes on from the next time')
    .action(
      act(parts, async (session, flags: PolicyFlags, id: string) => {
        const body = bodyOf(flags)
        const { region: _region, project: _project, ...changes } = body
        if (Object.values(changes).every((value) => value === undefined)) {
          const { usageFailure } = await import('../failure.ts')
          throw usageFailure('Say what to change: --help lists what there is.')
        }
        await session.client.call('PATCH', pathOf(id), { body })
        await printNext(session, await getPolicy(session, flags, id), 'is changed')
      }),
    )

  placed(clientCommand(policy, 'delete <policy>', 'ends a policy; its snapshots stay')).action(
    act(parts, async (session, { region, project }: Flags, id: string) => {
      const query = { region, project }
      const gone = await session.client.call<{ id: string }>('DELETE', pathOf(id), { query })
      session.print(gone, () => `Policy ${gone.id} is deleted; its snapshots stay.\n`)
    }),
  )
}

/** Adds what a policy says; what it has to say is required of a new one. */
function described(command: Command, isNew: boolean): Command {
  const needed = (option: Option) => command.addOption(option.makeOptionMandatory(isNew))
  needed(new Option('--name <name>', 'the name; its snapshots are auto-NAME-…'))
  needed(new Option('--cron <times>', "such as '0 3 * * *' for 03:00 every day"))
  needed(new Option('--keep <count>', 'how many of each disk to keep').argParser(parseCount))
  needed(new Option('--machine <id...>', 'the machines'))
  return command
    .option('--time-zone <zone>', `such as Asia/Hong_Kong${isNew ? '; without it UTC' : ''}`)
    .addOption(
      new Option('--disks <disks>', `the system disk alone, or all${isNew ? ' (default)' : ''}`).choices([
        'system',
        'all',
      ]),
    )
}

function bodyOf(flags: PolicyFlags) {
  const { region, project, name, cron, timeZone, keep: keepCount, disks, machine: machineIds } = flags
  const isEnabled = flags.disable === true ? false : flags.enable
  return { region, project, name, cron, timeZone, keepCount, disks, machineIds, isEnabled }
}

const pathOf = (id: string) => `/v1/snapshot-policies/${encodeURIComponent(id)}`

function getPolicy(
  session: Session,
  { region, project }: PlaceFlags,
  id: string,
): Promise<ShownSnapshotPolicy> {
  return session.client.call('GET', pathOf(id), { query: { region, project } })
}

/** At its last time, or since: what was before is for `show`. */
function hasFailed({ lastFailedAtMs, lastDueAtMs }: ShownSnapshotPolicy): boolean {
  return lastFailedAtMs !== null && lastFailedAtMs >= (lastDueAtMs ?? 0)
}

function failureOf(policy: ShownSnapshotPolicy, formatTime: (timeMs: number) => string): string | null {
  const { lastFailedAtMs, lastReason } = policy
  return lastFailedAtMs === null ? null : `${formatTime(lastFailedAtMs)}: ${lastReason ?? ''}`
}

async function printNext(session: Session, policy: ShownSnapshotPolicy, what: string): Promise<void> {
  const { formatTime } = await import('../format.ts')
  const next = policy.nextDueAtMs
  session.print(policy, () => {
    const then = next === null ? 'It is not enabled.' : `Its next time is ${formatTime(next)} (UTC).`
    return `Policy ${policy.id} ${what}. ${then}\n`
  })
}

async function printPolicies(session: Session, policies: readonly ShownSnapshotPolicy[]): Promise<void> {
  const { formatTime } = await import('../format.ts')
  session.print({ total: policies.length, policies }, () =>
    session.table<ShownSnapshotPolicy>(
      [
        { head: 'POLICY', of: (one) => one.id },
        { head: 'NAME', of: (one) => one.name },
        { head: 'CRON', of: (one) => one.cron },
        { head: 'ZONE', of: (one) => one.timeZone },
        { head: 'DISKS', of: (one) => one.disks },
        { head: 'MACHINES', align: 'right', of: (one) => String(one.machineIds.length) },
        { head: 'KEEP', align: 'right', of: (one) => String(one.keepCount) },
        { head: 'LAST (UTC)', of: (one) => formatTime(one.lastDueAtMs) },
        { head: 'DONE (UTC)', of: (one) => formatTime(one.lastDoneAtMs) },
        { head: 'NEXT (UTC)', of: (one) => (one.isEnabled ? formatTime(one.nextDueAtMs) : 'disabled') },
        { head: 'FAILURE', of: (one) => (hasFailed(one) ? (one.lastReason ?? '') : '') },
      ],
      policies,
      'No snapshot policies.',
    ),
  )
}

async function showPolicy(session: Session, policy: ShownSnapshotPolicy): Promise<void> {
  const [{ formatTime }, { formatFacts }] = await Promise.all([import('../format.ts'), import('../facts.ts')])
  session.print(policy, () =>
    formatFacts([
      ['policy', policy.id],
      ['name', policy.name],
      ['cron', `${policy.cron} (${policy.timeZone})`],
      ['keeps', `${policy.keepCount} of each disk`],
      ['disks', policy.disks],
      ['machines', policy.machineIds.join(', ')],
      ['enabled', policy.isEnabled ? 'yes' : 'no'],
      ['last', formatTime(policy.lastDueAtMs)],
      ['last done', formatTime(policy.lastDoneAtMs)],
      ['last failed', failureOf(policy, formatTime)],
      ['next', formatTime(policy.nextDueAtMs)],
      ['region', policy.region],
      ['project', policy.project],
      ['created', formatTime(policy.createdAtMs)],
    ]),
  )
}
