import type { FormatInspector } from './contract.ts'
import { readUpTo } from './source.ts'

/** The same six bytes begin versions 1 and 2; an image whose partitions are encrypted does not begin with them. */
const MARK = Buffer.from('LUKS\xba\xbe', 'latin1')

export const luksInspector: FormatInspector = {
  format: 'luks',
  matches: async (source, signal) => (await readUpTo(source, 0, MARK.length, signal)).equals(MARK),
}
