/** A run of a disk. `zero` reads as zeroes for certain and need not be read; a hole that promises nothing is `data`. */
export interface Extent {
  readonly offset: number
  readonly lengthBytes: number
  readonly holds: 'data' | 'zero'
}

/** A run of a disk with what one NBD meta context says of it: a whole number whose meaning is the context's own. */
export interface StatusExtent {
  readonly offset: number
  readonly lengthBytes: number
  readonly status: number
}

/** What a meta context says of [offset, offset + lengthBytes): in rising order, without gaps, equal neighbours merged. */
export type StatusOf = (
  offset: number,
  lengthBytes: number,
  signal?: AbortSignal,
) => Promise<readonly StatusExtent[]>

/** A run of a disk's content: its bytes, or undefined for zeroes. The bytes may be shared: never write to them. */
export interface Piece {
  readonly lengthBytes: number
  readonly bytes: Uint8Array | undefined
}

/**
 * A block device that can be read: an NBD export seen from the client's side, or what our own NBD server serves.
 * Reads and extents are inside [0, sizeBytes); anything else is a bug and asserts.
 */
export interface Disk {
  readonly sizeBytes: number
  /** Exactly `lengthBytes` bytes at `offset`. Throws Fault 'unavailable' if the other side fails or goes away. */
  read(offset: number, lengthBytes: number, signal?: AbortSignal): Promise<Buffer>
  /**
   * The same bytes as `read` gives, without a copy, in pieces that follow each other. Answers without a promise, at
   * once, where everything is at hand; throws or rejects as `read` does. For disks that keep what they read in memory.
   */
  pieces?(
    offset: number,
    lengthBytes: number,
    signal?: AbortSignal,
  ): readonly Piece[] | Promise<readonly Piece[]>
  /**
   * What [offset, offset + lengthBytes) holds, in rising order, without gaps, neighbours merged. A device that
   * cannot say answers one extent of 'data'. Much cheaper than the read it may save: our server asks before each
   * large read.
   */
  extents(offset: number, lengthBytes: number, signal?: AbortSignal): Promise<Extent[]>
  /**
   * What else can be told of its runs: by the name of an NBD meta context ('qemu:dirty-bitmap:x'), never
   * 'base:allocation', which `extents` tells. Our server offers them to its clients.
   */
  readonly contexts?: ReadonlyMap<string, StatusOf>
  close(): Promise<void>
}

/** Where an NBD export is found. `exportName` is '' for a server's default export. */
export interface NbdAddress {
  readonly socketPath?: string
  /** A connected socket that this process was born with: for one that may not connect by itself. */
  readonly fileDescriptor?: number
  readonly host?: string
  readonly port?: number
  readonly exportName: string
}
