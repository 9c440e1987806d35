import { CLEAN_ALL, type CleaningWish, parseOperations } from '../../image/cleaning.ts'
import { Fault } from '../../image/fault.ts'
import { type Field, flag, list, object, oneOf, optional, text, withDefault } from './fields.ts'

const SELECTION = "a selection of operations ('windows,-logs')"
const selection = text(1024)
function refuse(name: string, takes: string): never {
  throw new Fault('invalid', `'${name}' takes ${takes}.`, { field: name })
}

/** One word of a selection: a comma would make two of it, and what is empty would mean everything. */
const word: Field<string> = {
  ...{ takes: 'a word such as windows or -logs', isOptional: false, isList: false },
  parse: (value, name) =>
    typeof value === 'string' && /^-?[A-Za-z-]{1,64}$/.test(value) ? value : refuse(name, word.takes),
}
const words = list(word, 100)

const operations: Field<string> = {
  ...selection,
  takes: `${SELECTION}, or a list of its words that is not empty`,
  parse(value, name) {
    if (typeof value === 'string') return selection.parse(value, name)
    if (!Array.isArray(value) || value.length === 0) return refuse(name, operations.takes)
    return words.parse(value, name).join(',')
  },
}

const members = object({
  operations: optional(operations),
  bestEffort: withDefault(flag, false),
  secrets: withDefault(oneOf('report', 'refuse'), 'report'),
})

const wishOf = (chosen: string, field: string): CleaningWish => ({
  ...CLEAN_ALL,
  operations: parseOperations(chosen, field),
})

/** What a cleaning is to do, in the three ways in which it can be said. */
export const cleaning: Field<CleaningWish> = {
  takes: `true, ${SELECTION}, or an object of operations (the selection, or a list of its words), bestEffort (true or false) and secrets (report or refuse)`,
  isOptional: false,
  isList: false,
  parse(value, name) {
    if (value === true || value === 'true') return CLEAN_ALL
    if (typeof value === 'string' && value !== 'false') return wishOf(selection.parse(value, name), name)
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      return refuse(name, cleaning.takes)
    }
    const { operations: chosen = '', bestEffort, secrets } = members.parse(value, name)
    return { ...wishOf(chosen, `${name}.operations`), isBestEffort: bestEffort, onSecrets: secrets }
  },
}

/** As `cleaning`, where the disks may stay as they are: false, and nothing said. */
export const cleaningOrNot: Field<CleaningWish | undefined> = {
  ...optional(cleaning),
  takes: `${cleaning.takes}; false leaves the disks as they are; default false`,
  parse: (value, name) =>
    value === undefined || value === null || value === false || value === 'false'
      ? undefined
      : cleaning.parse(value, name),
}

/** As `cleaning`, where cleaning is what is asked for: nothing said is everything. */
export const cleaningOrAll: Field<CleaningWish> = {
  ...cleaning,
  takes: `${cleaning.takes}; default true`,
  isOptional: true,
  parse: (value, name) => cleaning.parse(value ?? true, name),
}
