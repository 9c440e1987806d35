const PAGE_BYTES_CHOICES = [4096, 8192, 16384, 32768, 65536] as const
const SIGNATURE_BYTES = 10
const HEADER_OFFSET = 1024

/** Where the list of bad pages begins in the header page. Source: the kernel's include/linux/swap.h, union swap_header. */
export const SWAP_BAD_PAGES_OFFSET = 1536

/** What the kernel, or a way of hibernating, writes in place of swap's own signature. */
const HIBERNATED = [
  'S1SUSPEND',
  'S2SUSPEND',
  'ULSUSPEND',
  'LINHIB0001',
  '\xed\xc3\x02\xe9\x98\x56\xe5\x0c',
] as const

export interface SwapHeader {
  readonly pageBytes: number
  /** 'old': a form before version 1. */
  readonly state: 'swap' | 'hibernated' | 'old'
  readonly lastPage: number
  readonly badPageCount: number
}

/** Tells swap by the signature at the end of its first page, whose size it does not say. `take` answers undefined behind the end. */
export function findSwapHeader(
  take: (offset: number, lengthBytes: number) => Buffer | undefined,
): SwapHeader | undefined {
  for (const pageBytes of PAGE_BYTES_CHOICES) {
    const signature = take(pageBytes - SIGNATURE_BYTES, SIGNATURE_BYTES)?.toString('latin1')
    const fields = take(HEADER_OFFSET, 12)
    if (signature === undefined || fields === undefined) return undefined
    const numbers = { pageBytes, lastPage: fields.readUInt32LE(4), badPageCount: fields.readUInt32LE(8) }
    if (HIBERNATED.some((text) => signature.startsWith(text))) return { ...numbers, state: 'hibernated' }
    if (signature === 'SWAP-SPACE') return { ...numbers, state: 'old' }
    if (signature === 'SWAPSPACE2')
      return { ...numbers, state: fields.readUInt32LE(0) === 1 ? 'swap' : 'old' }
  }
  return undefined
}
