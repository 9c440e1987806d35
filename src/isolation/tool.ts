import { findIsolation, type Isolation } from './isolation.ts'
import type { ProcessLimits } from './limits.ts'
import {
  anotherUser,
  LIMITS,
  NO_FILES,
  NO_NETWORK_UNPRIVILEGED,
  NO_NEW_RIGHTS,
  NO_RIGHTS,
  noNetwork,
  ownUser,
  type Part,
} from './parts.ts'

const NEEDS_ROOT = 'It takes root and all numbers of users. Where the service is root, it is needed.'

/** As root: never as root itself. */
const AS_ROOT: readonly Part[] = [
  { ...LIMITS, isNeeded: true },
  noNetwork('It takes root with the right to make namespaces, which containers are often without.'),
  NO_FILES,
  ownUser(NEEDS_ROOT),
  { ...anotherUser(NEEDS_ROOT), isNeeded: true },
]

const AS_ANY_USER: readonly Part[] = [
  { ...LIMITS, isNeeded: true },
  NO_NETWORK_UNPRIVILEGED,
  NO_FILES,
  NO_RIGHTS,
  { ...NO_NEW_RIGHTS, insteadOf: NO_RIGHTS.name, isNeeded: true },
]

/** What can hold one of the system's own programs. `trial`: its name, with arguments that make it end at once. */
export function findToolIsolation(trial: readonly string[], limits: ProcessLimits): Promise<Isolation> {
  const parts = process.getuid?.() === 0 ? AS_ROOT : AS_ANY_USER
  return findIsolation({ parts, light: ['true'], whole: trial, limits })
}

/** `find`, tried once, and again where it did not work: the host may have been busy, or been mended. */
export function rememberWorking(find: () => Promise<Isolation>): () => Promise<Isolation> {
  let tried: Promise<Isolation> | undefined
  return async () => {
    tried ??= find()
    const trial = tried
    const isolation = await trial
    if (!isolation.isWorking && tried === trial) tried = undefined
    return isolation
  }
}
