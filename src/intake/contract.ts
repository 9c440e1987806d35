import type { ImageFormat, Packing } from '../disk/formats/contract.ts'
import type { IsolationFact } from '../isolation/isolation.ts'

/** Where a disk can be read over NBD, as a raw one. */
export interface ReadableDisk {
  readonly socketPath: string
  readonly exportName: string
  readonly sizeBytes: number
}

/**
 * Reads disks in formats of others with QEMU's tools: the format forced, as a user of its own, without a network, files
 * or new rights as far as the host can do that, in a folder of its own, with limits. It opens no file: what it reads
 * comes over an NBD socket from whoever inspected it and still holds it open.
 */
export interface FormatReader {
  /** What there is on this host; tried once. */
  facts(): Promise<readonly IsolationFact[]>
  /**
   * A private folder for `key`, empty; answers where in it the inspected file has to be served before `open`. Takes away
   * what an earlier call with this key left.
   */
  prepare(key: string): Promise<{ readonly socketPath: string }>
  /**
   * `disks`: NBD exports at that socket, each with the format it is opened as. Faults: 'unavailable' 'host' where QEMU or
   * a way to hold it is missing; 'invalid' 'file' reason 'corrupt' where it cannot read the file after all.
   */
  open(
    key: string,
    disks: readonly {
      readonly exportName: string
      readonly format: ImageFormat
      readonly sizeBytes: number
    }[],
    signal: AbortSignal,
  ): Promise<readonly ReadableDisk[]>
  /** May be called for nothing, and twice. */
  close(key: string): Promise<void>
  /** What earlier processes left too. */
  closeAll(): Promise<void>
}

export interface UnpackLimits {
  /** Of what comes out. */
  readonly sizeBytesMax: number
  /** How many times more may come out than went in, once more than 64 MiB have. */
  readonly ratioMax: number
}

/**
 * What is in a packed stream, in pieces of at most 1 MiB; memory is bounded whatever goes in. Several members follow
 * each other as the tools write them; anything behind the last one is refused. Faults: 'invalid' 'file' reasons
 * 'packing' (damaged, cut, wants too large a window), 'too-large' (a limit); what `packed` throws passes through.
 */
export type Unpack = (
  packed: AsyncIterable<Uint8Array>,
  packing: Packing,
  limits: UnpackLimits,
  signal: AbortSignal,
) => AsyncIterable<Buffer>

/** An address outside from which a file is brought in. */
export interface RemoteSource {
  /** http:, https: or s3://bucket/key. */
  readonly url: string
  /** For s3:. Never logged, never in a fault. */
  readonly s3?: {
    readonly endpoint: string | undefined
    readonly region: string | undefined
    readonly keyId: string
    readonly secret: string
  }
}

export interface RemoteFile {
  /** Undefined where the other side does not say. */
  readonly sizeBytes: number | undefined
  /** Strong validator, or undefined: without one a broken download begins again. */
  readonly etag: string | undefined
  /** Where `body` begins: as asked, or 0 where the file has changed or cannot be had in parts. */
  readonly offset: number
  readonly body: AsyncIterable<Uint8Array>
  close(): void
}

/**
 * The only way out to addresses that callers name (imports now, webhooks too). Every hop is checked where it matters: at
 * the address that is connected to. Faults: 'invalid' 'request' reason 'address' for one that is not public and not
 * allowed by the settings, 'url' for what is no such address; 'absent' 'file' (404, 410); 'denied' 'file' (401, 403);
 * 'unavailable' 'file' for the rest. No fault holds a query, a user, a key, or bytes of an answer.
 */
export interface Fetcher {
  /** Throws at once for what can be told from the text alone. Answers the address as it may be shown and logged. */
  check(source: RemoteSource): string
  open(
    source: RemoteSource,
    from: { readonly offset: number; readonly etag: string | undefined },
    signal: AbortSignal,
  ): Promise<RemoteFile>
}
