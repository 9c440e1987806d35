import assert from 'node:assert/strict'
import { BlockList, isIP } from 'node:net'
import { parseMembers, parseTexts, refusal, show } from './elements.ts'
import { matchesWildcard } from './wildcard.ts'

/** What is known of the request itself. */
export interface RequestContext {
  /** The address the request came from, IPv4 or IPv6. */
  readonly sourceIp: string
  readonly nowMs: number
  /** Whether the request came over TLS. */
  readonly isSecure: boolean
}

/** One operator on one key: holds when any of `values` fits, or for a negated operator when none does. */
export interface Condition {
  readonly operator: string
  readonly key: string
  readonly values: readonly string[]
}

type Family = 'text' | 'number' | 'moment' | 'boolean' | 'address'

interface Operator {
  readonly family: Family
  /** Turns "any value fits" into "no value fits". */
  readonly isNegated: boolean
  readonly fits: (actual: string, value: string) => boolean
}

const toMs = (text: string): number => Date.parse(text)
const both = (family: Family, name: string, negatedName: string, fits: Operator['fits']) =>
  [
    [name, { family, isNegated: false, fits }],
    [negatedName, { family, isNegated: true, fits }],
  ] as const
const ordered = (family: Family, name: string, read: (text: string) => number) =>
  [
    ...both(family, `${name}Equals`, `${name}NotEquals`, (actual, value) => read(actual) === read(value)),
    [`${name}LessThan`, { family, isNegated: false, fits: (a, v) => read(a) < read(v) }],
    [`${name}LessThanEquals`, { family, isNegated: false, fits: (a, v) => read(a) <= read(v) }],
    [`${name}GreaterThan`, { family, isNegated: false, fits: (a, v) => read(a) > read(v) }],
    [`${name}GreaterThanEquals`, { family, isNegated: false, fits: (a, v) => read(a) >= read(v) }],
  ] as const satisfies readonly (readonly [string, Operator])[]

/** Every operator of the grammar. Source: RAM, "Policy structure and syntax". */
const OPERATORS: ReadonlyMap<string, Operator> = new Map<string, Operator>([
  ...both('text', 'StringEquals', 'StringNotEquals', (actual, value) => actual === value),
  ...both('text', 'StringEqualsIgnoreCase', 'StringNotEqualsIgnoreCase', (actual, value) => {
    return actual.toLowerCase() === value.toLowerCase()
  }),
  ...both('text', 'StringLike', 'StringNotLike', (actual, value) => matchesWildcard(value, actual)),
  ...ordered('number', 'Numeric', Number),
  ...ordered('moment', 'Date', toMs),
  ['Bool', { family: 'boolean', isNegated: false, fits: (actual, value) => actual === value }],
  ...both('address', 'IpAddress', 'NotIpAddress', isWithin),
])

/**
 * The keys a request has a value for, with the families of operators that can judge it. A key outside this table is
 * refused when the policy is written: a condition that nothing can judge would otherwise silently allow or deny.
 */
const KEYS: ReadonlyMap<string, readonly Family[]> = new Map<string, readonly Family[]>([
  ['acs:SourceIp', ['address', 'text']],
  ['acs:CurrentTime', ['moment', 'number', 'text']],
  ['acs:SecureTransport', ['boolean', 'text']],
  ['acs:MFAPresent', ['boolean', 'text']],
])

/** What a value of each family looks like, and the test for it. */
const VALUES: Record<Family, { readonly takes: string; readonly isGood: (text: string) => boolean }> = {
  text: { takes: 'text', isGood: () => true },
  number: { takes: 'a decimal number as text', isGood: (text) => /^-?\d{1,15}(\.\d{1,9})?$/.test(text) },
  moment: { takes: 'a moment as 2026-01-31T08:00:00Z or with an offset as +08:00', isGood: isMoment },
  boolean: { takes: '"true" or "false"', isGood: (text) => text === 'true' || text === 'false' },
  address: {
    takes: 'an IPv4 or IPv6 address, or a CIDR block as 192.0.2.0/24 or 2001:db8::/32',
    isGood: (text) => findBlock(text) !== undefined,
  },
}

