import type { Extent } from '../contract.ts'

/** What a disk can be handed out as. */
export const EXPORT_FORMATS = ['raw', 'qcow2', 'vmdk', 'vhdx'] as const
export type ExportFormat = (typeof EXPORT_FORMATS)[number]

/** A run of an exported file, following the one before it. */
export type Segment =
  /** Bytes that the format itself needs, made when they are asked for: `make(from, lengthBytes)` inside the segment. */
  | {
      readonly is: 'made'
      readonly lengthBytes: number
      make(from: number, lengthBytes: number): Uint8Array
    }
  /** The disk's own, from `diskOffset` on, and never behind its end. */
  | { readonly is: 'disk'; readonly lengthBytes: number; readonly diskOffset: number }
  | { readonly is: 'zero'; readonly lengthBytes: number }

/**
 * A file in some format, known whole before a byte of the disk is read: a function of the disk's size and of what of it
 * is zero, so that any range can be made at any time, again, with equal bytes.
 */
export interface FileLayout {
  readonly format: ExportFormat
  readonly sizeBytes: number
  readonly segments: readonly Segment[]
}

/** `extents`: of the whole disk, rising, without gaps. `seed`: 16 bytes from which ids inside the file are made. */
export type MakeLayout = (disk: {
  readonly sizeBytes: number
  readonly extents: readonly Extent[]
  readonly seed: Uint8Array
}) => FileLayout
