import { ensureChangedDisk } from './tools/data.ts'
import { debianDisk } from './tools/debian-disk.ts'
import { fasterThan, memoryWithin } from './tools/marks.ts'
import { type Contender, withScratch } from './tools/measure.ts'
import { borgCapture, calotypeCapture, resticCapture } from './tools/peers.ts'
import type { Bench, Mark, Row } from './tools/report.ts'
import { compareSecond } from './tools/second.ts'

// A Debian's disk captured once more after one chunk in 100 has changed, into the store that holds the first capture.
// Nobody tells where it changed: all of it is read.

/** Bytes of the disk that are not free room, per second. */
const RATE_MIN = 1.5e9

function rateMark(rows: readonly Row[]): Mark[] {
  const row = rows.find(({ name }) => name === 'calotype')
  if (row?.seconds === undefined || typeof row.dataBytes !== 'number') return []
  const got = row.dataBytes / row.seconds
  return [
    { what: 'GB/s of logical data', goal: `>= ${RATE_MIN / 1e9}`, got: got / 1e9, met: got >= RATE_MIN },
  ]
}

export const run: Bench = async (say) => {
  const why = debianDisk.whyNot()
  if (why !== undefined) return { rows: [{ name: 'calotype', reason: why }], races: [], marks: [] }
  const disk = await debianDisk.ensure(say)
  const changed = await ensureChangedDisk(disk)
  return withScratch(async (scratch) => {
    const pairs: [Contender, Contender][] = [
      [calotypeCapture('calotype', disk), calotypeCapture('calotype', changed, { session: 'again' })],
      [resticCapture('restic', disk), resticCapture('restic', changed)],
      [borgCapture('borg', disk), borgCapture('borg', changed, 'two')],
    ]
    const rows = await compareSecond(pairs, scratch, say)
    const race = { what: 'one chunk in 100 changed', rows, ours: 'calotype' }
    return {
      rows,
      races: [{ ours: 'calotype', peers: ['restic', 'borg'] }],
      marks: [
        ...rateMark(rows),
        ...fasterThan(race, 'restic', 8),
        ...fasterThan(race, 'borg', 8),
        ...memoryWithin(rows, ['calotype'], 400),
      ],
    }
  })
}
