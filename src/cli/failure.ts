import { isFault } from '../image/fault.ts'
import { printable } from './format.ts'

/** What the shell is told: 0 is success, 130 that somebody pressed Ctrl-C. */
export const EXIT = { ok: 0, fault: 1, usage: 2, unreachable: 3, interrupted: 130 } as const
export type ExitCode = (typeof EXIT)[keyof typeof EXIT]

/** An expected end of a command: one line for people, and the exit code. */
export class CommandFailure extends Error {
  readonly exitCode: ExitCode

  constructor(exitCode: ExitCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'CommandFailure'
    this.exitCode = exitCode
  }
}

/** The server's own refusal, as it answered it. */
export class ServerRefusal extends CommandFailure {
  readonly status: number
  readonly kind: string

  constructor(status: number, error: { kind: string; message: string; requestId?: string }) {
    const request = error.requestId === undefined ? '' : ` (request ${error.requestId})`
    super(EXIT.fault, `${error.message}${request}`)
    this.name = 'ServerRefusal'
    this.status = status
    this.kind = error.kind
  }
}

export function usageFailure(message: string): CommandFailure {
  return new CommandFailure(EXIT.usage, message)
}

/** The line to print and the code to exit with. A bug keeps its stack: whoever sees it has to report it. */
export function describeFailure(error: unknown): { readonly line: string; readonly exitCode: ExitCode } {
  const line = (message: string) => printable(message.replaceAll('\n', ' '))
  if (error instanceof CommandFailure) return { line: line(error.message), exitCode: error.exitCode }
  if (isFault(error)) {
    // `serve` is refused for what it was told, or for what it found.
    return { line: line(error.message), exitCode: error.kind === 'invalid' ? EXIT.usage : EXIT.fault }
  }
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
  return { line: `This is a bug in calotype, please report it: ${text}`, exitCode: EXIT.fault }
}
