import { randomInt } from 'node:crypto'

/** The system's user without rights or files. */
export const NOBODY = 65_534
/**
 * Users that nothing else is, so that processes which read for two projects cannot reach each other. Source: UIDS-GIDS.md of
 * systemd ("unused"), as of version 252.
 */
export const OWN_USER_FIRST = 1_879_048_192
const OWN_USER_COUNT = 1 << 24

/** One that, as far as chance can tell, no other process has. */
export function newUser(): number {
  return OWN_USER_FIRST + randomInt(OWN_USER_COUNT)
}

/** Runs what follows as that user, who can never be another one or have a right again. */
export function asUser(id: number): string[] {
  const user = ['setpriv', `--reuid=${id}`, `--regid=${id}`, '--clear-groups']
  return [...user, '--no-new-privs', '--inh-caps=-all', '--bounding-set=-all', '--']
}
