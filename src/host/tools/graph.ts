import type { MachineDisk } from '../contract.ts'

/** What QEMU calls BlockdevOptions. Every driver is named, so no format is ever guessed from guest-written bytes. */
export interface BlockNode {
  readonly driver: string
  readonly [option: string]: unknown
}

/** How long a guest's read waits for our NBD server to come back before it is told of an error, or stands still. */
const RECONNECT_SECONDS = 60
const OPEN_TIMEOUT_SECONDS = 30

export function baseNode(base: NonNullable<MachineDisk['base']>): BlockNode {
  return {
    driver: 'nbd',
    server: { type: 'unix', path: base.socketPath },
    export: base.exportName,
    'reconnect-delay': RECONNECT_SECONDS,
    'open-timeout': OPEN_TIMEOUT_SECONDS,
    'read-only': true,
  }
}

/** The machine's own layer. The backing is given here and never stored in the file, where a guest could forge it. */
export function overlayNode(path: string, backing: BlockNode | string | null): BlockNode {
  return {
    driver: 'qcow2',
    file: { driver: 'file', filename: path, discard: 'unmap' },
    discard: 'unmap',
    'detect-zeroes': 'unmap',
    backing,
  }
}

/** The whole disk as one read-only tree, for tools that take a single `json:` name. */
export function readOnlyTree(disk: MachineDisk, overlayPath: string): BlockNode {
  return {
    driver: 'qcow2',
    'read-only': true,
    file: { driver: 'file', filename: overlayPath, 'read-only': true },
    backing: disk.base === undefined ? null : baseNode(disk.base),
  }
}
