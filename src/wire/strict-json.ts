import { Fault } from '../image/fault.ts'

/**
 * A JSON value as it was written. `JSON.parse` would lose the number tokens that a client signed and would let the
 * second of two equal keys win, so that what is checked is not what is done.
 */
export type JsonNode =
  | { readonly is: 'text'; readonly text: string }
  | { readonly is: 'number'; readonly token: string }
  | { readonly is: 'flag'; readonly flag: boolean }
  | { readonly is: 'null' }
  | { readonly is: 'list'; readonly items: readonly JsonNode[] }
  | { readonly is: 'object'; readonly members: ReadonlyMap<string, JsonNode> }

const DEPTH_MAX = 32
const VALUE_COUNT_MAX = 50_000
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y
const SPACE = /[ \t\n\r]*/y

/**
 * Strict RFC 8259: no duplicate keys, no lone surrogates, nothing after the value, at most 32 levels
 * and 50 000 values.
 * Throws Fault 'invalid' field 'Body' reason 'malformed' that names the offset in characters.
 */
export function parseJson(source: string): JsonNode {
  const reader = { source, at: 0, valueCount: 0 }
  const node = readValue(reader, 0)
  skipSpace(reader)
  if (reader.at !== source.length) throw malformed(reader, 'there is text after the value')
  return node
}

/** The node as `JSON.parse` would give it: numbers as doubles. */
export function plainValue(node: JsonNode): unknown {
  switch (node.is) {
    case 'text':
      return node.text
    case 'number':
      return Number(node.token)
    case 'flag':
      return node.flag
    case 'null':
      return null
    case 'list':
      return node.items.map(plainValue)
    case 'object':
      return Object.fromEntries([...node.members].map(([name, value]) => [name, plainValue(value)]))
    default:
      return node satisfies never
  }
}

interface Reader {
  readonly source: string
  at: number
  valueCount: number
}

function readValue(reader: Reader, depth: number): JsonNode {
  if (depth > DEPTH_MAX) throw malformed(reader, `it is nested deeper than ${DEPTH_MAX} levels`)
  if (++reader.valueCount > VALUE_COUNT_MAX)
    throw malformed(reader, `it holds over ${VALUE_COUNT_MAX} values`)
  skipSpace(reader)
  switch (reader.source[reader.at]) {
    case '{':
      return readObject(reader, depth)
    case '[':
      return readList(reader, depth)
    case '"':
      return { is: 'text', text: readText(reader) }
    case 't':
      return readWord(reader, 'true', { is: 'flag', flag: true })
    case 'f':
      return readWord(reader, 'false', { is: 'flag', flag: false })
    case 'n':
      return readWord(reader, 'null', { is: 'null' })
    default:
      return readNumber(reader)
  }
}

function readObject(reader: Reader, depth: number): JsonNode {
  const members = new Map<string, JsonNode>()
  reader.at++
  if (take(reader, '}')) return { is: 'object', members }
  do {
    skipSpace(reader)
    if (reader.source[reader.at] !== '"') throw malformed(reader, 'a name in double quotes is missing')
    const name = readText(reader)
    if (members.has(name)) throw malformed(reader, `the name '${name.slice(0, 64)}' is there twice`)
    if (!take(reader, ':')) throw malformed(reader, 'a colon is missing')
    members.set(name, readValue(reader, depth + 1))
  } while (take(reader, ','))
  if (!take(reader, '}')) throw malformed(reader, 'a comma or a closing brace is missing')
  return { is: 'object', members }
}

function readList(reader: Reader, depth: number): JsonNode {
  const items: JsonNode[] = []
  reader.at++
  if (take(reader, ']')) return { is: 'list', items }
  do items.push(readValue(reader, depth + 1))
  while (take(reader, ','))
  if (!take(reader, ']')) throw malformed(reader, 'a comma or a closing bracket is missing')
  return { is: 'list', items }
}

function readText(reader: Reader): string {
  const { source, at } = reader
  let end = at + 1
  while (end < source.length && source[end] !== '"') end += source[end] === '\\' ? 2 : 1
  let text: unknown
  try {
    text = JSON.parse(source.slice(at, end + 1))
  } catch {
    throw malformed(
      reader,
      'a text is not closed, or holds an escape or control character JSON does not know',
    )
  }
  if (typeof text !== 'string' || !text.isWellFormed()) throw malformed(reader, 'a text is not Unicode')
  reader.at = end + 1
  return text
}

function readNumber(reader: Reader): JsonNode {
  NUMBER.lastIndex = reader.at
  const token = NUMBER.exec(reader.source)?.[0]
  if (token === undefined) throw malformed(reader, 'a value is missing')
  reader.at += token.length
  return { is: 'number', token }
}

function readWord(reader: Reader, word: string, node: JsonNode): JsonNode {
  if (!reader.source.startsWith(word, reader.at)) throw malformed(reader, 'a value is missing')
  reader.at += word.length
  return node
}

function take(reader: Reader, sign: string): boolean {
  skipSpace(reader)
  if (reader.source[reader.at] !== sign) return false
  reader.at++
  return true
}

function skipSpace(reader: Reader): void {
  SPACE.lastIndex = reader.at
  SPACE.exec(reader.source)
  reader.at = SPACE.lastIndex
}

function malformed(reader: Reader, what: string): Fault {
  return new Fault(
    'invalid',
    `The body is not JSON: at character ${reader.at}, ${what}. Send one JSON object.`,
    {
      field: 'Body',
      reason: 'malformed',
    },
  )
}
