import type { DeclaredFormat, RefusalReason } from './contract.ts'

/** A file that has to be refused, and why it would do harm. */
export interface HostileFile {
  readonly name: string
  /** The number of the class of attacks that it belongs to. */
  readonly attackClass: number
  readonly declared?: DeclaredFormat
  /** Where it is refused: by the inspector as it is, or on the way out of its packing. */
  readonly stage: 'inspection' | 'unpacking'
  readonly reason: RefusalReason
  /** `canaryPath`: a file of the host that it tries to have read. */
  make(canaryPath: string): Buffer
}

/** Larger than any disk that is allowed, and a multiple of 512. */
export const ABSURD_BYTES = 2n ** 63n

export function hostile(
  attackClass: number,
  reason: RefusalReason,
  name: string,
  make: (canaryPath: string) => Buffer,
  declared?: DeclaredFormat,
): HostileFile {
  return { name, attackClass, reason, make, stage: 'inspection', ...(declared && { declared }) }
}

/** `file`, longer if that is needed, with `bytes` at `offset`. */
export function withBytes(file: Buffer, offset: number, bytes: Buffer | string): Buffer {
  const part = Buffer.from(bytes)
  const whole = Buffer.alloc(Math.max(file.length, offset + part.length))
  file.copy(whole)
  part.copy(whole, offset)
  return whole
}
