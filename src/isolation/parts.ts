import { ROOT_SCRIPT } from './bare-root.ts'
import { asUser, NOBODY, OWN_USER_FIRST } from './users.ts'

/** One thing that holds a process away from the host: words that a command line begins with. */
export interface Part {
  readonly name: string
  readonly words: readonly string[]
  /** For people: what it is for, and what to do where it is not there. */
  readonly detail: string
  /** Must run the program itself when it is tried: for one that takes the right to read away. */
  readonly isTriedWhole?: boolean
  /** Another part that does the same and more. */
  readonly insteadOf?: string
  /** Without it, or the one that it stands in for, nothing may be started. */
  readonly isNeeded?: boolean
}

/** Stands for the one folder that a process may see of the host's own. */
export const FOLDER_WORD = '@folder'
const OWN_USER_NAME = 'a user of its own'
const ANOTHER_USER_NAME = 'another user'
const NO_NETWORK_NAME = 'no network'
const UTIL_LINUX = "Install 'util-linux'."

/** It also stands back from the service itself, and from guests: nobody waits for a stranger's file as they are waited for. */
export const LIMITS: Part = {
  name: 'limits of processor time and files',
  words: ['prlimit', '--', 'nice', '-n', '5'],
  detail: UTIL_LINUX,
}

/** `detail`: what it takes, and what there is without it. */
export function noNetwork(detail: string): Part {
  return { name: NO_NETWORK_NAME, words: ['unshare', '--net', '--ipc', '--'], detail }
}

/** For a service that is not root: it is root in a world of its own there, until it gives that away as well. */
export const NO_NETWORK_UNPRIVILEGED: Part = {
  name: NO_NETWORK_NAME,
  words: ['unshare', '--map-root-user', '--net', '--ipc', '--'],
  detail: 'It takes a kernel that lets every user make a namespace of users, or root.',
}

/** After those of the network, whose rights it needs. */
export const NO_FILES: Part = {
  name: 'no files but programs and libraries',
  words: ['unshare', '--mount', '--', 'sh', '-c', ROOT_SCRIPT, 'sh', FOLDER_WORD],
  detail:
    'It takes the right to mount, of root or in a namespace of users. Without it, files that every user may read can be read.',
  isTriedWhole: true,
}

/** `detail`: what it takes besides root. */
export function ownUser(detail: string): Part {
  return { name: OWN_USER_NAME, words: asUser(OWN_USER_FIRST), detail, isTriedWhole: true }
}

export function anotherUser(detail: string): Part {
  const words = asUser(NOBODY)
  return { name: ANOTHER_USER_NAME, words, detail, isTriedWhole: true, insteadOf: OWN_USER_NAME }
}

export const NO_NEW_RIGHTS: Part = {
  name: 'no new rights',
  words: ['setpriv', '--no-new-privs', '--'],
  detail: UTIL_LINUX,
  insteadOf: ANOTHER_USER_NAME,
}

/** Also for one that is root in a namespace of its own. */
export const NO_RIGHTS: Part = {
  name: 'no rights',
  words: ['setpriv', '--no-new-privs', '--inh-caps=-all', '--bounding-set=-all', '--'],
  detail: 'It takes root, or a namespace of users.',
  insteadOf: ANOTHER_USER_NAME,
}
