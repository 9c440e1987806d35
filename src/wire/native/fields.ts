import { Fault, type FaultSubject } from '../../image/fault.ts'
import {
  type DiskId,
  findId,
  type Id,
  type ProjectId,
  parseId,
  parseProjectId,
  type ResourceKind,
} from '../../image/ids.ts'

/** What a parameter takes: `parse` gets a value from JSON, or text from the path or query. */
export interface Field<Value> {
  /** In words, for error messages and docs/api.md: 'a whole number from 1 to 500'. */
  readonly takes: string
  readonly isOptional: boolean
  /** A list may be repeated in a query. */
  readonly isList: boolean
  /** Throws Fault 'invalid' (or 'absent' for an id nobody could have been given). */
  parse(value: unknown, name: string): Value
}

export type Fields = Readonly<Record<string, Field<unknown>>>
export type Parsed<F extends Fields> = { readonly [K in keyof F]: F[K] extends Field<infer V> ? V : never }

function refuse(name: string, takes: string, subject: FaultSubject = 'request'): never {
  throw new Fault('invalid', `'${name}' takes ${takes}.`, { field: name, subject })
}

function field<Value>(takes: string, parse: (value: unknown, name: string) => Value): Field<Value> {
  return { takes, isOptional: false, isList: false, parse }
}

/** Absent, and JSON's null, become undefined. */
export function optional<Value>(inner: Field<Value>): Field<Value | undefined> {
  return {
    ...inner,
    isOptional: true,
    parse: (value, name) => (value === undefined || value === null ? undefined : inner.parse(value, name)),
  }
}

/** As `optional`, with the value that stands for nothing said. */
export function withDefault<Value>(inner: Field<Value>, fallback: Value): Field<Value> {
  return {
    ...inner,
    takes: `${inner.takes}; default ${JSON.stringify(fallback)}`,
    isOptional: true,
    parse: (value, name) => (value === undefined || value === null ? fallback : inner.parse(value, name)),
  }
}

/** As `inner`, or the word 'none', which is null. */
export function orNone<Value>(inner: Field<Value>): Field<Value | null> {
  const takes = `${inner.takes}, or 'none'`
  return {
    ...inner,
    takes,
    parse(value, name) {
      if (value === 'none') return null
      try {
        return inner.parse(value, name)
      } catch {
        return refuse(name, takes)
      }
    },
  }
}

export function text(
  lengthMax: number,
  options: { lengthMin?: number; subject?: FaultSubject } = {},
): Field<string> {
  const lengthMin = options.lengthMin ?? 0
  const takes =
    lengthMin > 0
      ? `text of ${lengthMin} to ${lengthMax} characters`
      : `text of up to ${lengthMax} characters`
  return field(takes, (value, name) => {
    if (typeof value !== 'string') return refuse(name, takes, options.subject)
    const length = [...value].length
    return length < lengthMin || length > lengthMax ? refuse(name, takes, options.subject) : value
  })
}

export function integer(min: number, max: number): Field<number> {
  const takes = `a whole number from ${min} to ${max}`
  return field(takes, (value, name) => {
    const number = typeof value === 'string' && /^-?\d{1,16}$/.test(value) ? Number(value) : value
    if (typeof number !== 'number' || !Number.isSafeInteger(number)) return refuse(name, takes)
    return number < min || number > max ? refuse(name, takes) : number
  })
}

export const flag: Field<boolean> = field('true or false', (value, name) => {
  if (value === true || value === 'true') return true
  if (value === false || value === 'false') return false
  return refuse(name, 'true or false')
})

export function oneOf<const Value extends string>(...values: readonly Value[]): Field<Value> {
  const takes = `one of ${values.join(', ')}`
  return field(takes, (value, name) => values.find((known) => known === value) ?? refuse(name, takes))
}

export function list<Value>(item: Field<Value>, countMax: number): Field<readonly Value[]> {
  const takes = `a list of up to ${countMax}, each ${item.takes}`
  return {
    takes,
    isOptional: false,
    isList: true,
    parse(value, name) {
      const items = typeof value === 'string' ? [value] : value
      if (!Array.isArray(items) || items.length > countMax) return refuse(name, takes)
      return items.map((one: unknown) => item.parse(one, name))
    },
  }
}

