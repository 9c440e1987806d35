import assert from 'node:assert/strict'
import { isFault } from '../image/fault.ts'
import { parseSettings, type Settings, type SettingsInput } from '../settings.ts'

/** Where the file of a test's settings is said to lie. */
export const path = '/etc/calotype/settings.yaml'

/** Parses on a machine of two cores, from the file whose text is `yaml` and what else is given. */
export const parse = (given: Partial<SettingsInput> & { readonly yaml?: string }): Settings => {
  const { yaml, ...input } = given
  const file = yaml === undefined ? {} : { file: { path, text: yaml } }
  return parseSettings({
    environment: { CALOTYPE_DATA: '/data' },
    flags: {},
    folder: '/home/ada',
    coreCount: 2,
    ...file,
    ...input,
  })
}

/** The settings are refused with a Fault of that field, whose message has each of the words. */
export const refuses = (given: Parameters<typeof parse>[0], field: string, ...words: (string | RegExp)[]) => {
  assert.throws(
    () => parse(given),
    (error) => {
      assert(isFault(error, 'invalid'), String(error))
      assert.equal(error.field, field)
      for (const word of words) assert.match(error.message, word instanceof RegExp ? word : literal(word))
      return true
    },
    JSON.stringify(given),
  )
}

/** Fits the very text. */
export const literal = (text: string) => new RegExp(text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&'))

/** A region's objects in a directory, as they come out. */
export const folder = (path: string) => ({ kind: 'directory', folder: path })

/** The text of a file with one region, `here`, that has these lines. */
export const region = (lines: string) => `regions:\n  here:\n${lines.replace(/^/gm, '    ')}\n`
