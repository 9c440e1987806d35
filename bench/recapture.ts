import { cp, mkdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { runTool } from '../src/host/tools/run.ts'
import { ensureChangedDisk } from './tools/data.ts'
import { debianDisk } from './tools/debian-disk.ts'
import { isInstalled } from './tools/machine.ts'
import { fasterThan, memoryWithin } from './tools/marks.ts'
import { type Contender, compare, runCommand, withScratch } from './tools/measure.ts'
import { borgCapture, calotypeCapture, resticCapture } from './tools/peers.ts'
import type { Bench, Mark, Row } from './tools/report.ts'

// A Debian's disk captured once more after one chunk in 100 has changed, into the store that holds the first capture.
// Nobody tells where it changed: all of it is read.

/** Bytes of the disk that are not free room, per second. */
const RATE_MIN = 1.5e9

/** What `first` leaves is made once, below `template`, and is there at the start of every run of `second`. */
async function after(first: Contender, second: Contender, template: string): Promise<Contender> {
  const folder = join(template, 'result')
  await mkdir(folder, { recursive: true })
  const environment = first.environment?.(folder) ?? {}
  await first.prepare?.(folder)
  await runCommand(first.command(folder), { environment, result: folder })
  return {
    ...second,
    // With all that lies beside it: borg and restic keep their own caches there.
    prepare: async (target) => {
      await cp(template, dirname(target), { recursive: true })
      // What is still to be written to disk would be written in the time of the run.
      await runTool('sync', ['-f', target], { doing: 'Syncing', package: 'coreutils', timeoutMs: 60_000 })
    },
  }
}

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
    const contenders: Contender[] = []
    for (const [first, second] of pairs) {
      const isThere = second.tool === undefined || isInstalled(second.tool)
      contenders.push(isThere ? await after(first, second, join(scratch, second.name)) : second)
    }
    const rows = await compare(contenders, say)
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
