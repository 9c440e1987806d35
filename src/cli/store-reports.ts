import type { ImageUsage, ProjectUsage, StoreUsage } from '../app/contract.ts'
import type { GcItem, GcReport } from '../tasks/store-jobs.ts'
import type { ShownTask } from '../wire/native/show.ts'
import { CommandFailure, EXIT } from './failure.ts'
import { formatBytes, printable } from './format.ts'
import type { Session } from './session.ts'
import type { Column } from './table.ts'
import { stateColour } from './table.ts'
import { requireDone } from './wait.ts'

/** Items shown on a terminal; --json has all that the server keeps. */
const ITEMS_SHOWN = 40

const DONE: Readonly<Record<GcItem['step'], string>> = {
  end: 'ended',
  condemn: 'condemned',
  repack: 'repacked',
  remove: 'removed',
  wait: 'left',
}
const WOULD: Readonly<Record<GcItem['step'], string>> = {
  end: 'would end',
  condemn: 'would condemn',
  repack: 'would repack',
  remove: 'would remove',
  wait: 'would leave',
}

type Collected = Partial<GcReport> & { readonly isDryRun?: boolean }

/** What was removed, and why, and the sums of each region. Throws CommandFailure unless all tasks are done. */
export async function printCollections(session: Session, tasks: readonly ShownTask[]): Promise<void> {
  const regions = tasks.map((task) => ({ task, region: task.region, report: task.output as Collected }))
  const items = regions.flatMap(({ region, report }) =>
    (report.items ?? []).map((item) => ({ region, ...item, isDryRun: report.isDryRun === true })),
  )
  const itemCount = regions.reduce((sum, { report }) => sum + (report.itemCount ?? 0), 0)
  const text = () => {
    const list = session.table<(typeof items)[number]>(
      [
        { head: 'REGION', of: (one) => one.region },
        { head: 'STEP', of: (one) => (one.isDryRun ? WOULD : DONE)[one.step] },
        { head: 'WHAT', of: (one) => one.what },
        { head: 'NAME', of: (one) => shortName(one.name) },
        { head: 'BYTES', align: 'right', of: (one) => formatBytes(one.bytes) },
        { head: 'WHY', of: (one) => one.why },
      ],
      items.slice(0, ITEMS_SHOWN),
      'Nothing to collect.',
    )
    const more =
      itemCount > ITEMS_SHOWN ? `… and ${itemCount - Math.min(items.length, ITEMS_SHOWN)} more\n` : ''
    const bytes = (name: keyof GcReport) => (one: (typeof regions)[number]) =>
      formatBytes(Number(one.report[name] ?? 0))
    const sums = session.table<(typeof regions)[number]>(
      [
        { head: 'REGION', of: (one) => one.region },
        { head: 'STATE', of: (one) => one.task.state, colour: (one) => stateColour(one.task.state) },
        { head: 'REMOVED', align: 'right', of: bytes('removedBytes') },
        { head: 'CONDEMNED', align: 'right', of: bytes('condemnedBytes') },
        { head: 'WAITING', align: 'right', of: bytes('waitingBytes') },
        { head: 'REPACKED', align: 'right', of: bytes('repackedBytes') },
        { head: 'INTO', align: 'right', of: bytes('rewrittenBytes') },
        { head: 'LIVE', align: 'right', of: bytes('liveBytes') },
        { head: 'STORED', align: 'right', of: bytes('storedBytes') },
      ],
      regions,
      'No regions.',
    )
    const isDryRun = regions.some(({ report }) => report.isDryRun === true)
    return `${list}${more}\n${sums}${isDryRun ? 'Nothing was changed: this was a dry run.\n' : ''}`
  }
  const shown = regions.map(({ task, region, report }) => ({
    region,
    state: task.state,
    reason: task.reason,
    ...report,
  }))
  session.print({ regions: shown }, text)
  requireDone(tasks)
}

/** Long hashes are cut: the table is for people, and --json has them whole. */
function shortName(name: string): string {
  return name.replace(/([0-9a-f]{12})[0-9a-f]{52}/g, '$1…')
}

interface Scrubbed {
  readonly checkedCount?: number
  readonly checkedBytes?: number
  readonly damaged?: readonly { readonly name: string; readonly message: string }[]
  readonly damagedCount?: number
  readonly isRepairing?: boolean
  readonly mendedCount?: number
  readonly lostCount?: number
  readonly waiting?: readonly { readonly name: string; readonly why: string }[]
  readonly problems?: readonly string[]
}

