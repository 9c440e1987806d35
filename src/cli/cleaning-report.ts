import {
  ALL_OPERATIONS,
  type CleaningReport,
  type CleaningSummary,
  describePlace,
  type RemovedItem,
  type ReportedVolume,
} from '../image/cleaning.ts'
import { formatFacts } from './facts.ts'
import { formatBytes, formatMilliseconds, printable } from './format.ts'
import type { Session } from './session.ts'

const count = (number: number, one: string, many: string): string => `${number} ${number === 1 ? one : many}`
const files = (fileCount: number): string => count(fileCount, 'file', 'files')

/** '3 files (4.9 KiB) removed, 65 KiB made zero; 1 volume left as it was; 2 secrets found'. */
export function describeSummary(summary: CleaningSummary): string {
  const { removedFileCount, removedBytes, scrubbedBytes, leftVolumeCount, secretCount, isPartial } = summary
  const removed = `${files(removedFileCount)} (${formatBytes(removedBytes)}) removed, ${formatBytes(scrubbedBytes)} made zero`
  const left =
    leftVolumeCount > 0
      ? `; ${count(leftVolumeCount, 'volume left as it was', 'volumes left as they were')}`
      : ''
  const secrets = secretCount > 0 ? `; ${count(secretCount, 'secret', 'secrets')} found` : ''
  const part = isPartial ? '; of a part of what there is to clean' : ''
  return removed + left + secrets + part
}

const line = (depth: number, text: string): string => `${'  '.repeat(depth)}${printable(text)}\n`

/** What lies on volumes, under the volume's name; nothing where there is none of it. */
function section<Item extends { readonly volume: number }>(
  head: string,
  { volumes }: Pick<CleaningReport, 'volumes'>,
  items: readonly Item[],
  toText: (item: Item) => string,
): string {
  if (items.length === 0) return ''
  const numbers = [...new Set(items.map(({ volume }) => volume))].sort((a, b) => a - b)
  const parts = numbers.map((number) => {
    const volume = volumes[number]
    const name = volume === undefined ? `volume ${number}` : describePlace(volume)
    return (
      line(1, name) +
      items
        .filter((item) => item.volume === number)
        .map(toText)
        .join('')
    )
  })
  return `\n${head}\n${parts.join('')}`
}

/** A directory or file that goes, and by well-known folders what it was made of. */
function removedText({ path, operation, how, fileCount, directoryCount, bytes, parts }: RemovedItem): string {
  const amounts = [
    ...(fileCount > 0 ? [files(fileCount)] : []),
    ...(directoryCount > 0 ? [count(directoryCount, 'directory', 'directories')] : []),
    ...(bytes > 0 ? [formatBytes(bytes)] : []),
  ]
  const amount = amounts.length === 0 ? '' : `: ${amounts.join(', ')}`
  const inside = parts.map((part) =>
    line(3, `${part.name}: ${files(part.fileCount)}, ${formatBytes(part.bytes)}`),
  )
  return line(2, `${path} (${operation}, ${how})${amount}`) + inside.join('')
}

function wishText({ operations, isBestEffort, onSecrets }: CleaningReport['wish']): string {
  const isAll = ALL_OPERATIONS.every((name) => operations.includes(name))
  return [
    isAll ? 'everything' : operations.join(', '),
    ...(isBestEffort ? ['as well as it can be done'] : []),
    ...(onSecrets === 'refuse' ? ['and no secrets'] : []),
  ].join(', ')
}

const pairs = (values: Readonly<Record<string, string>>): string =>
  Object.entries(values)
    .map(([name, value]) => `${name} ${value}`)
    .join(', ')

/** In the order in which they come. */
const PHASES: readonly string[] = ['look', 'appliance start', 'appliance', 'plan', 'edit', 'scrub', 'check']

/** A report for people. Names in it come from inside disks, so that every one is made printable. */
export function formatCleaning(table: Session['table'], report: CleaningReport): string {
  const { isDryRun, volumes, gapBytes, phases } = report
  // A signed report has its members in the order of their names.
  const known = PHASES.filter((name) => phases[name] !== undefined)
  const names = [...known, ...Object.keys(phases).filter((name) => !PHASES.includes(name))]
  const times = names.map((name) => [name, formatMilliseconds(phases[name] ?? 0)])
  const facts = formatFacts([
    [isDryRun ? 'looked at' : 'cleaned', `${report.madeAt}, in ${formatMilliseconds(report.durationMs)}`],
    ['asked for', wishText(report.wish)],
    [
      isDryRun ? 'to remove' : 'removed',
      `${files(report.removedFileCount)}, ${formatBytes(report.removedBytes)}`,
    ],
    ['made zero', isDryRun ? null : formatBytes(report.scrubbedBytes)],
    ['tools', pairs(report.tools)],
    ['phases', pairs(Object.fromEntries(times))],
  ])
  const places = table<ReportedVolume>(
    [
      { head: 'VOLUME', of: describePlace },
      { head: 'SIZE', align: 'right', of: (one) => formatBytes(one.sizeBytes) },
      { head: 'WHAT', of: (one) => one.title },
      { head: 'LABEL', of: (one) => one.label },
      { head: 'OUTCOME', of: ({ outcome }) => (isDryRun && outcome === 'cleaned' ? 'to clean' : outcome) },
      { head: 'WHY', of: (one) => one.why },
    ],
    volumes,
    'No volumes.',
  )
  const scrubbed = volumes.flatMap((volume, at) => volume.scrubbed.map((one) => ({ volume: at, ...one })))
  const secrets = `Secrets in what is ${isDryRun ? 'to be kept' : 'kept'}`
  return [
    `${facts}\n${places}`,
    section(isDryRun ? 'To remove' : 'Removed', report, report.removed, removedText),
    section('Kept', report, report.kept, ({ path, why }) => line(2, `${path}: ${why}`)),
    section('Made zero', report, scrubbed, (one) =>
      line(2, `${one.what}: ${count(one.count, 'place', 'places')}, ${formatBytes(one.bytes)}`),
    ),
    ...(gapBytes > 0 ? [line(1, `between volumes: ${formatBytes(gapBytes)}`)] : []),
    section(secrets, report, report.secrets, ({ path, kind }) => line(2, `${path}: ${kind}`)),
    ...report.warnings.map((warning) => line(0, `Warning: ${warning}`)),
  ].join('')
}
