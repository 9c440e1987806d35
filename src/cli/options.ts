import { type Command, InvalidArgumentError, Option } from 'commander'
import type { DiskBus } from '../image/config.ts'
import { CONSISTENCIES } from '../image/consistency.ts'
import { findDuration } from './duration.ts'
import { describeFailure } from './failure.ts'
import type { Io } from './io.ts'
import type { Session, SessionFlags } from './session.ts'
import { findSize } from './size.ts'

// What the commands' declarations share. This is all that is loaded for `calotype serve`; the client and the
// output come in only when a client command runs.

export const BUSES: readonly string[] = ['virtio-blk', 'virtio-scsi'] satisfies DiskBus[]

/** What `runCli` gives the declarations: where to write, and how to say that a command failed. */
export interface ProgramParts {
  readonly io: Io
  fail(failure: { readonly line: string; readonly exitCode: number }): void
}

export interface PlaceFlags {
  readonly region?: string
  readonly project?: string
}

/** A command of a client: it has the connection's options and --json. */
export function clientCommand(
  parent: Command,
  usage: string,
  about: string,
  aboutJson = 'print one JSON value',
): Command {
  return parent
    .command(usage)
    .description(about)
    .addOption(new Option('--json', aboutJson))
    .addOption(
      connectionOption('--endpoint <url>', 'the server (CALOTYPE_ENDPOINT, else http://127.0.0.1:8370)'),
    )
    .addOption(connectionOption('--key-file <file>', 'the access key as JSON (CALOTYPE_KEY_FILE)'))
    .addOption(connectionOption('--data <directory>', "a local server's data directory: its address and key"))
}

function connectionOption(flags: string, about: string): Option {
  return new Option(flags, about).helpGroup('Connection:')
}

/** Adds --region and --project. */
export function placed(command: Command): Command {
  return command
    .option('--region <region>', "the region; without it the server's default")
    .option('--project <project>', 'the project; without it your default one')
}

/** Adds --wait and --timeout; who names a time means to wait. */
export function waiting(command: Command, about: string): Command {
  return command.option('--wait', about).addOption(timeoutOption().implies({ wait: true }))
}

/** Adds --consistency, of what a capture may be asked for. */
export function consistent(command: Command): Command {
  const about = 'what the disks have to be worth at least; without it the best that can be had'
  return command.addOption(new Option('--consistency <level>', about).choices(['best', ...CONSISTENCIES]))
}

export interface CleanFlags {
  readonly bestEffort?: boolean
  readonly refuseSecrets?: boolean
}

/** Adds what a cleaning may be told beside what goes. */
export function cleanable(command: Command): Command {
  return command
    .option('--best-effort', 'leaves a volume that cannot be cleaned as it is, and says so')
    .option('--refuse-secrets', 'makes no image if a private key or a token is in what is kept')
}

/** The `clean` of a request: `selection` is what goes, in words, true or nothing for everything. */
export function cleanBody(selection: string | true | undefined, flags: CleanFlags): object {
  return {
    ...(typeof selection === 'string' ? { operations: selection } : {}),
    ...(flags.bestEffort === true ? { bestEffort: true } : {}),
    ...(flags.refuseSecrets === true ? { secrets: 'refuse' } : {}),
  }
}

/** Adds --timeout to a command that waits anyway. */
export function timed(command: Command): Command {
  return command.addOption(timeoutOption())
}

function timeoutOption(about = 'give up waiting after so long'): Option {
  return new Option('--timeout <seconds>', about).argParser(parseSeconds)
}

/** Adds --wait and --timeout of work that may take hours: only the time in which nothing goes on counts. */
export function waitingForCopies(command: Command): Command {
  return command
    .option('--wait', 'until all copies have ended; shows how each goes on')
    .addOption(timeoutOption('give up waiting once nothing has gone on for so long').implies({ wait: true }))
}

export interface WaitFlags {
  readonly wait?: boolean
  /** Milliseconds: the option is parsed once, where it is declared. */
  readonly timeout?: number
}

/** Runs a client command: opens its session, and tells people and the shell how it ended. */
export function act<Arguments extends readonly unknown[], Flags extends SessionFlags>(
  parts: ProgramParts,
  run: (session: Session, flags: Flags, ...args: Arguments) => Promise<void>,
): (...given: unknown[]) => Promise<void> {
  return async (...given) => {
    // Commander gives the arguments, then the options, then the command itself.
    const flags = given.at(-2) as Flags
    try {
      const { openSession } = await import('./session.ts')
      await run(openSession(flags, parts.io), flags, ...(given.slice(0, -2) as unknown as Arguments))
    } catch (error) {
      parts.fail(describeFailure(error))
    }
  }
}

