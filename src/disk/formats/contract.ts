import { Fault } from '../../image/fault.ts'

/** What a file of a disk may be written in. Everything but 'raw' says in itself that it is so. */
export const IMAGE_FORMATS = ['raw', 'qcow2', 'vmdk', 'vhd', 'vhdx', 'vdi', 'qed'] as const
export type ImageFormat = (typeof IMAGE_FORMATS)[number]

/** What may be said of a file that is brought in: one disk, or an archive of a machine with its disks. */
export const DECLARABLE_FORMATS = [...IMAGE_FORMATS, 'ova'] as const
export type DeclaredFormat = (typeof DECLARABLE_FORMATS)[number]

/** What any of them may be packed in, once. */
export const PACKINGS = ['gzip', 'xz', 'zstd'] as const
export type Packing = (typeof PACKINGS)[number]

/**
 * Bytes of somebody else's file. A read is inside [0, sizeBytes), answers exactly `lengthBytes`, and may throw what the
 * source throws (Fault 'unavailable'); nothing it answers is trusted.
 */
export interface ByteSource {
  readonly sizeBytes: number
  read(offset: number, lengthBytes: number, signal?: AbortSignal): Promise<Buffer>
}

/** One disk, inside [offset, offset + lengthBytes) of the file that was looked at. */
export interface InspectedDisk {
  readonly format: ImageFormat
  readonly offset: number
  readonly lengthBytes: number
  /** As a guest will see it; a multiple of 512. */
  readonly virtualBytes: number
  /** The kind within its format, for people: 'version 3, zstd', 'streamOptimized', 'fixed', 'GPT'. */
  readonly variant: string
}

/** What an OVF says of its machine; undefined where it says nothing. Text of strangers: shown, never believed. */
export interface ArchivedMachine {
  readonly name: string | undefined
  readonly osName: string | undefined
  readonly firmware: 'bios' | 'uefi' | undefined
  readonly cpuCount: number | undefined
  readonly memoryBytes: number | undefined
}

export type Inspection =
  | { readonly is: 'disk'; readonly disk: InspectedDisk }
  /** The disks in the order of the machine's own list, the system disk first. */
  | { readonly is: 'archive'; readonly disks: readonly InspectedDisk[]; readonly machine: ArchivedMachine }
  /** What is in it is told once it is unpacked. */
  | { readonly is: 'packed'; readonly packing: Packing }
  /** One of our own bundles, told by its first bytes; the store checks the rest. */
  | { readonly is: 'bundle' }

export interface InspectionOptions {
  /** What the caller says the file is, once unpacked: anything else is refused. */
  readonly declared?: DeclaredFormat | undefined
  /** Of one disk, as a guest sees it. */
  readonly virtualBytesMax: number
  readonly signal?: AbortSignal
}

/** Why a file is refused. Each has a test that makes such a file. */
export type RefusalReason =
  | 'backing-file'
  | 'data-file'
  | 'parent'
  | 'extents'
  | 'several-formats'
  | 'other-format'
  | 'feature-bits'
  | 'corrupt'
  | 'tables'
  | 'truncated'
  | 'encrypted'
  | 'too-large'
  | 'size'
  | 'version'
  | 'unsupported'
  | 'unclean'
  | 'iso'
  | 'archive'
  | 'packing'
  | 'checksum'

/**
 * A file that is refused: Fault 'invalid' 'file'. `message` is a sentence for whoever brought the file: what is wrong
 * with it, and what to do. It never holds text out of the file.
 */
export function refuseFile(reason: RefusalReason, message: string): Fault {
  return new Fault('invalid', message, { subject: 'file', reason })
}

/** Told by every inspector of one format of a file that may be of it: undefined where nothing says so. */
export interface FormatInspector {
  readonly format: ImageFormat | 'iso' | 'luks' | 'ova' | Packing | 'bundle'
  /** Looks at the marks alone (heads and tails, a few reads). Never throws for what the bytes are. */
  matches(source: ByteSource, signal?: AbortSignal): Promise<boolean>
}
