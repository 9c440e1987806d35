import { type Command, Option } from 'commander'
import { TASK_KINDS } from '../../image/task.ts'
import type { ShownTask } from '../../wire/native/show.ts'
import { act, clientCommand, type ProgramParts, parseCount, timed, type WaitFlags } from '../options.ts'
import type { SessionFlags } from '../session.ts'

type ListFlags = SessionFlags & { project?: string; kind?: string; live?: boolean; limit?: number }

/** Declares `task`. */
export function taskCommands(program: Command, parts: ProgramParts): void {
  const task = program.command('task').description('what the server is doing, and has done')

  clientCommand(task, 'list', 'the tasks of a project, newest first')
    .option('--project <project>', 'the project; without it your default one')
    .addOption(new Option('--kind <kind>', 'only these').choices(TASK_KINDS))
    .option('--live', 'only those that have not ended')
    .option('--limit <count>', 'the newest so many', parseCount, 50)
    .action(
      act(parts, async (session, { project, kind, live, limit }: ListFlags) => {
        const [{ stateColour }, { formatBytes, formatTime }] = await Promise.all([
          import('../table.ts'),
          import('../format.ts'),
        ])
        const tasks = await session.listAll<ShownTask>('/v1/tasks', 'tasks', { project, kind, live }, limit)
        session.print({ total: tasks.length, tasks }, () =>
          session.table<ShownTask>(
            [
              { head: 'TASK', of: (one) => one.id },
              { head: 'KIND', of: (one) => one.kind },
              { head: 'REGION', of: (one) => one.region },
              {
                head: 'STATE',
                of: (one) => (one.step === null ? one.state : `${one.state}: ${one.step}`),
                colour: (one) => stateColour(one.state),
              },
              { head: 'DONE', align: 'right', of: (one) => formatBytes(one.doneBytes) },
              { head: 'OF', align: 'right', of: (one) => formatBytes(one.totalBytes) },
              { head: 'ABOUT', of: (one) => one.imageId ?? one.snapshotId ?? one.machineId ?? '' },
              { head: 'CREATED (UTC)', of: (one) => formatTime(one.createdAtMs) },
              { head: 'REASON', of: (one) => one.reason ?? '' },
            ],
            tasks,
            'No tasks.',
          ),
        )
      }),
    )

  clientCommand(task, 'show <task>', 'one task, with its output').action(
    act(parts, async (session, _flags: SessionFlags, id: string) => {
      const [{ formatBytes, formatTime }, { formatFacts }] = await Promise.all([
        import('../format.ts'),
        import('../facts.ts'),
      ])
      const one = await session.client.call<ShownTask>('GET', `/v1/tasks/${encodeURIComponent(id)}`)
      session.print(one, () =>
        formatFacts([
          ['task', one.id],
          ['part of', one.parentId],
          ['kind', one.kind],
          ['state', one.reason === null ? one.state : `${one.state} (${one.faultKind}): ${one.reason}`],
          ['step', one.step],
          ['region', one.region],
          ['project', one.project],
          ['image', one.imageId],
          ['snapshot', one.snapshotId],
          ['machine', one.machineId],
          ['done', `${formatBytes(one.doneBytes)} of ${formatBytes(one.totalBytes)}`],
          ['moved', formatBytes(one.movedBytes)],
          ['attempts', String(one.attemptCount)],
          ['created', formatTime(one.createdAtMs)],
          ['started', formatTime(one.startedAtMs)],
          ['ended', formatTime(one.endedAtMs)],
          ['output', Object.keys(one.output).length === 0 ? null : JSON.stringify(one.output)],
        ]),
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
      const path = `/v1/tasks/${encodeURIComponent(id)}`
      const answer = await session.client.call<{ id: string }>('DELETE', path)
      session.print(answer, () => `Task ${answer.id} is told to stop.\n`)
    }),
  )
}
