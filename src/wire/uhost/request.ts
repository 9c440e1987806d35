import { Fault } from '../../image/fault.ts'
import { PARAMETER_COUNT_MAX, splitPairs } from '../acs3.ts'
import type { WireRequest } from '../gateway-contract.ts'
import { type JsonNode, parseJson } from '../strict-json.ts'
import { plainDecimal } from './number.ts'

/** One request as it was signed, and the same flattened to dotted names, as the operations read it. */
export interface ParameterMap {
  readonly signed: ReadonlyMap<string, JsonNode>
  readonly flat: ReadonlyMap<string, string>
}

/**
 * Query and body as one map. A name may be in both with one value (the Go client sends Action so); anything else
 * that is there twice is refused, because the signature has no separators and could not tell which one is meant.
 * Throws Fault 'invalid' field 'Body' or the name; reason 'too-large' for more than 5 000 parameters. Source: uhost.md §1.1, §1.3, §2.1.
 */
export function parseRequest(
  request: Pick<WireRequest, 'method' | 'url' | 'headers' | 'body'>,
): ParameterMap {
  if (request.method !== 'GET' && request.method !== 'POST') {
    throw new Fault('invalid', 'Send GET with a query, or POST with a form or JSON body.', {
      field: 'Method',
    })
  }
  const queryAt = request.url.indexOf('?')
  const query = queryAt < 0 ? '' : (request.url.slice(queryAt + 1).split('#')[0] ?? '')
  const signed = new Map(parseForm(query))
  for (const [name, node] of parseBody(request.headers['content-type'] ?? '', request.body)) {
    const other = signed.get(name)
    if (other !== undefined && scalarText(other) !== scalarText(node)) throw duplicate(name)
    signed.set(name, node)
  }
  return { signed, flat: flatten(signed) }
}

/** A scalar as the operations read it: null is the empty text, which counts as absent. Undefined for the others. */
export function scalarText(node: JsonNode): string | undefined {
  switch (node.is) {
    case 'text':
      return node.text
    case 'number':
      return plainDecimal(node.token)
    case 'flag':
      return String(node.flag)
    case 'null':
      return ''
    case 'list':
    case 'object':
      return undefined
    default:
      return node satisfies never
  }
}

function parseBody(contentType: string, body: Buffer): ReadonlyMap<string, JsonNode> {
  if (body.length === 0) return new Map()
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(body)
  } catch {
    throw new Fault('invalid', 'The body is not UTF-8 text.', { field: 'Body' })
  }
  const type = contentType.split(';')[0]?.trim().toLowerCase()
  if (type === 'application/json') {
    const node = parseJson(text)
    if (node.is === 'object') return node.members
    throw new Fault('invalid', 'A JSON body is one object of parameters.', { field: 'Body' })
  }
  if (type === 'application/x-www-form-urlencoded' || type === '') return parseForm(text)
  throw new Fault(
    'invalid',
    'Send the body as application/x-www-form-urlencoded or application/json and say so in Content-Type.',
    { field: 'Body' },
  )
}

function parseForm(text: string): ReadonlyMap<string, JsonNode> {
  const form = new Map<string, JsonNode>()
  for (const pair of splitPairs(text)) {
    if (form.size === PARAMETER_COUNT_MAX) throw tooMany()
    const equalsAt = pair.indexOf('=')
    const name = decode(equalsAt < 0 ? pair : pair.slice(0, equalsAt))
    if (form.has(name)) throw duplicate(name)
    form.set(name, { is: 'text', text: equalsAt < 0 ? '' : decode(pair.slice(equalsAt + 1)) })
  }
  return form
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text.replaceAll('+', ' '))
  } catch {
    throw new Fault('invalid', `'${text.slice(0, 80)}' is not percent-encoded UTF-8.`, { field: 'Body' })
  }
}

function flatten(signed: ReadonlyMap<string, JsonNode>): ReadonlyMap<string, string> {
  const flat = new Map<string, string>()
  const visit = (name: string, node: JsonNode): void => {
    if (node.is === 'list') {
      node.items.forEach((item, index) => {
        visit(`${name}.${index}`, item)
      })
    } else if (node.is === 'object') {
      for (const [member, value] of node.members) visit(`${name}.${member}`, value)
    } else {
      // `Disks.0.Size` beside a nested Disks: signed as two names, but one parameter.
      if (flat.has(name)) throw duplicate(name)
      if (flat.size === PARAMETER_COUNT_MAX) throw tooMany()
      flat.set(name, scalarText(node) ?? '')
    }
  }
  for (const [name, node] of signed) visit(name, node)
  return flat
}

function tooMany(): Fault {
  const message = `There are more than ${PARAMETER_COUNT_MAX} parameters. Send fewer in one request.`
  return new Fault('invalid', message, { field: 'Body', reason: 'too-large' })
}

function duplicate(name: string): Fault {
  return new Fault('invalid', 'It is given twice. Send every parameter once.', { field: name.slice(0, 80) })
}