/** Reads `{operator: {key: value or list}}`. Throws Fault 'invalid' naming the element. */
export function parseConditions(at: string, json: unknown): readonly Condition[] {
  return parseMembers(at, json, 'an object of operators').flatMap(([operatorName, keys]) => {
    const operator = OPERATORS.get(operatorName)
    if (operator === undefined) {
      throw refusal(
        `${at}.${operatorName.slice(0, 60)}`,
        `is no operator; the operators are ${names(OPERATORS)}.`,
      )
    }
    const where = `${at}.${operatorName}`
    const members = parseMembers(where, keys, 'an object of condition keys')
    if (members.length === 0) throw refusal(where, 'takes at least one condition key.')
    return members.map(([key, json]) => {
      const { takes, isGood } = VALUES[operator.family]
      const path = `${where}.${key.slice(0, 60)}`
      const families = KEYS.get(key)
      if (families === undefined) throw refusal(path, `is no condition key; the keys are ${names(KEYS)}.`)
      if (!families.includes(operator.family)) {
        const usable = [...OPERATORS].filter(([, candidate]) => families.includes(candidate.family))
        throw refusal(path, `cannot be judged by ${operatorName}; use ${names(new Map(usable))}.`)
      }
      const values = parseTexts(path, json, `${takes}, or a list of such`)
      const bad = values.find((value) => !isGood(value))
      if (bad !== undefined) throw refusal(path, `takes ${takes}, not ${show(bad)}.`)
      return { operator: operatorName, key, values }
    })
  })
}

/**
 * Whether all conditions hold. The values of one key are alternatives; a negated operator (`StringNotEquals`,
 * `NotIpAddress`, …) holds when none of its values fits, so that a list of exceptions excepts each of them.
 * `acs:CurrentTime` counts whole seconds; under a Numeric operator it is seconds since 1970.
 */
export function conditionsHold(conditions: readonly Condition[], context: RequestContext): boolean {
  return conditions.every(({ operator: name, key, values }) => {
    const operator = OPERATORS.get(name)
    assert(operator !== undefined, `no operator ${name}`)
    const actual = actualValue(key, operator.family, context)
    return values.some((value) => operator.fits(actual, value)) !== operator.isNegated
  })
}

function actualValue(key: string, family: Family, context: RequestContext): string {
  const seconds = Math.floor(context.nowMs / 1000)
  if (key === 'acs:SourceIp') return context.sourceIp
  if (key === 'acs:SecureTransport') return String(context.isSecure)
  // Nobody signs in with a second factor here: a rule that asks for one must see that it is not there.
  if (key === 'acs:MFAPresent') return 'false'
  assert(key === 'acs:CurrentTime', `no value for the key ${key}`)
  return family === 'number' ? String(seconds) : new Date(seconds * 1000).toISOString().replace('.000Z', 'Z')
}

interface Block {
  readonly address: string
  readonly family: 'ipv4' | 'ipv6'
  readonly prefixBits: number
}

function findBlock(text: string): Block | undefined {
  const [address = '', prefix, ...rest] = text.split('/')
  const version = address.includes('%') ? 0 : isIP(address)
  const bitsMax = version === 4 ? 32 : 128
  if (version === 0 || rest.length > 0) return undefined
  if (prefix !== undefined && !(/^\d{1,3}$/.test(prefix) && Number(prefix) <= bitsMax)) return undefined
  return { address, family: version === 4 ? 'ipv4' : 'ipv6', prefixBits: Number(prefix ?? bitsMax) }
}

/** Also finds an IPv4 caller in its IPv6 clothes (`::ffff:192.0.2.1`), as a dual-stack socket reports it. */
function isWithin(actual: string, value: string): boolean {
  const block = findBlock(value)
  const address = actual.replace(/%.*$/, '')
  assert(block !== undefined && isIP(address) !== 0, 'addresses are checked before they are compared')
  const list = new BlockList()
  list.addSubnet(block.address, block.prefixBits, block.family)
  return list.check(address, isIP(address) === 4 ? 'ipv4' : 'ipv6')
}

function isMoment(text: string): boolean {
  const match = /^(\d{4}-\d\d-\d\d)T\d\d:\d\d(:\d\d)?(Z|[+-]\d\d:\d\d)$/.exec(text)
  if (match === null || Number.isNaN(toMs(text))) return false
  // The parser rolls 30 February over into March; a calendar does not.
  return new Date(`${match[1]}T00:00:00Z`).toISOString().startsWith(match[1] ?? '-')
}

function names(table: ReadonlyMap<string, unknown>): string {
  return [...table.keys()].join(', ')
}
