import type { Command } from 'commander'
import type { CopyPlan } from '../../image/copy.ts'
import type { Copied } from '../copy-watch.ts'
import {
  act,
  clientCommand,
  type PlaceFlags,
  type ProgramParts,
  parsePriority,
  parseRateOption,
  parseWholeSecondsOption,
  placed,
  type WaitFlags,
  waitingForCopies,
} from '../options.ts'
import type { Session, SessionFlags } from '../session.ts'

interface CopyFlags extends SessionFlags, PlaceFlags, WaitFlags {
  readonly to?: readonly string[]
  readonly toProject?: string
  readonly fromPeer?: string
  readonly name?: string
  readonly description?: string
  readonly tag?: string
  readonly rekey?: boolean
  readonly priority?: number
  /** Seconds. */
  readonly within?: number
  /** Bytes a second. */
  readonly limit?: number
  readonly dryRun?: boolean
}

/** Declares `image copy`: to regions, projects, from another installation, or on paper only. */
export function imageCopyCommand(image: Command, parts: ProgramParts): void {
  const about =
    'copies of an image in other regions or another project, or of an image of another installation'
  waitingForCopies(placed(clientCommand(image, 'copy <image>', about)))
    .option(
      '--to <region...>',
      "the regions to copy to; without it the same region, or with --from-peer this server's default one",
    )
    .option('--to-project <project>', 'the project to copy to; without it the same project')
    .option(
      '--from-peer <name>',
      'another installation of the settings (`peer list`), whose words the image and --region are then; without --to it is copied to the default region here',
    )
    .option('--name <name>', 'the name of the copies; without it that of the image')
    .option('--description <text>', 'what they are')
    .option('--tag <tag>', 'a business group')
    .option('--rekey', "with the keys of the target's project, so that the two projects share nothing")
    .option('--no-rekey', 'share the content with the other project; without either as the settings say')
    .option('--priority <number>', '0 to 9, the higher goes first; without it 5', parsePriority)
    .option(
      '--within <time>',
      'refuse it unless it can be done in so long: 90s, 30m, 2h',
      parseWholeSecondsOption,
    )
    .option('--limit <rate>', 'bytes a second that each copy reads at most: 20MB, 512KiB', parseRateOption)
    .option('--dry-run', 'only says what would be moved, how long that takes, and what is in the way')
    .action(act(parts, copy))
}

async function copy(session: Session, flags: CopyFlags, id: string): Promise<void> {
  if (flags.fromPeer !== undefined && flags.region === undefined) {
    const { usageFailure } = await import('../failure.ts')
    throw usageFailure(
      'Name the region of the other installation with --region. `calotype peer list` has them.',
    )
  }
  const { region, project, name, description, tag, rekey, priority, within } = flags
  const body = {
    ...{ region, project, peer: flags.fromPeer, targetRegions: flags.to, targetProject: flags.toProject },
    ...{ name, description, tag, rekey, priority, within, bytesPerSecond: flags.limit },
  }
  const path = `/v1/images/${encodeURIComponent(id)}/copy`
  if (flags.dryRun === true) return plan(session, flags, path, body)
  const made = await session.client.call<Copied>('POST', path, { body })
  const { followCopies } = await import('../copy-report.ts')
  await followCopies(session, flags, made, leadOf(flags, made.copies[0]?.region))
}

/** Where nobody said whereto: the region that --region names is another one. */
function leadOf({ fromPeer, to }: CopyFlags, region: string | undefined): string {
  if (fromPeer === undefined || to !== undefined || region === undefined) return ''
  return `Without --to it is copied to the default region here, ${region}.\n`
}

async function plan(session: Session, flags: CopyFlags, path: string, body: object): Promise<void> {
  const { taskId } = await session.client.call<{ taskId: string }>('POST', `${path}/plan`, { body })
  const [task] = await session.waitForDone([taskId], { timeoutMs: flags.timeout })
  const { printCopyPlan } = await import('../copy-report.ts')
  const found = task?.output as unknown as CopyPlan
  printCopyPlan(session, found, leadOf(flags, found.targets[0]?.regionId))
}
