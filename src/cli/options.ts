import { type Command, InvalidArgumentError, Option } from 'commander'
import type { DiskBus } from '../image/config.ts'
import { CONSISTENCIES } from '../image/consistency.ts'
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
export function clientCommand(parent: Command, usage: string, about: string): Command {
  return parent
    .command(usage)
    .description(about)
    .addOption(new Option('--json', 'print one JSON value'))
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

function timeoutOption(): Option {
  return new Option('--timeout <seconds>', 'give up waiting after so long').argParser(parseSeconds)
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
