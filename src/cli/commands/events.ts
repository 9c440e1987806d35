import { type Command, Option } from 'commander'
import { TASK_KINDS } from '../../image/task.ts'
import { act, clientCommand, type ProgramParts, parseCount } from '../options.ts'
import { inProject, type ProjectFlags } from './following.ts'

interface FollowFlags extends ProjectFlags {
  readonly task?: string
  readonly kind?: readonly string[]
  readonly after?: number
}

/** Declares `events`. */
export function eventCommands(program: Command, parts: ProgramParts): void {
  const events = program.command('events').description('what tasks do, as it happens')
  const aboutJson = 'print one JSON value a line'
  inProject(clientCommand(events, 'follow', 'prints each change of a task, until Ctrl-C', aboutJson))
    .option('--task <task>', 'only of this one, until it has ended')
    .addOption(new Option('--kind <kind...>', 'only of these kinds of tasks').choices(TASK_KINDS))
    .option('--after <id>', 'what came behind this event first; without it from now on', parseCount)
    .action(
      act(parts, async (session, { project, task, kind, after }: FollowFlags) => {
        const [{ findTask }, { followEvents }] = await Promise.all([
          import('../copy-watch.ts'),
          import('../follow-events.ts'),
        ])
        // Whoever has its id need not know whose project it is of; and an id may be spelt in more than one way.
        const found = task === undefined ? undefined : await findTask(session, task)
        const wish = { project: project ?? found?.project, taskId: found?.id, kinds: kind, afterId: after }
        await followEvents(session, wish)
      }),
    )
}
