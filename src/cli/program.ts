import { readFileSync } from 'node:fs'
import { Command, CommanderError } from 'commander'
import { accountCommands } from './commands/account.ts'
import { doctorCommand, type Finding } from './commands/doctor.ts'
import { eventCommands } from './commands/events.ts'
import { imageCommands } from './commands/image.ts'
import { machineCommands } from './commands/machine.ts'
import { type Offline, offlineCommands } from './commands/offline.ts'
import { peerCommands, type ReadPeerIdentity } from './commands/peer.ts'
import { regionCommands } from './commands/region.ts'
import { replicationCommands } from './commands/replication.ts'
import { type Serve, serveCommand } from './commands/serve.ts'
import { snapshotCommands } from './commands/snapshot.ts'
import { storeCommands } from './commands/store.ts'
import { taskCommands } from './commands/task.ts'
import { verifyCommand } from './commands/verify.ts'
import { webhookCommands } from './commands/webhook.ts'
import { EXIT } from './failure.ts'
import { type Io, processIo } from './io.ts'
import type { ProgramParts } from './options.ts'

export type { Serve, ServeFlags } from './commands/serve.ts'

export interface ProgramOptions {
  /** Starts the server, which keeps the process alive. Passed in: only main may join the parts of a server. */
  readonly serve: Serve
  /** Likewise, what is done on the data directory of a server that is stopped. */
  readonly offline: () => Promise<Offline>
  /** Likewise, a look at this host. */
  readonly doctor: () => Promise<readonly Finding[]>
  /** Likewise, what other installations know this one by. */
  readonly peerIdentity: ReadPeerIdentity
  readonly io?: Io
}

function versionText(): string {
  const file = new URL('../../package.json', import.meta.url)
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version
}

/** The whole `calotype` command. `fail` is told of a command that did not succeed. */
export function buildProgram(options: ProgramOptions, fail: ProgramParts['fail']): Command {
  const io = options.io ?? processIo()
  const parts: ProgramParts = { io, fail }
  const program = new Command('calotype')
    .description('A self-hosted custom image service for cloud computers.')
    .version(versionText(), '-V, --version', 'the version')
    .helpCommand('help [command]', 'what a command does')
    .showHelpAfterError('(--help says more)')
    .configureOutput({
      writeOut: (text) => io.stdout.write(text),
      writeErr: (text) => io.stderr.write(text),
      getOutHelpWidth: () => io.stdout.columns,
      getErrHelpWidth: () => io.stderr.columns,
      getOutHasColors: () => io.stdout.isTerminal && !io.environment.NO_COLOR,
      getErrHasColors: () => io.stderr.isTerminal && !io.environment.NO_COLOR,
    })
    .exitOverride()
  serveCommand(program, parts, options.serve)
  imageCommands(program, parts)
  snapshotCommands(program, parts)
  machineCommands(program, parts)
  taskCommands(program, parts)
  eventCommands(program, parts)
  webhookCommands(program, parts)
  replicationCommands(program, parts)
  peerCommands(program, parts, options.peerIdentity)
  accountCommands(program, parts)
  regionCommands(program, parts)
  const store = program.command('store').description("the regions' stores: what they hold, and their upkeep")
  storeCommands(store, parts)
  offlineCommands(store, parts, options.offline)
  verifyCommand(program, parts)
  doctorCommand(program, parts, options.doctor)
  return program
}

/** Runs one command line (without the program's own name) and returns the exit code. Never throws. */
export async function runCli(argv: readonly string[], options: ProgramOptions): Promise<number> {
  const io = options.io ?? processIo()
  let exitCode: number = EXIT.ok
  const program = buildProgram({ ...options, io }, (failure) => {
    io.stderr.write(`calotype: ${failure.line}\n`)
    exitCode = failure.exitCode
  })
  try {
    await program.parseAsync(argv, { from: 'user' })
  } catch (error) {
    // Commander has written what it has to say; asking for help is no failure.
    if (!(error instanceof CommanderError)) throw error
    return error.exitCode === 0 ? EXIT.ok : EXIT.usage
  }
  return exitCode
}
