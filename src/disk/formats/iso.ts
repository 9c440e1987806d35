import type { FormatInspector } from './contract.ts'
import { readUpTo } from './source.ts'

/** Where ECMA-119 and ECMA-167 begin their volume descriptors, and how far apart they are. */
const DESCRIPTORS_OFFSET = 32_768
const DESCRIPTOR_BYTES = 2048
const DESCRIPTOR_COUNT = 16
/** ISO 9660, UDF, and the end, boot and write-once marks that may stand before those of UDF. */
const IDENTIFIERS: readonly string[] = ['CD001', 'BEA01', 'NSR02', 'NSR03', 'TEA01', 'BOOT2', 'CDW02']
/** High Sierra, from before ISO 9660, has it eight bytes further on. */
const HIGH_SIERRA = 'CDROM'

/** A hybrid, which has a partition table in front so that it starts from a stick as well, is still an ISO. */
export const isoInspector: FormatInspector = {
  format: 'iso',
  matches: async (source, signal) => {
    const bytes = await readUpTo(source, DESCRIPTORS_OFFSET, DESCRIPTOR_COUNT * DESCRIPTOR_BYTES, signal)
    for (let at = 0; at + 14 <= bytes.length; at += DESCRIPTOR_BYTES) {
      if (IDENTIFIERS.includes(bytes.toString('latin1', at + 1, at + 6))) return true
      if (bytes.toString('latin1', at + 9, at + 14) === HIGH_SIERRA) return true
    }
    return false
  },
}
