import { median } from './measure.ts'
import type { Mark, Row } from './report.ts'

/** What is asked of one of our rows beside those of the peers. Rows that are not there ask nothing. */
export interface Race {
  readonly what: string
  readonly rows: readonly Row[]
  readonly ours: string
}

const rowOf = ({ rows }: Race, name: string) => rows.find((row) => row.name === name)

/** How many times as long as ours a row took: the middle of the ratios of the runs that went in turn. */
function timesAsLong(race: Race, peer: string): number | undefined {
  const own = rowOf(race, race.ours)?.runsSeconds as readonly number[] | undefined
  const other = rowOf(race, peer)?.runsSeconds as readonly number[] | undefined
  if (own === undefined || other === undefined) return undefined
  return median(own.map((seconds, i) => (other[i] ?? Number.NaN) / seconds))
}

/** We are to be so many times as fast as the peer. */
export function fasterThan(race: Race, peer: string, goal: number): Mark[] {
  const got = timesAsLong(race, peer)
  if (got === undefined) return []
  return [{ what: `${race.what}: times as fast as ${peer}`, goal: `>= ${goal}`, got, met: got >= goal }]
}

/** We are to take at most so much of the peer's time. */
export function timeWithin(race: Race, peer: string, goal: number): Mark[] {
  const times = timesAsLong(race, peer)
  if (times === undefined) return []
  const got = 1 / times
  return [{ what: `${race.what}: time by that of ${peer}`, goal: `<= ${goal}`, got, met: got <= goal }]
}

/** What we store is to be at most so much of what the peer does. */
export function sizeWithin(race: Race, peer: string, goal: number): Mark[] {
  const own = rowOf(race, race.ours)?.storedBytes
  const other = rowOf(race, peer)?.storedBytes
  if (own === undefined || other === undefined) return []
  const got = own / other
  return [{ what: `${race.what}: stored bytes by ${peer}'s`, goal: `<= ${goal}`, got, met: got <= goal }]
}

/** Our peak of memory in any of the rows named. */
export function memoryWithin(rows: readonly Row[], names: readonly string[], goalMib: number): Mark[] {
  const peaks = rows.filter((row) => names.includes(row.name)).map((row) => row.peakRssBytes ?? Number.NaN)
  if (peaks.length === 0) return []
  const got = Math.max(...peaks) / 1024 ** 2
  return [{ what: 'peak memory of a capture, MiB', goal: `< ${goalMib}`, got, met: got < goalMib }]
}
