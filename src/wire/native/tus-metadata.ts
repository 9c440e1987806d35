import { Fault } from '../../image/fault.ts'
import { CHECKSUM_ALGORITHMS } from '../../image/imported.ts'
import { importFields } from './import-fields.ts'
import { findNearest } from './nearest.ts'

// What clients for browsers send of themselves: the first names the image where nothing else does; the second says what
// a browser makes of the file's ending, which is no matter here.
const OF_CLIENTS = ['filename', 'filetype']
const KNOWN = [...Object.keys(importFields), ...CHECKSUM_ALGORITHMS, ...OF_CLIENTS]

function bad(message: string, field?: string): Fault {
  return new Fault('invalid', message, field === undefined ? { reason: 'malformed' } : { field })
}

function decode(base64: string, key: string): string {
  const bytes = Buffer.from(base64, 'base64')
  try {
    if (bytes.toString('base64') !== base64) throw new Error('not canonical')
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    throw bad(`'${key}' in Upload-Metadata is not UTF-8 in base64.`, key)
  }
}

/**
 * The parameters of a creation out of `Upload-Metadata` (keys and base64 values; source: tus 1.0.0, "Creation"), as JSON
 * would have had them. Throws Fault 'invalid' for what cannot be read, is there twice, or is unknown.
 */
export function readMetadata(text: string): Record<string, unknown> {
  const values = new Map<string, string>()
  for (const pair of text.split(',').map((one) => one.trim())) {
    if (pair === '') continue
    const [key = '', base64 = '', ...rest] = pair.split(' ')
    if (!/^[\x21-\x7e]{1,80}$/.test(key) || rest.length > 0)
      throw bad('Upload-Metadata takes pairs of a key and base64, with commas between.')
    if (!KNOWN.includes(key)) {
      const near = findNearest(key, KNOWN)
      const hint = near === undefined ? `It takes ${KNOWN.join(', ')}.` : `Did you mean '${near}'?`
      const field = { field: key, reason: 'unknown-parameter' }
      throw new Fault('invalid', `Upload-Metadata has no key '${key}'. ${hint}`, field)
    }
    if (values.has(key)) throw bad(`'${key}' is given twice. Send it once.`, key)
    values.set(key, decode(base64, key))
  }
  const given: Record<string, unknown> = {}
  for (const [key, value] of values) {
    if (OF_CLIENTS.includes(key)) continue
    const algorithm = CHECKSUM_ALGORITHMS.find((known) => known === key)
    const name = algorithm === undefined ? key : 'checksum'
    if (name in given) throw bad('Send one checksum of the whole file.', key)
    given[name] = algorithm === undefined ? value : { algorithm, hex: value }
  }
  const fileName = values.get('filename')
  return given.name === undefined && fileName !== undefined ? { ...given, name: fileName } : given
}
