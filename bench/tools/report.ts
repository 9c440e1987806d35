import type { Machine } from './machine.ts'

/** What was measured of one contender; everything but the name is left out where it was not measured. */
export interface Row {
  readonly name: string
  /** Wall time of the whole process, its result synced to disk: the median of the runs. */
  readonly seconds?: number
  /** Of the largest process. */
  readonly peakRssBytes?: number
  /** Of all cores, user and system; neither what a QEMU that serves a disk takes nor what follows in the kernel. */
  readonly cpuSeconds?: number
  readonly storedBytes?: number
  readonly movedBytes?: number
  /** Why there is nothing else in the row. */
  readonly reason?: string
  readonly [more: string]: string | number | readonly number[] | undefined
}

/** `met` says whether `got` is on the right side of `goal`. */
export interface Mark {
  readonly what: string
  readonly goal: string
  readonly got: number
  readonly met: boolean
}

export interface Findings {
  readonly rows: readonly Row[]
  /** Names of rows that are compared: how many times faster our row is than each of the others. */
  readonly races: readonly { readonly ours: string; readonly peers: readonly string[] }[]
  readonly marks: readonly Mark[]
}

/**
 * What every `bench/NAME.ts` exports as `run`. Lines about the progress go to `say`. One that can be run in parts exports their
 * names as `parts`; `only` are those to run, all of them where it is left out.
 */
export type Bench = (say: (line: string) => void, only?: readonly string[]) => Promise<Findings>

export interface Report {
  readonly bench: string
  readonly machine: Machine
  readonly rows: readonly Row[]
  readonly speedup: Readonly<Record<string, number>>
  readonly marks: readonly Mark[]
}

const rounded = (value: number) => Number(value.toPrecision(4))

export function reportOf(bench: string, machine: Machine, findings: Findings): Report {
  const secondsOf = (name: string) => findings.rows.find((row) => row.name === name)?.seconds
  const speedup: Record<string, number> = {}
  for (const { ours, peers } of findings.races) {
    const own = secondsOf(ours)
    for (const peer of peers) {
      const theirs = secondsOf(peer)
      if (own !== undefined && theirs !== undefined) speedup[peer] = rounded(theirs / own)
    }
  }
  const rows = findings.rows.map((row) =>
    row.seconds === undefined ? row : { ...row, seconds: rounded(row.seconds) },
  )
  const marks = findings.marks.map((mark) => ({ ...mark, got: rounded(mark.got) }))
  return { bench, machine, rows, speedup, marks }
}

const mib = (bytes: number | undefined) => (bytes === undefined ? '' : (bytes / 1024 ** 2).toFixed(1))

function columns(lines: readonly (readonly string[])[]): string {
  const widths = lines[0]?.map((_, i) => Math.max(...lines.map((line) => line[i]?.length ?? 0))) ?? []
  return lines
    .map((line) =>
      line.map((cell, i) => (i === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[i] ?? 0))),
    )
    .map((cells) => cells.join('  ').trimEnd())
    .join('\n')
}

/** The report for a reader: the table, the marks, the machine. */
export function tableOf(report: Report): string {
  const { rows, speedup, marks, machine } = report
  const has = (key: keyof Row) => rows.some((row) => row[key] !== undefined)
  const shown = (['peakRssBytes', 'storedBytes', 'movedBytes'] as const).filter(has)
  const titles = { peakRssBytes: 'peak MiB', storedBytes: 'stored MiB', movedBytes: 'moved MiB' }
  const lines = rows.map((row) => [
    row.name,
    row.seconds?.toFixed(3) ?? '-',
    ...(has('cpuSeconds') ? [row.cpuSeconds?.toFixed(2) ?? ''] : []),
    ...shown.map((key) => mib(row[key])),
    speedup[row.name] === undefined ? '' : `${speedup[row.name]}`,
    row.reason ?? '',
  ])
  const cpu = has('cpuSeconds') ? ['cpu seconds'] : []
  const head = [report.bench, 'seconds', ...cpu, ...shown.map((key) => titles[key]), 'ours is x faster', '']
  const tools = Object.entries(machine.tools).map(
    ([tool, version]) => `${tool} ${version ?? 'not installed'}`,
  )
  return [
    columns([head, ...lines]),
    '',
    ...marks.map((mark) => `${mark.met ? 'met' : 'MISSED'}: ${mark.what}: ${mark.got}, goal ${mark.goal}`),
    ...(marks.length > 0 ? [''] : []),
    `${machine.cores} cores ${machine.cpu}, ${mib(machine.memoryBytes)} MiB, Linux ${machine.kernel}, load ${machine.load.join(' ')}`,
    tools.join(', '),
  ].join('\n')
}
