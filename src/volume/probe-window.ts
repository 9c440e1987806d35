import type { Medium } from './contract.ts'

const WINDOW_BYTES = 256 * 1024

/** The first bytes of a medium, where nearly all signatures lie. What lies behind its end is undefined. */
export interface ProbeWindow {
  bytes(offset: number, lengthBytes: number): Buffer | undefined
  /** Latin-1; '' behind the end. */
  text(offset: number, lengthBytes: number): string
  uint8(offset: number): number | undefined
  /** Little-endian. */
  uint16(offset: number): number | undefined
  uint32(offset: number): number | undefined
}

export async function readProbeWindow(medium: Medium): Promise<ProbeWindow> {
  const whole = await medium.read(0, Math.min(WINDOW_BYTES, medium.sizeBytes))
  const bytes = (offset: number, lengthBytes: number): Buffer | undefined =>
    offset + lengthBytes <= whole.length ? whole.subarray(offset, offset + lengthBytes) : undefined
  return {
    bytes,
    text: (offset, lengthBytes) => bytes(offset, lengthBytes)?.toString('latin1') ?? '',
    uint8: (offset) => bytes(offset, 1)?.readUInt8(),
    uint16: (offset) => bytes(offset, 2)?.readUInt16LE(),
    uint32: (offset) => bytes(offset, 4)?.readUInt32LE(),
  }
}