/** As `list`, of texts; one that is there twice is refused, because it would be done twice. */
export function distinct(item: Field<string>, countMax: number): Field<readonly string[]> {
  const inner = list(item, countMax)
  const takes = `${inner.takes}, none of them twice`
  return {
    ...inner,
    takes,
    parse(value, name) {
      const items = inner.parse(value, name)
      const twice = items.find((one, i) => items.indexOf(one) !== i)
      return twice === undefined ? items : refuse(name, `${takes}: '${twice.slice(0, 80)}' is`)
    },
  }
}

/** An object of known members; an unknown one is refused. */
export function object<F extends Fields>(members: F): Field<Parsed<F>> {
  const takes = `an object of ${Object.keys(members).join(', ')}`
  return field(takes, (value, name) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return refuse(name, takes)
    const given = value as Record<string, unknown>
    for (const key of Object.keys(given)) {
      if (!Object.hasOwn(members, key)) refuse(name, `${takes}, but no '${key.slice(0, 80)}'`)
    }
    return parseFields(members, given, `${name}.`)
  })
}

/** Any JSON object, judged by the use case. */
export const anyObject: Field<Readonly<Record<string, unknown>>> = field('an object', (value, name) => {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return refuse(name, 'an object')
  return value as Record<string, unknown>
})

/** An id as any door spells it. */
export function id<Kind extends ResourceKind>(kind: Kind): Field<Id<Kind>> {
  const article = kind === 'image' ? 'an' : 'a'
  return field(`${article} ${kind} id`, (value, name) =>
    typeof value === 'string' ? parseId(kind, value) : refuse(name, `${article} ${kind} id`, kind),
  )
}

/** Which of a machine's disks is meant. */
export const diskChoice: Field<'system' | 'data' | { readonly id: DiskId }> = field(
  'system, data or a disk id',
  (value, name) => {
    if (value === 'system' || value === 'data') return value
    return typeof value === 'string'
      ? { id: parseId('disk', value) }
      : refuse(name, 'system, data or a disk id', 'disk')
  },
)

/** A name that a user gives a snapshot: those that begin with 'auto' are the policies'. */
export const snapshotName: Field<string> = field(
  "text of 1 to 256 characters that does not begin with 'auto'",
  (value, name) => {
    const given = text(256, { lengthMin: 1, subject: 'name' }).parse(value, name)
    if (!given.startsWith('auto')) return given
    throw new Fault(
      'invalid',
      "Names that begin with 'auto' are those of policies' snapshots. Take another.",
      {
        ...{ field: name, subject: 'name' },
      },
    )
  },
)

/** Ids to filter a list by: one that nobody could have been given matches nothing, so it is left out. */
export function ids<Kind extends ResourceKind>(kind: Kind): Field<readonly Id<Kind>[]> {
  const inner = list(text(80), 100)
  return {
    ...inner,
    takes: `a list of up to 100 ${kind} ids`,
    parse: (value, name) =>
      inner.parse(value, name).flatMap((one) => {
        const found = findId(kind, one)
        return found === undefined ? [] : [found]
      }),
  }
}

export const project: Field<ProjectId> = field('a project id (org-…)', (value, name) =>
  typeof value === 'string' ? parseProjectId(value) : refuse(name, 'a project id (org-…)', 'project'),
)

export function base64(sizeBytesMax: number): Field<Buffer> {
  const takes = `base64 of up to ${sizeBytesMax} bytes`
  return field(takes, (value, name) => {
    if (typeof value !== 'string' || !/^[A-Za-z0-9+/]*={0,2}$/.test(value)) return refuse(name, takes)
    const bytes = Buffer.from(value, 'base64')
    return bytes.length > sizeBytesMax ? refuse(name, takes) : bytes
  })
}

/** Every field of `fields`, parsed; a required one that is not there is Fault 'invalid'. */
export function parseFields<F extends Fields>(
  fields: F,
  given: Readonly<Record<string, unknown>>,
  prefix = '',
): Parsed<F> {
  const parsed: Record<string, unknown> = {}
  for (const [name, rule] of Object.entries(fields)) {
    const value = Object.hasOwn(given, name) ? given[name] : undefined
    const full = prefix + name
    if (value === undefined && !rule.isOptional) {
      throw new Fault('invalid', `'${full}' is missing. It takes ${rule.takes}.`, { field: full })
    }
    parsed[name] = rule.parse(value, full)
  }
  return parsed as Parsed<F>
}
