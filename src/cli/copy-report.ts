import type { CopyPlan, CopyTargetPlan } from '../image/copy.ts'
import type { ShownTask } from '../wire/native/show.ts'
import { type Copied, watchCopies } from './copy-watch.ts'
import { CommandFailure, EXIT } from './failure.ts'
import { formatBytes, formatDuration, formatMilliseconds, printable } from './format.ts'
import type { WaitFlags } from './options.ts'
import type { Printer, Session } from './session.ts'

type Copy = Copied['copies'][number]

/**
 * Says what was begun, or waits for it and says how each ended, `lead` before all else. Throws CommandFailure unless all are
 * made.
 */
export async function followCopies(
  session: Session,
  flags: WaitFlags,
  made: Copied,
  lead = '',
): Promise<void> {
  const { copies, taskId } = made
  if (flags.wait !== true) {
    const text = copies
      .map(({ imageId, region }) => `Image ${imageId} in ${region} is being made.\n`)
      .join('')
    session.print(made, () => `${lead}${text}Follow them: calotype task wait ${taskId}\n`)
    return
  }
  // Whoever stops waiting has to know what goes on without them.
  const what = copies.length === 1 ? '1 copy is' : `${copies.length} copies are`
  session.io.stderr.write(`${what} being made by ${taskId}.\n`)
  const watched = await watchCopies(session, made, { timeoutMs: flags.timeout })
  const ends = copies.map((copy) => ({ copy, task: watched.tasks.find(({ id }) => id === copy.taskId) }))
  const told = () => ends.map(({ copy, task }) => describeEnd(copy, task)).join('')
  session.print({ ...made, ...watched }, () => `${lead}${told()}`)
  const lost = ends.filter(({ task }) => task?.state !== 'done')
  if (lost.length === 0) return
  const regions = lost.map(({ copy }) => copy.region).join(', ')
  const count = copies.length === 1 ? 'The copy' : `${lost.length} of ${copies.length} copies`
  // Of one the reason fits; of several the report has them.
  const why = lost.length === 1 ? ` ${reasonOf(lost[0]?.task)}` : ''
  const again = `Begin anew what failed: calotype task retry ${taskId} --wait`
  throw new CommandFailure(EXIT.fault, `${count} failed (${regions}).${why} ${again}`)
}

function reasonOf(task: ShownTask | undefined): string {
  if (task?.state === 'cancelled') return 'It was cancelled.'
  return task?.reason ?? 'Why is not known.'
}

function describeEnd({ imageId, region }: Copy, task: ShownTask | undefined): string {
  const image = `Image ${imageId} in ${region}`
  if (task?.state !== 'done') return `${image} is not made: ${printable(reasonOf(task))}\n`
  const saved = task.savedBytes === 0 ? '' : `, ${formatBytes(task.savedBytes)} saved`
  return `${image} is available; ${formatBytes(task.movedBytes)} moved${saved}.\n`
}

const known = (value: number | null, say: (value: number) => string) =>
  value === null ? 'unknown' : say(value)

/** Prints what a copy would do, `lead` before all else. Throws CommandFailure where it would not go. */
export function printCopyPlan(printer: Printer, plan: CopyPlan, lead = ''): void {
  printer.print(plan, ({ targets, moveBytes, estimateMs, isPossible }) => {
    const table = printer.table<CopyTargetPlan>(
      [
        { head: 'REGION', of: (one) => one.regionId },
        { head: 'WAY', of: (one) => one.way },
        { head: 'TO MOVE', align: 'right', of: (one) => known(one.moveBytes, formatBytes) },
        { head: 'SAVED', align: 'right', of: (one) => known(one.savedBytes, formatBytes) },
        { head: 'CHARGED', align: 'right', of: (one) => formatBytes(one.chargedBytes) },
        { head: 'FREE', align: 'right', of: (one) => known(one.freeBytes, formatBytes) },
        { head: 'ESTIMATE', align: 'right', of: (one) => known(one.estimateMs, formatMilliseconds) },
        { head: 'BLOCKERS', of: (one) => (one.blockers.length === 0 ? 'none' : one.blockers.join(' ')) },
      ],
      targets,
      'There are no targets.',
    )
    const time = estimateMs === null ? 'for how long is not known' : `for about ${formatDuration(estimateMs)}`
    const sum = `In all: ${formatBytes(moveBytes)} to move, ${time}${isPossible ? '' : ', if it went'}.`
    return `${lead}${table}${sum}\nNothing was made: this was a dry run.\n`
  })
  if (plan.isPossible) return
  const blocked = plan.targets.filter(({ blockers }) => blockers.length > 0)
  const where =
    blocked.length === 0
      ? ''
      : ` See what is in its way in ${blocked.map(({ regionId }) => regionId).join(', ')}.`
  throw new CommandFailure(EXIT.fault, `The copy could not be made as things are.${where}`)
}
