import type { FormatInspector } from './contract.ts'
import { readUpTo } from './source.ts'

/** The first bytes of a bundle, our own file for carrying images between installations. The store knows the rest. */
export const BUNDLE_MARK = Buffer.from('CALOBNDL', 'latin1')

export const bundleInspector: FormatInspector = {
  format: 'bundle',
  matches: async (source, signal) =>
    (await readUpTo(source, 0, BUNDLE_MARK.length, signal)).equals(BUNDLE_MARK),
}
