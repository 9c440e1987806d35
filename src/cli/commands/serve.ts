import type { Command } from 'commander'
import { attributeOf, SETTINGS } from '../../settings/table.ts'
import { describeFailure } from '../failure.ts'
import type { ProgramParts } from '../options.ts'

/** By the flag's name in camel case; `config` is the settings file, the others are settings (docs/settings.md). */
export type ServeFlags = Readonly<Record<string, string | undefined>> & {
  readonly config?: string | undefined
}
export type Serve = (flags: ServeFlags) => Promise<void>

/** Declares `serve` with one flag for each setting that may be given as one. */
export function serveCommand(program: Command, parts: ProgramParts, serve: Serve): void {
  const command = program
    .command('serve')
    .description('run the server until it is interrupted')
    .option('--config <file>', 'settings as YAML (docs/settings.md); flags win over it')
  for (const setting of SETTINGS) {
    if (setting.flag === undefined || attributeOf(setting) === undefined) continue
    command.option(`${setting.flag} <value>`, `${setting.takes} (default: ${setting.default})`)
  }
  command.action(async (flags: ServeFlags) => {
    try {
      await serve(flags)
    } catch (error) {
      parts.fail(describeFailure(error))
    }
  })
}
