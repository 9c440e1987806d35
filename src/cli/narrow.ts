import { cellWidth, printable } from './format.ts'
import { fit } from './progress.ts'
import type { Column } from './table.ts'

const SPACE_CELLS = 2
/** A text that is cut is left out where no more of it could be seen. */
const CUT_CELLS_MIN = 16

/**
 * Those of the columns that fit into so many cells: of those with a `rank` first the empty ones go, then the lowest. What has no
 * rank stays whole, however wide; the one that `isCut` takes what is left.
 */
export function fitColumns<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  cellsMax: number,
): readonly Column<Row>[] {
  const textOf = (column: Column<Row>, row: Row) => printable(column.of(row))
  const widths = new Map(
    columns.map((column) => [
      column,
      Math.max(cellWidth(column.head), ...rows.map((row) => cellWidth(textOf(column, row)))),
    ]),
  )
  const widthOf = (column: Column<Row>) => {
    const width = widths.get(column) ?? 0
    return column.isCut === true ? Math.min(width, CUT_CELLS_MIN) : width
  }
  const sumOf = (some: readonly Column<Row>[]) =>
    some.reduce((sum, column) => sum + widthOf(column) + SPACE_CELLS, -SPACE_CELLS)
  const isEmpty = (column: Column<Row>) => rows.every((row) => textOf(column, row) === '')
  let kept = columns
  const leaveOut = (isMeant: (column: Column<Row>) => boolean) => {
    const ranked = kept.filter((column) => column.rank !== undefined && isMeant(column))
    const [last] = ranked.toSorted((a, b) => (a.rank ?? 0) - (b.rank ?? 0))
    kept = kept.filter((column) => column !== last)
    return last !== undefined
  }
  while (sumOf(kept) > cellsMax && leaveOut(isEmpty));
  while (sumOf(kept) > cellsMax && leaveOut(() => true));
  return kept.map((column) => {
    if (column.isCut !== true) return column
    const room = widthOf(column) + Math.max(0, cellsMax - sumOf(kept))
    const of = (row: Row) => {
      const text = textOf(column, row)
      return cellWidth(text) <= room ? text : `${fit(text, room)}…`
    }
    return { ...column, of }
  })
}
