import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { Fault } from '../../image/fault.ts'

/** The kernel's `sun_path` holds 108 bytes with the closing zero. Source: unix(7). */
const SOCKET_PATH_BYTES_MAX = 107

/** A socket's path in the run folder. Throws Fault 'invalid' where the kernel would not take it. */
export function socketPath(runDirectory: string, name: string): string {
  const path = join(runDirectory, name)
  const lengthBytes = Buffer.byteLength(path)
  if (lengthBytes > SOCKET_PATH_BYTES_MAX) {
    throw new Fault(
      'invalid',
      `The socket path '${path}' has ${lengthBytes} bytes; the system takes ${SOCKET_PATH_BYTES_MAX}. Choose a shorter run directory.`,
      { subject: 'host' },
    )
  }
  return path
}

/** Eight hex digits for names whose room is short: socket paths, and QEMU's nodes with at most 31 characters. */
export function shortName(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 8)
}

/** The longest name a socket or a file beside it gets: a machine's id, a key's short name, a disk's place, a suffix. */
export const SOCKET_NAME_LONGEST = `${'0'.repeat(17)}-00000000.n00`
