import type { ImageFormat } from '../disk/formats/contract.ts'

/** Formats that a disk has to be read from by somebody who knows them. */
export type ForeignFormat = Exclude<ImageFormat, 'raw'>

/**
 * What QEMU calls BlockdevOptions. Source: qapi/block-core.json of QEMU 7.2. A backing file that the inspection overlooked
 * would not be opened: `backing` is said to be none wherever a format can have one.
 */
const DRIVERS: Readonly<
  Record<ForeignFormat, { readonly driver: string; readonly [option: string]: unknown }>
> = {
  qcow2: { driver: 'qcow2', backing: null },
  qed: { driver: 'qed', backing: null },
  vmdk: { driver: 'vmdk', backing: null },
  // Its size is the one that its footer tells, whoever made it; else QEMU would sometimes compute one from a geometry.
  vhd: { driver: 'vpc', force_size_calc: 'current_size' },
  vhdx: { driver: 'vhdx' },
  vdi: { driver: 'vdi' },
}

/** The disk as one tree, read-only, over an NBD export. `socketPath`: as the process sees it. */
export function foreignTree(format: ForeignFormat, socketPath: string, exportName: string): string {
  const server = { type: 'unix', path: socketPath }
  const file = { driver: 'nbd', 'read-only': true, server, export: exportName }
  return `json:${JSON.stringify({ ...DRIVERS[format], 'read-only': true, file })}`
}
