import { Fault } from '../../image/fault.ts'
import { decodePairs } from '../acs3.ts'
import { parseJson, plainValue } from '../strict-json.ts'
import type { Match } from './match.ts'
import { findNearest } from './nearest.ts'

function parseBody(body: Buffer): Record<string, unknown> {
  if (body.length === 0) return {}
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(body)
  } catch (cause) {
    throw new Fault('invalid', 'The body is not JSON in UTF-8.', { reason: 'malformed', cause })
  }
  // Strict: of two equal names the last would silently win, and nesting without end would exhaust the stack.
  const value = plainValue(parseJson(text))
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new Fault('invalid', 'The body takes one JSON object.', { reason: 'malformed' })
  }
  return value as Record<string, unknown>
}

/**
 * The parameters of a request by name, not yet judged: the path's, the query's and the body's. A list may be
 * repeated in the query. Throws Fault 'invalid' for a name given twice, or one that the route does not know.
 */
export function readParameters(match: Match, queryText: string, body: Buffer): Record<string, unknown> {
  const { fields, method, path } = match.route
  // No prototype: a parameter named '__proto__' is an unknown name like any other.
  const given: Record<string, unknown> = Object.assign(Object.create(null), match.parameters)
  const add = (name: string, value: unknown, mayRepeat: boolean) => {
    if (!Object.hasOwn(fields, name)) {
      const near = findNearest(name, Object.keys(fields))
      const hint =
        near === undefined
          ? `It takes ${Object.keys(fields).join(', ') || 'none'}.`
          : `Did you mean '${near}'?`
      const message = `${method} ${path} has no parameter '${name.slice(0, 80)}'. ${hint}`
      throw new Fault('invalid', message, { field: name.slice(0, 80), reason: 'unknown-parameter' })
    }
    const before = given[name]
    if (before === undefined) given[name] = mayRepeat ? [value] : value
    else if (mayRepeat && Array.isArray(before)) before.push(value)
    else throw new Fault('invalid', `'${name}' is given twice. Send it once.`, { field: name })
  }
  for (const [name, value] of decodePairs(queryText)) add(name, value, fields[name]?.isList === true)
  for (const [name, value] of Object.entries(parseBody(body))) add(name, value, false)
  return given
}
