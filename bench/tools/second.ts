import { cp, mkdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { runTool } from '../../src/host/tools/run.ts'
import { isInstalled } from './machine.ts'
import { type Contender, compare, runCommand } from './measure.ts'
import type { Row } from './report.ts'

/** As `compare`, of the second of each pair, over what the first one left. */
export async function compareSecond(
  pairs: readonly (readonly [Contender, Contender])[],
  scratch: string,
  say: (line: string) => void,
): Promise<Row[]> {
  const contenders: Contender[] = []
  for (const [first, second] of pairs) {
    const isThere = second.tool === undefined || isInstalled(second.tool)
    contenders.push(isThere ? await after(first, second, join(scratch, second.name)) : second)
  }
  return compare(contenders, say)
}

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
