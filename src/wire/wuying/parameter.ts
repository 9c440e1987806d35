import type { Fault } from '../../image/fault.ts'
import { missing } from './request.ts'
import { isAbsent, type ParameterNode } from './tree.ts'

/** How one kind of value is read. */
export interface Rule<Value> {
  /** What the parameter takes, for people: it stands in refusals and in the reference. */
  readonly takes: string
  /** The parameters below this one, by their names behind its own: `.Key`, `.N.Key`. */
  readonly fields?: Readonly<Record<string, Parameter<unknown>>>
  /** The value, or undefined when it is absent. Throws Fault 'invalid' with `name` as its field. */
  read(node: ParameterNode | undefined, name: string): Value | undefined
}

/**
 * What becomes of a documented parameter: 'required' and 'optional' ones reach the operation; 'accepted' ones are
 * checked and have no effect here; 'refused' ones are checked and then refused, because to ignore them would be a lie.
 */
export type Use = 'required' | 'optional' | 'accepted' | 'refused'

export interface Parameter<Value, Used extends Use = Use> {
  readonly rule: Rule<Value>
  readonly use: Used
  /** The effect, or the reason why there is none. */
  readonly note: string
  /** For 'refused' ones: the fault, or undefined for a value that promises nothing. */
  refuse?(value: Value, name: string): Fault | undefined
}

export type Parameters = Readonly<Record<string, Parameter<unknown>>>

/** What `run` of an operation sees: the required and optional parameters, read and typed. */
export type Parsed<P extends Parameters> = {
  readonly [Name in keyof P as P[Name]['use'] extends 'required' | 'optional'
    ? Name
    : never]: P[Name] extends Parameter<infer Value, infer Used>
    ? Used extends 'required'
      ? Value
      : Value | undefined
    : never
}

export function required<Value>(rule: Rule<Value>, note = ''): Parameter<Value, 'required'> {
  return { rule, use: 'required', note }
}

export function optional<Value>(rule: Rule<Value>, note = ''): Parameter<Value, 'optional'> {
  return { rule, use: 'optional', note }
}

export function accepted<Value>(rule: Rule<Value>, note: string): Parameter<Value, 'accepted'> {
  return { rule, use: 'accepted', note }
}

export function refused<Value>(
  rule: Rule<Value>,
  note: string,
  refuse: (value: Value, name: string) => Fault | undefined,
): Parameter<Value, 'refused'> {
  return { rule, use: 'refused', note, refuse }
}

/**
 * Reads all parameters of a table below `node`: first that none is missing, then each value, then what is refused.
 * `prefix` is put before the names in faults. Names that are in no table are left alone, as on the real cloud.
 */
export function readParameters<P extends Parameters>(table: P, node: ParameterNode, prefix = ''): Parsed<P> {
  for (const [name, { use }] of Object.entries(table)) {
    if (use === 'required' && isAbsent(node.children.get(name))) throw missing(prefix + name)
  }
  const parsed: Record<string, unknown> = {}
  const refusals: (Fault | undefined)[] = []
  for (const [name, parameter] of Object.entries(table)) {
    const value = parameter.rule.read(node.children.get(name), prefix + name)
    if (parameter.use === 'required' && value === undefined) throw missing(prefix + name)
    if (parameter.use === 'refused' && value !== undefined)
      refusals.push(parameter.refuse?.(value, prefix + name))
    if (parameter.use === 'required' || parameter.use === 'optional') parsed[name] = value
  }
  const refusal = refusals.find((fault) => fault !== undefined)
  if (refusal !== undefined) throw refusal
  return parsed as Parsed<P>
}
