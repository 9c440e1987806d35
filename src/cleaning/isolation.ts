import { execFile } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { dirname, join } from 'node:path'

/** Of the rooms beneath `src`, those whose code an examiner runs. */
const ROOMS = ['image', 'disk', 'volume', 'guest', 'cleaning']
const NOBODY = '65534'
/**
 * Users that nothing else is, so that examiners of two projects cannot reach each other. Source: UIDS-GIDS.md of systemd
 * ("unused"), as of version 252.
 */
const OWN_USER_FIRST = 1_879_048_192
const OWN_USER_COUNT = 1 << 24
/** Where both limits of processor time are the same, the system kills without a word of why. */
const GRACE_SECONDS = 5
const PROBE_MS = 30_000

/** What holds an examiner, and the appliance's guest, away from the rest of the host. */
export interface CleaningFact {
  readonly name: string
  readonly isThere: boolean
  /** For people: what it is for, and what to do where it is not there. */
  readonly detail: string
}

export interface Isolation {
  /** What a command line begins with, so that what follows has no more rights than it needs. */
  readonly prefix: readonly string[]
  readonly facts: readonly CleaningFact[]
  /** False where not even Node's own rights can be taken away: then nothing may be started. */
  readonly isWorking: boolean
  /** What the trial ended with where it is not working. For the log. */
  readonly failure?: unknown
}

interface Part {
  readonly name: string
  readonly words: readonly string[]
  readonly detail: string
  /** Must run the examiner itself: for one that takes the right to read away. */
  readonly isTriedWhole?: boolean
  /** Another part that does the same and more. */
  readonly insteadOf?: string
}

/** What to do where `isWorking` is false. */
export const NEEDS_NODE =
  "Start the service with its own command, `calotype`, which brings the Node whose permission model it needs, and let its user read the service's sources."

const UTIL_LINUX = "Install 'util-linux'."

const PARTS: readonly Part[] = [
  {
    name: 'limits of processor time and files',
    words: ['prlimit', '--core=0', '--nofile=256', '--fsize=0', '--'],
    detail: UTIL_LINUX,
  },
  {
    name: 'no network',
    words: ['unshare', '--net', '--ipc', '--'],
    detail: 'It takes root; without it, Node alone keeps it from the network.',
  },
  {
    name: 'a user of its own',
    words: asUser(String(OWN_USER_FIRST)),
    detail: 'It takes root and all numbers of users, and sources and Node that everybody may read.',
    isTriedWhole: true,
  },
  {
    name: 'another user',
    words: asUser(NOBODY),
    detail: 'It takes root, and sources and Node that everybody may read.',
    isTriedWhole: true,
    insteadOf: 'a user of its own',
  },
  {
    name: 'no new rights',
    words: ['setpriv', '--no-new-privs', '--'],
    detail: UTIL_LINUX,
    insteadOf: 'another user',
  },
]

function asUser(id: string): string[] {
  const user = ['setpriv', `--reuid=${id}`, `--regid=${id}`, '--clear-groups']
  return [...user, '--no-new-privs', '--inh-caps=-all', '--bounding-set=-all', '--']
}

/** What Node itself takes away, which every examiner has: without it none is started. */
export function nodeArguments(entryPath: string, heapMebibytes: number): string[] {
  const sources = dirname(import.meta.dirname)
  const readable = [join(dirname(sources), 'package.json'), ...ROOMS.map((room) => join(sources, room, '*'))]
  return [
    '--permission',
    ...[...readable, entryPath].map((path) => `--allow-fs-read=${path}`),
    '--disallow-code-generation-from-strings',
    `--max-old-space-size=${heapMebibytes}`,
    '--no-warnings',
    entryPath,
  ]
}

/** Tries what this host can do. `entryPath`: a program that ends by itself, and well, when nothing is asked of it. */
export async function findIsolation(entryPath: string): Promise<Isolation> {
  const words: string[] = []
  const facts: CleaningFact[] = []
  const whole = [process.execPath, ...nodeArguments(entryPath, 128), 'probe', '0']
  for (const part of PARTS) {
    const isDone = facts.some((fact) => fact.isThere && fact.name === part.insteadOf)
    const rest = part.isTriedWhole ? whole : [process.execPath, '--version']
    const isThere = isDone || (await failureOf([...words, ...part.words, ...rest])) === null
    if (isThere && !isDone) words.push(...part.words)
    facts.push({ name: part.name, isThere, detail: part.detail })
  }
  const failure = await failureOf([...words, ...whole])
  const isWorking = failure === null
  facts.push({ name: 'no files but its own', isThere: isWorking, detail: NEEDS_NODE })
  return { prefix: words, facts, isWorking, ...(isWorking ? {} : { failure }) }
}

/** As `findIsolation`, with the processor time that the command may take, and a user that no other call has. */
export function prefixWith({ prefix }: Isolation, processorSeconds: number): string[] {
  const id = OWN_USER_FIRST + randomInt(OWN_USER_COUNT)
  const [first, ...rest] = prefix.map((word) => word.replace(`id=${OWN_USER_FIRST}`, `id=${id}`))
  if (first !== 'prlimit') return first === undefined ? [] : [first, ...rest]
  return [first, cpuLimit(processorSeconds), ...rest]
}

/** For prlimit: the first ends the process with a signal that tells why, the second for certain. */
export function cpuLimit(seconds: number): string {
  const whole = Math.ceil(seconds)
  return `--cpu=${whole}:${whole + GRACE_SECONDS}`
}

/** Nothing but what it takes to find programs. */
export function bareEnvironment(): NodeJS.ProcessEnv {
  const { PATH } = process.env
  return PATH === undefined ? {} : { PATH }
}

/** Null if the command ends well. */
function failureOf([command, ...words]: readonly string[]): Promise<Error | null> {
  return new Promise((resolve) => {
    const options = { timeout: PROBE_MS, killSignal: 'SIGKILL', env: bareEnvironment(), cwd: '/' } as const
    const child = execFile(command ?? '', words, options, resolve)
    child.stdin?.end()
  })
}