/** What was read, what is damaged, what was mended. Throws CommandFailure if anything stays damaged. */
export async function printScrubs(session: Session, tasks: readonly ShownTask[]): Promise<void> {
  const regions = tasks.map((task) => ({ task, region: task.region, report: task.output as Scrubbed }))
  const count = (name: 'checkedCount' | 'damagedCount' | 'mendedCount' | 'lostCount') => {
    return (one: (typeof regions)[number]) => String(one.report[name] ?? '')
  }
  const isWell = regions.every(({ task, report }) => {
    const left = report.isRepairing === true ? (report.lostCount ?? 0) : (report.damagedCount ?? 0)
    return task.state === 'done' && left === 0 && (report.waiting ?? []).length === 0
  })
  const text = () => {
    const sums = session.table<(typeof regions)[number]>(
      [
        { head: 'REGION', of: (one) => one.region },
        { head: 'STATE', of: (one) => one.task.state, colour: (one) => stateColour(one.task.state) },
        { head: 'OBJECTS', align: 'right', of: count('checkedCount') },
        { head: 'READ', align: 'right', of: (one) => formatBytes(one.report.checkedBytes ?? 0) },
        { head: 'DAMAGED', align: 'right', of: count('damagedCount') },
        { head: 'MENDED', align: 'right', of: count('mendedCount') },
        { head: 'LOST', align: 'right', of: count('lostCount') },
      ],
      regions,
      'No regions.',
    )
    const lines = regions.flatMap(({ task, region, report }) => [
      ...(task.reason === null ? [] : [task.reason]).map((reason) => `${region}: ${printable(reason)}\n`),
      ...(report.damaged ?? []).map(({ message }) => `${region}: ${printable(message)}\n`),
      ...(report.waiting ?? []).map(
        ({ name, why }) => `${region}: not mended yet: ${shortName(printable(name))}: ${printable(why)}\n`,
      ),
      ...(report.problems ?? []).map((problem) => `${region}: lost: ${printable(problem)}\n`),
    ])
    return sums + lines.join('')
  }
  const shown = regions.map(({ task, region, report }) => ({
    region,
    state: task.state,
    reason: task.reason,
    ...report,
  }))
  session.print({ isWell, regions: shown }, text)
  requireDone(tasks)
  if (!isWell) throw new CommandFailure(EXIT.fault, 'Something stays damaged: see the report.')
}

type ShownUsage = Omit<StoreUsage, 'images'> & {
  readonly images: readonly (Omit<ImageUsage, 'id' | 'projectId' | 'regionId'> & {
    readonly id: string
    readonly project: string
    readonly region: string
  })[]
}

/** Tables of images, projects and, for those who may see them, regions. */
export async function printUsage(
  session: Session,
  query: { readonly regions: readonly string[] | undefined; readonly project: string | undefined },
): Promise<void> {
  const answer = await session.client.call<ShownUsage>('GET', '/v1/store/usage', { query })
  const bytes = <Row>(head: string, of: (row: Row) => number | null): Column<Row> => ({
    head,
    align: 'right',
    of: (row) => {
      const value = of(row)
      return value === null ? 'none' : formatBytes(value)
    },
  })
  session.print(answer, ({ images, projects, regions }) => {
    const tables = [
      session.table<ShownUsage['images'][number]>(
        [
          { head: 'IMAGE', of: (one) => one.id },
          { head: 'NAME', of: (one) => one.name },
          { head: 'PROJECT', of: (one) => one.project },
          { head: 'REGION', of: (one) => one.region },
          bytes('LOGICAL', (one) => one.logicalBytes),
          bytes('DATA', (one) => one.dataBytes),
          bytes('STORED', (one) => one.storedBytes),
          bytes('UNIQUE', (one) => one.uniqueBytes),
          bytes('SHARED', (one) => one.sharedBytes),
        ],
        images,
        'No images.',
      ),
      session.table<ProjectUsage>(
        [
          { head: 'PROJECT', of: (one) => one.id },
          { head: 'NAME', of: (one) => one.name },
          { head: 'IMAGES', align: 'right', of: (one) => String(one.imageCount) },
          bytes('LOGICAL', (one) => one.logicalBytes),
          bytes('DATA', (one) => one.dataBytes),
          bytes('UNIQUE', (one) => one.uniqueBytes),
          bytes('SHARED', (one) => one.sharedBytes),
          bytes('CHARGED', (one) => one.chargedBytes),
          bytes('QUOTA', (one) => one.quotaBytes),
        ],
        projects,
        'No projects.',
      ),
    ]
    if (regions.length > 0) {
      tables.push(
        session.table<ShownUsage['regions'][number]>(
          [
            { head: 'REGION', of: (one) => one.id },
            bytes('PACKS', (one) => one.packBytes),
            bytes('LIVE', (one) => one.liveBytes),
            bytes('RECLAIMABLE', (one) => one.reclaimableBytes),
            bytes('CONDEMNED', (one) => one.condemnedBytes),
          ],
          regions,
          '',
        ),
      )
    }
    return tables.join('\n')
  })
}
