import type { Command } from 'commander'
import type { ShownTask } from '../../wire/native/show.ts'
import { act, clientCommand, type ProgramParts, timed, type WaitFlags } from '../options.ts'
import type { SessionFlags } from '../session.ts'

type Flags = SessionFlags & WaitFlags & { region?: readonly string[]; deep?: boolean }

/** What the task of one region found. Source: the output of verify-region tasks. */
interface Report {
  readonly task: ShownTask
  readonly problems: readonly string[]
  readonly problemCount: number
}

/** Declares `verify`: it fails when anything is wrong anywhere, so that a script may rely on it. */
export function verifyCommand(program: Command, parts: ProgramParts): void {
  timed(clientCommand(program, 'verify', 'checks every pack, map and image; fails if anything is wrong'))
    .option('--region <region...>', 'only these regions; without it all')
    .option('--deep', 'reads and decodes every chunk too')
    .action(
      act(parts, async (session, flags: Flags) => {
        const [{ waitForTasks }, { CommandFailure, EXIT }] = await Promise.all([
          import('../wait.ts'),
          import('../failure.ts'),
        ])
        const body = { regions: flags.region, deep: flags.deep }
        const { taskIds } = await session.client.call<{ taskIds: string[] }>('POST', '/v1/verify', { body })
        const tasks = await waitForTasks(session.io, session.client, taskIds, { timeoutMs: flags.timeout })
        const reports = tasks.map(readReport)
        const isWell = reports.every(({ task, problemCount }) => task.state === 'done' && problemCount === 0)
        const text = await formatReports(session.table, reports)
        const regions = reports.map(({ task, problems, problemCount }) => ({
          region: task.region,
          isWell: task.state === 'done' && problemCount === 0,
          state: task.state,
          reason: task.reason,
          ...task.output,
          problems,
          problemCount,
        }))
        session.print({ isWell, regions }, () => text)
        if (!isWell) throw new CommandFailure(EXIT.fault, 'Something is wrong: see the report.')
      }),
    )
}

function readReport(task: ShownTask): Report {
  const { problems, problemCount } = task.output as { problems?: unknown; problemCount?: unknown }
  const list = Array.isArray(problems) ? problems : []
  return {
    task,
    problems: list.map((one: unknown) => (typeof one === 'string' ? one : JSON.stringify(one))),
    problemCount: Math.max(list.length, typeof problemCount === 'number' ? problemCount : 0),
  }
}

async function formatReports(
  table: import('../session.ts').Session['table'],
  reports: readonly Report[],
): Promise<string> {
  const [{ stateColour }, { formatBytes, printable }] = await Promise.all([
    import('../table.ts'),
    import('../format.ts'),
  ])
  const state = ({ task, problemCount }: Report) =>
    task.state !== 'done' ? task.state : problemCount > 0 ? 'wrong' : 'ok'
  const count = (name: string) => (one: Report) => String(one.task.output[name] ?? '')
  const bytes = (name: string) => (one: Report) => {
    const value = one.task.output[name]
    return typeof value === 'number' ? formatBytes(value) : ''
  }
  const text = table<Report>(
    [
      { head: 'REGION', of: (one) => one.task.region },
      { head: 'STATE', of: state, colour: (one) => stateColour(state(one)) },
      { head: 'IMAGES', align: 'right', of: count('imageCount') },
      { head: 'PACKS', align: 'right', of: count('packCount') },
      { head: 'LOGICAL', align: 'right', of: bytes('logicalBytes') },
      { head: 'STORED', align: 'right', of: bytes('storedBytes') },
      { head: 'PROBLEMS', align: 'right', of: (one) => String(one.problemCount) },
    ],
    reports,
    'No regions.',
  )
  const lines = reports.flatMap(({ task, problems }) => [
    ...(task.reason === null ? [] : [`${task.region}: ${printable(task.reason)}\n`]),
    ...problems.map((problem) => `${task.region}: ${printable(problem)}\n`),
  ])
  return text + lines.join('')
}
