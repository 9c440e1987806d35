import { type Command, Option } from 'commander'
import type { ShownTask } from '../../wire/native/show.ts'
import {
  act,
  clientCommand,
  type ProgramParts,
  parseCount,
  parseSizeOption,
  timed,
  type WaitFlags,
} from '../options.ts'
import type { Session, SessionFlags } from '../session.ts'

type Flags = SessionFlags & WaitFlags & { readonly region?: readonly string[] }

/** Declares the commands of `store` that ask a server; those that work without one are in offline.ts. */
export function storeCommands(store: Command, parts: ProgramParts): void {
  ranged(timed(clientCommand(store, 'gc', 'removes what no image, machine or task needs')))
    .option('--dry-run', 'only says what it would do')
    .option(
      '--grace <hours>',
      "how long what nobody needs is kept; without it the server's setting",
      parseCount,
    )
    .action(
      act(parts, async (session, flags: Flags & { dryRun?: boolean; grace?: number }) => {
        const body = { regions: flags.region, dryRun: flags.dryRun, graceHours: flags.grace }
        const { printCollections } = await import('../store-reports.ts')
        await printCollections(session, await run(session, flags, '/v1/store/collect', body))
      }),
    )

  ranged(
    timed(clientCommand(store, 'scrub', 'reads everything stored again; fails if anything stays damaged')),
  )
    .option(
      '--rate <size>',
      "bytes a second to read at most; without it the server's setting",
      parseSizeOption,
    )
    .option('--all', 'also what was read lately')
    .addOption(new Option('--repair', 'fetches what is damaged from other regions').default(true))
    .option('--no-repair', 'only says what is damaged')
    .action(
      act(parts, async (session, flags: Flags & { rate?: number; all?: boolean; repair: boolean }) => {
        const { rate: bytesPerSecond, all, repair } = flags
        const body = { regions: flags.region, bytesPerSecond, all, repair }
        const { printScrubs } = await import('../store-reports.ts')
        await printScrubs(session, await run(session, flags, '/v1/store/scrub', body))
      }),
    )

  ranged(clientCommand(store, 'usage', 'what images, projects and regions take'))
    .option('--project <project>', 'only this project; without it all that you may see')
    .action(
      act(parts, async (session, { region: regions, project }: Flags & { project?: string }) => {
        const { printUsage } = await import('../store-reports.ts')
        await printUsage(session, { regions, project })
      }),
    )
}

/** Adds --region, for one, several or all. */
function ranged(command: Command): Command {
  return command.option('--region <region...>', 'only these regions; without it all')
}

/** Begins one task for each region and waits for them all. */
async function run(
  session: Session,
  flags: Flags,
  path: string,
  body: object,
): Promise<readonly ShownTask[]> {
  const { waitForTasks } = await import('../wait.ts')
  const { taskIds } = await session.client.call<{ taskIds: string[] }>('POST', path, { body })
  return waitForTasks(session.io, session.client, taskIds, { timeoutMs: flags.timeout })
}
