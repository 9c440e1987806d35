import type { FormatInspector, Packing } from './contract.ts'
import { readUpTo } from './source.ts'

/** RFC 1952 with its only method; the xz file format 1.2; RFC 8878. */
const MARKS: readonly (readonly [packing: Packing, mark: Buffer])[] = [
  ['gzip', Buffer.from([0x1f, 0x8b, 0x08])],
  ['xz', Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00])],
  ['zstd', Buffer.from([0x28, 0xb5, 0x2f, 0xfd])],
]

export const packingInspectors: readonly (FormatInspector & { readonly format: Packing })[] = MARKS.map(
  ([format, mark]) => ({
    format,
    matches: async (source, signal) => (await readUpTo(source, 0, mark.length, signal)).equals(mark),
  }),
)
