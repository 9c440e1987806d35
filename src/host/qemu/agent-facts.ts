import type { Consistency } from '../../image/consistency.ts'
import type { OsType } from '../../image/image.ts'
import { AgentRefusal, type AgentTalk } from './agent-talk.ts'

const ASK_TIMEOUT_MS = 5_000
const WORDS_LENGTH_MAX = 200
const FREEZE_COMMANDS = ['guest-fsfreeze-freeze', 'guest-fsfreeze-status', 'guest-fsfreeze-thaw']

export interface GuestOs {
  readonly type: OsType
  readonly name: string
}

/** What an agent tells about itself and its guest. */
export interface AgentFacts {
  /** Names of the commands it has and carries out. */
  readonly commands: ReadonlySet<string>
  /** Undefined for an agent that is too old to tell. */
  readonly os: GuestOs | undefined
}

/**
 * Asks an agent that was synced and whose file systems are thawed: a frozen one tells nothing. Throws as `execute`.
 * Source: QEMU 7.2, qga/qapi-schema.json ('guest-info', 'guest-get-osinfo').
 */
export async function askFacts(talk: AgentTalk): Promise<AgentFacts> {
  const info = (await talk.execute('guest-info', ASK_TIMEOUT_MS)) as { supported_commands?: unknown } | null
  const listed = Array.isArray(info?.supported_commands) ? info.supported_commands : []
  const enabled = listed.filter((one) => one?.enabled === true && typeof one.name === 'string')
  const commands = new Set<string>(enabled.map((one) => one.name))
  if (!commands.has('guest-get-osinfo')) return { commands, os: undefined }
  return { commands, os: parseOs(await talk.execute('guest-get-osinfo', ASK_TIMEOUT_MS)) }
}

/** Why this agent cannot freeze file systems, for people; '' if it can. */
export function freezeObstacle({ commands }: AgentFacts): string {
  const missing = FREEZE_COMMANDS.find((command) => !commands.has(command))
  return missing === undefined
    ? ''
    : `The guest agent has '${missing}' switched off. Allow the three guest-fsfreeze commands in its settings and start it again.`
}

/** What frozen file systems are worth: Windows' agent has VSS put the programs' data in order too. */
export function frozenConsistency(os: GuestOs | undefined): Consistency {
  return os?.type === 'Windows' ? 'application' : 'filesystem'
}

/** Why the agent failed, for people; `otherwise` goes on after 'The guest agent' where it has not said why. */
export function agentFailure(error: unknown, otherwise: string): string {
  return error instanceof AgentRefusal
    ? `The guest agent refused: ${oneLine(error.message)}`
    : `The guest agent ${otherwise}. Look at its log in the guest.`
}

/** A guest's words, as short as a message needs them and without what could disturb a terminal or a log. */
function oneLine(words: string): string {
  const line = words.replaceAll(/[\p{C}\p{Z}]+/gu, ' ').trim()
  return line.length <= WORDS_LENGTH_MAX ? line : `${line.slice(0, WORDS_LENGTH_MAX - 1)}…`
}

function parseOs(answer: unknown): GuestOs | undefined {
  const told = (answer ?? {}) as Readonly<Record<string, unknown>>
  const name = [told['pretty-name'], told.name, told.id].find((one) => typeof one === 'string' && one !== '')
  if (typeof name !== 'string') return undefined
  return { type: told.id === 'mswindows' ? 'Windows' : 'Linux', name: oneLine(name) }
}