export function parseSizeOption(text: string): number {
  const sizeBytes = findSize(text)
  if (sizeBytes === undefined)
    throw new InvalidArgumentError('It takes a size such as 512MiB, 20GiB or 4096.')
  return sizeBytes
}

const PART_BYTES_MIN = 64 * 1024

/** What one request of an upload or download carries where nothing else is said. */
export const PART_BYTES = 16 * 1024 ** 2

/** Adds --part-size to a command that sends or fetches a file: `most` is what one request may carry. */
export function inParts(command: Command, about: string, most: '32MiB' | '256MiB'): Command {
  return command.option('--part-size <size>', `${about} (default: 16MiB)`, (text) => {
    const sizeBytes = parseSizeOption(text)
    if (sizeBytes >= PART_BYTES_MIN && sizeBytes <= parseSizeOption(most)) return sizeBytes
    throw new InvalidArgumentError(`A part has between 64KiB and ${most}.`)
  })
}

/** May be given several times. */
export function collect<Value>(parse: (text: string) => Value): (text: string, before?: Value[]) => Value[] {
  return (text, before = []) => [...before, parse(text)]
}

export function parseCount(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new InvalidArgumentError('It takes a whole number.')
  return Number(text)
}

/** Milliseconds. */
export function parseDurationOption(text: string): number {
  const durationMs = findDuration(text)
  if (durationMs === undefined)
    throw new InvalidArgumentError('It takes a time such as 90s, 30m, 2h or 1h30m.')
  return durationMs
}

/** Whole seconds, of which there is at least one. */
export function parseWholeSecondsOption(text: string): number {
  const durationMs = parseDurationOption(text)
  if (durationMs >= 1000) return Math.floor(durationMs / 1000)
  throw new InvalidArgumentError('It takes a second at least.')
}

const RATE_MIN = 64 * 1024

/** Bytes a second, of '20MB' or '20MB/s'. */
export function parseRateOption(text: string): number {
  const bytesPerSecond = findSize(text.replace(/\/s$/, ''))
  if (bytesPerSecond === undefined)
    throw new InvalidArgumentError('It takes so much a second, such as 20MB or 512KiB.')
  if (bytesPerSecond < RATE_MIN) throw new InvalidArgumentError('It takes 64KiB a second at least.')
  return bytesPerSecond
}

export function parsePriority(text: string): number {
  if (!/^\d$/.test(text)) throw new InvalidArgumentError('A priority is 0 to 9; the higher goes first.')
  return Number(text)
}

function parseSeconds(text: string): number {
  if (!/^\d{1,8}(\.\d+)?$/.test(text)) throw new InvalidArgumentError('It takes a number of seconds.')
  return Number(text) * 1000
}

export interface DataDisk {
  readonly sizeBytes: number
  readonly bus?: string
  readonly snapshotId?: string
}

export function parseDataDisk(text: string): DataDisk {
  const [size = '', ...rest] = text.split(',')
  const disk: Record<string, string> = {}
  for (const part of rest) {
    const { key, value } = /^(?<key>bus|snapshot)=(?<value>.+)$/.exec(part)?.groups ?? {}
    if (key === undefined || value === undefined || disk[key] !== undefined) {
      throw new InvalidArgumentError(`After its size a disk takes bus=… and snapshot=…, not '${part}'.`)
    }
    disk[key] = value
  }
  const { bus, snapshot } = disk
  if (bus !== undefined && !BUSES.includes(bus)) {
    throw new InvalidArgumentError(`A disk's bus is one of ${BUSES.join(', ')}.`)
  }
  return {
    sizeBytes: parseSizeOption(size),
    ...(bus === undefined ? {} : { bus }),
    ...(snapshot === undefined ? {} : { snapshotId: snapshot }),
  }
}

export function parseLabel(text: string): { key: string; value: string } {
  const cut = text.indexOf('=')
  if (cut < 1) throw new InvalidArgumentError('It takes KEY=VALUE.')
  return { key: text.slice(0, cut), value: text.slice(cut + 1) }
}
