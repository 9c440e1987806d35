import type { Command } from 'commander'
import { describeFailure } from '../failure.ts'
import type { ProgramParts } from '../options.ts'

/** One thing that a server on this host has, or does without. */
export interface Finding {
  /** What suffers without it. */
  readonly area: 'machines' | 'imports' | 'cleaning'
  readonly name: string
  readonly isThere: boolean
  /** What it is for; where it is not there, what to do. */
  readonly detail: string
}

/** Declares `doctor`: what this host can do, before and without a server. */
export function doctorCommand(
  program: Command,
  parts: ProgramParts,
  examine: () => Promise<readonly Finding[]>,
): void {
  program
    .command('doctor')
    .description('what this host can do for a server, what it lacks, and what to do about that')
    .option('--json', 'print one JSON value')
    .action(async ({ json }: { readonly json?: boolean }) => {
      try {
        const findings = await examine()
        if (json === true) {
          parts.io.stdout.write(`${JSON.stringify(findings, null, 2)}\n`)
          return
        }
        const { formatTable, stateColour } = await import('../table.ts')
        const word = (one: Finding) => (one.isThere ? 'ok' : 'missing')
        const table = formatTable<Finding>(
          [
            { head: 'FOR', of: (one) => one.area },
            { head: 'WHAT', of: (one) => one.name },
            { head: 'IS', of: word, colour: (one) => stateColour(one.isThere ? 'ok' : 'wrong') },
            { head: 'WHAT TO DO', of: (one) => (one.isThere ? '' : one.detail) },
          ],
          findings,
          parts.io.stdout.isTerminal,
        )
        parts.io.stdout.write(table)
      } catch (error) {
        parts.fail(describeFailure(error))
      }
    })
}
