import { type Command, InvalidArgumentError, Option } from 'commander'
import { TASK_KINDS, TASK_STATES, type TaskState } from '../../image/task.ts'
import type { ShownTask } from '../../wire/native/show.ts'
import type { Copied } from '../copy-watch.ts'
import {
  act,
  clientCommand,
  type ProgramParts,
  parseCount,
  parsePriority,
  timed,
  type WaitFlags,
  waitingForCopies,
} from '../options.ts'
import type { SessionFlags } from '../session.ts'

interface ListFlags extends SessionFlags {
  readonly project?: string
  readonly kind?: string
  readonly state?: readonly TaskState['at'][]
  readonly live?: boolean
  readonly limit?: number
}

const pathOf = (id: string) => `/v1/tasks/${encodeURIComponent(id)}`

/** May be given several times, each time one state or some with commas between them. */
function parseStates(text: string, before: readonly TaskState['at'][] = []): readonly TaskState['at'][] {
  const states = text.split(',').map((word) => {
    const state = TASK_STATES.find((one) => one === word.trim())
    if (state === undefined) throw new InvalidArgumentError(`A state is one of ${TASK_STATES.join(', ')}.`)
    return state
  })
  return [...new Set([...before, ...states])]
}

/** Declares `task`. */
export function taskCommands(program: Command, parts: ProgramParts): void {
  const task = program.command('task').description('what the server is doing, and has done')

  clientCommand(task, 'list', 'the tasks of a project, newest first')
    .option('--project <project>', 'the project; without it your default one')
    .addOption(new Option('--kind <kind>', 'only these').choices(TASK_KINDS))
    .option(
      '--state <state,...>',
      `only those that are in one of these states: ${TASK_STATES.join(', ')}`,
      parseStates,
    )
    .option('--live', 'only those that have not ended')
    .option('--limit <count>', 'the newest so many', parseCount, 50)
    .action(
      act(parts, async (session, { project, kind, state, live, limit }: ListFlags) => {
        const query = { project, kind, state, live }
        const tasks = await session.listAll<ShownTask>('/v1/tasks', 'tasks', query, limit)
        const { formatTasks } = await import('../task-report.ts')
        session.print({ total: tasks.length, tasks }, () => formatTasks(session, tasks))
      }),
    )

  clientCommand(task, 'show <task>', 'one task, with its output; of a batch with its copies').action(
    act(parts, async (session, _flags: SessionFlags, id: string) => {
      const [{ findTask, listChildren }, { formatTask }] = await Promise.all([
        import('../copy-watch.ts'),
        import('../task-report.ts'),
      ])
      const one = await findTask(session, id)
      const children = one.kind === 'copy-batch' ? await listChildren(session, one) : undefined
      session.print(children === undefined ? one : { ...one, children }, () =>
        formatTask(session, one, children, parts.io.nowMs()),
      )
    }),
  )

  timed(clientCommand(task, 'wait <task...>', 'until tasks have ended')).action(
    act(parts, async (session, flags: SessionFlags & WaitFlags, ids: readonly string[]) => {
      const tasks = await session.waitForDone(ids.map(encodeURIComponent), { timeoutMs: flags.timeout })
      session.print({ tasks }, () => tasks.map((one) => `Task ${one.id} (${one.kind}) is done.\n`).join(''))
    }),
  )

  clientCommand(task, 'cancel <task>', 'asks a task to stop and to undo what it did').action(
    act(parts, async (session, _flags: SessionFlags, id: string) => {
      const answer = await session.client.call<{ id: string }>('DELETE', pathOf(id))
      session.print(answer, () => `Task ${answer.id} is told to stop.\n`)
    }),
  )

  changing('pause <task>', 'holds a copy or a batch; what it has it keeps', { paused: true }, 'is paused.')
  changing('resume <task>', 'lets a copy or a batch go on', { paused: false }, 'goes on.')

  function changing(usage: string, about: string, body: object, said: string): void {
    clientCommand(task, usage, about).action(
      act(parts, async (session, _flags: SessionFlags, id: string) => {
        const answer = await session.client.call<{ id: string }>('PATCH', pathOf(id), { body })
        session.print(answer, () => `Task ${answer.id} ${said}\n`)
      }),
    )
  }

  clientCommand(task, 'set <task>', 'changes the place in the line of a copy, or of all copies of a batch')
    .addOption(
      new Option('--priority <number>', '0 to 9, the higher goes first')
        .argParser(parsePriority)
        .makeOptionMandatory(),
    )
    .action(
      act(parts, async (session, { priority }: SessionFlags & { priority: number }, id: string) => {
        const answer = await session.client.call<{ id: string }>('PATCH', pathOf(id), { body: { priority } })
        session.print(answer, () => `Task ${answer.id} has priority ${priority}.\n`)
      }),
    )

  waitingForCopies(
    clientCommand(task, 'retry <task>', 'begins anew what failed of a copy or a batch, with the same images'),
  ).action(
    act(parts, async (session, flags: SessionFlags & WaitFlags, id: string) => {
      const made = await session.client.call<Copied>('POST', `${pathOf(id)}/retry`)
      const { followCopies } = await import('../copy-report.ts')
      await followCopies(session, flags, made)
    }),
  )
}
