import type { App } from '../../app/contract.ts'
import { Fault } from '../../image/fault.ts'
import { type Branch, isAbsent } from './tree.ts'

/** What a rule may look at beside its own value. */
export interface Scope {
  readonly regions: App['regions']
  readonly root: Branch
}

/** The form of a value. `parse` throws Fault 'invalid' (or 'absent' for what a name does not name) with `field`. */
export interface Rule<Value> {
  /** For people: 'integer 1 to 64'. */
  readonly shape: string
  /** The parameters inside an object or a list of objects. */
  readonly members?: ParameterTable
  readonly parse: (branch: Branch, field: string, scope: Scope) => Value
}

/**
 * used: it does what the cloud says. accepted: validated, without effect here. refused: giving it is an error.
 * `note` says what is particular here, and is never empty for the latter two.
 */
export interface Parameter<Value> {
  readonly rule: Rule<unknown>
  readonly isRequired: boolean
  readonly effect: 'used' | 'accepted' | 'refused'
  readonly note: string
  readonly read: (branch: Branch | undefined, field: string, scope: Scope) => Value
}

export type ParameterTable = { readonly [name: string]: Parameter<unknown> }
export type Parsed<Table extends ParameterTable> = {
  readonly [Name in keyof Table]: Table[Name] extends Parameter<infer Value> ? Value : never
}

export function required<Value>(rule: Rule<Value>, note = ''): Parameter<Value> {
  return {
    rule,
    isRequired: true,
    effect: 'used',
    note,
    read: (branch, field, scope) => {
      if (isAbsent(branch)) throw missing(field)
      return rule.parse(branch, field, scope)
    },
  }
}

export function optional<Value>(rule: Rule<Value>, note = ''): Parameter<Value | undefined> {
  return {
    rule,
    isRequired: false,
    effect: 'used',
    note,
    read: (branch, field, scope) => (isAbsent(branch) ? undefined : rule.parse(branch, field, scope)),
  }
}

export function withDefault<Value extends string | number>(
  rule: Rule<Value>,
  value: Value,
  note = '',
): Parameter<Value> {
  const parameter = optional(rule, note === '' ? `default ${value}` : `default ${value}; ${note}`)
  return { ...parameter, read: (branch, field, scope) => parameter.read(branch, field, scope) ?? value }
}

/** A documented parameter that is validated and then has no effect here; `why` is for the documentation. */
export function accepted<Value>(
  rule: Rule<Value>,
  why: string,
  isRequired = false,
): Parameter<Value | undefined> {
  return {
    ...(isRequired ? required(rule) : optional(rule)),
    effect: 'accepted',
    note: why,
  }
}

/** A documented parameter that would be a lie to accept: the caller is told why. */
export function refused(rule: Rule<unknown>, why: string): Parameter<undefined> {
  return {
    rule,
    isRequired: false,
    effect: 'refused',
    note: why,
    read: (branch, field) => {
      if (isAbsent(branch)) return undefined
      throw bad(field, `${why} Leave it out.`)
    },
  }
}

/** Required ones first, so that a caller learns what is missing before what is wrong. */
export function readParameters<Table extends ParameterTable>(
  table: Table,
  branch: Branch,
  prefix: string,
  scope: Scope,
): Parsed<Table> {
  const entries = Object.entries(table)
  for (const [name, parameter] of entries) {
    if (parameter.isRequired && isAbsent(branch.children.get(name))) throw missing(prefix + name)
  }
  const parsed = entries.map(([name, parameter]) => [
    name,
    parameter.read(branch.children.get(name), prefix + name, scope),
  ])
  return Object.fromEntries(parsed) as Parsed<Table>
}

export function missing(field: string): Fault {
  return new Fault('invalid', 'It is required.', { field, reason: 'missing' })
}

export function bad(field: string, why: string): Fault {
  return new Fault('invalid', why, { field })
}

export function tooLarge(field: string, why: string): Fault {
  return new Fault('invalid', why, { field, reason: 'too-large' })
}
