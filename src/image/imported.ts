import type { Firmware } from './config.ts'

/** What was found of an image that was brought in as a file, beside what its maker says of it. */
export interface ImportFacts {
  /** For people: 'qcow2 (version 3, zstd), gzip'. */
  readonly format: string
  /** Bytes of the file as it came. */
  readonly fileBytes: number
  /** SHA-256 of the file as it came, where all of it was read. */
  readonly sha256: string | undefined
  /** Found inside; undefined where nothing says so. */
  readonly osType: 'Linux' | 'Windows' | undefined
  readonly osName: string | undefined
  readonly firmware: Firmware | undefined
}

export const CHECKSUM_ALGORITHMS = ['sha256', 'sha512', 'sha1', 'md5'] as const

/** Of a file as it is brought in, before anything is unpacked. */
export interface Checksum {
  readonly algorithm: (typeof CHECKSUM_ALGORITHMS)[number]
  /** Lower-case hex. */
  readonly hex: string
}
