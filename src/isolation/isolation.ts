import { execFile } from 'node:child_process'
import { OWN_FOLDER } from './bare-root.ts'
import { limitWords, type ProcessLimits } from './limits.ts'
import { FOLDER_WORD, type Part } from './parts.ts'
import { NOBODY, newUser, OWN_USER_FIRST } from './users.ts'

const PROBE_MS = 30_000

/** What holds a process that reads strangers' bytes away from the rest of the host. For `doctor` and the log. */
export interface IsolationFact {
  readonly name: string
  readonly isThere: boolean
  /** For people: what it is for, and what to do where it is not there. */
  readonly detail: string
}

export interface Isolation {
  /** What a command line begins with, so that what follows has no more rights than it needs: see `prefixOf`. */
  readonly prefix: readonly string[]
  readonly facts: readonly IsolationFact[]
  /** False where the program does not run, or a part is missing that it must not run without: then nothing may be started. */
  readonly isWorking: boolean
  /** What the trial ended with where it is not working. For the log. */
  readonly failure?: unknown
}

export interface Trial {
  /** In the order in which the words follow each other. */
  readonly parts: readonly Part[]
  /** Any program of the system that ends by itself, and well. */
  readonly light: readonly string[]
  /** The one that is to be shut in, when nothing is asked of it. */
  readonly whole: readonly string[]
  readonly limits: ProcessLimits
}

/** What a single process is given. */
export interface Cell {
  readonly limits: ProcessLimits
  /** The only folder of the host that it sees, where that can be; it is best started there. */
  readonly folder?: string
  /** As of `userOf`; without it one that no other call has. */
  readonly user?: number | undefined
}

/** Tries what this host can do, one part after the other, each with those before it. */
export async function findIsolation(trial: Trial): Promise<Isolation> {
  const { parts, limits } = trial
  const words: string[] = []
  const facts: IsolationFact[] = []
  let isHeld = true
  // A new user for each try: several threads try at the same time, and limits of processes are counted by user.
  const failureWith = (prefix: readonly string[], program: readonly string[]) =>
    failureOf([...prefixOf({ prefix }, { limits, user: newUser() }), ...program])
  for (const part of parts) {
    const isDone = facts.some((fact) => fact.isThere && fact.name === part.insteadOf)
    const program = part.isTriedWhole ? trial.whole : trial.light
    const isThere = isDone || (await failureWith([...words, ...part.words], program)) === null
    if (isThere && !isDone) words.push(...part.words)
    if (!isThere && part.isNeeded) isHeld = false
    facts.push({ name: part.name, isThere, detail: part.detail })
  }
  const failure = await failureWith(words, trial.whole)
  const isWorking = isHeld && failure === null
  return { prefix: words, facts, isWorking, ...(failure === null ? {} : { failure }) }
}

/** The words for one process. */
export function prefixOf({ prefix }: Pick<Isolation, 'prefix'>, cell: Cell): string[] {
  const hasOwnUser = isWithOwnUser(prefix)
  const user = cell.user ?? newUser()
  return prefix.flatMap((word, index) => {
    if (index === 0 && word === 'prlimit') return [word, ...limitWords(cell.limits, hasOwnUser)]
    if (word === FOLDER_WORD) return [cell.folder ?? '']
    return [hasOwnUser ? word.replace(`id=${OWN_USER_FIRST}`, `id=${user}`) : word]
  })
}

/** The user that a process will be: a new one, the system's nobody, or undefined for the service's own. */
export function userOf(isolation: Isolation): number | undefined {
  if (isWithOwnUser(isolation.prefix)) return newUser()
  return isolation.prefix.includes(`--reuid=${NOBODY}`) ? NOBODY : undefined
}

/**
 * The absolute path of a process's folder in its own eyes, if it was started there. The path that we know would lead through
 * folders that its user may not pass.
 */
export function folderSeen({ prefix }: Isolation): string {
  return prefix.includes(FOLDER_WORD) ? OWN_FOLDER : '/proc/self/cwd'
}

/** Nothing but what it takes to find programs. */
export function bareEnvironment(): NodeJS.ProcessEnv {
  const { PATH } = process.env
  return PATH === undefined ? {} : { PATH }
}

function isWithOwnUser(prefix: readonly string[]): boolean {
  return prefix.includes(`--reuid=${OWN_USER_FIRST}`)
}

/** Null if the command ends well. */
function failureOf([command, ...words]: readonly string[]): Promise<Error | null> {
  return new Promise((resolve) => {
    const options = { timeout: PROBE_MS, killSignal: 'SIGKILL', env: bareEnvironment(), cwd: '/' } as const
    const child = execFile(command ?? '', words, options, resolve)
    child.stdin?.end()
  })
}
