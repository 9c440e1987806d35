import { cellWidth, printable } from './format.ts'

export interface Column<Row> {
  readonly head: string
  readonly align?: 'right'
  /** Sets the colour of a cell on a terminal, as an SGR number; undefined leaves it plain. */
  readonly colour?: (row: Row) => number | undefined
  readonly of: (row: Row) => string
  /** On a terminal that is too narrow for all columns the lowest goes first; one without stays. */
  readonly rank?: number
  /** There a text that is longer than what is left is cut. */
  readonly isCut?: true
}

export function paint(text: string, colour: number | undefined): string {
  return colour === undefined ? text : `\x1b[${colour}m${text}\x1b[0m`
}

/** Lines of columns that stand under each other; the head is bold on a terminal. */
export function formatTable<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  hasColours: boolean,
): string {
  const cells = rows.map((row) => columns.map((column) => printable(column.of(row))))
  const widths = columns.map((column, index) =>
    Math.max(cellWidth(column.head), ...cells.map((line) => cellWidth(line[index] ?? ''))),
  )
  const line = (texts: readonly string[], colourOf: (index: number) => number | undefined) =>
    columns
      .map((column, index) => {
        const text = texts[index] ?? ''
        const space = ' '.repeat((widths[index] ?? 0) - cellWidth(text))
        const shown = hasColours ? paint(text, colourOf(index)) : text
        return column.align === 'right' ? space + shown : shown + space
      })
      .join('  ')
      .trimEnd()
  const head = line(
    columns.map((column) => column.head),
    () => 1,
  )
  const body = cells.map((texts, at) => {
    const row = rows[at]
    return line(texts, (index) => (row === undefined ? undefined : columns[index]?.colour?.(row)))
  })
  return `${[head, ...body].join('\n')}\n`
}

const GREEN = 32
const YELLOW = 33
const RED = 31
const DIM = 2

/** The colour of a state's word, for every noun that has states. */
export function stateColour(state: string): number | undefined {
  if (['available', 'running', 'done', 'ok'].includes(state)) return GREEN
  if (['creating', 'starting', 'stopping', 'queued', 'paused', 'deleting'].includes(state)) return YELLOW
  if (['failed', 'wrong'].includes(state)) return RED
  return ['stopped', 'cancelled'].includes(state) ? DIM : undefined
}
