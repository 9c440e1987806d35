import { createHash, timingSafeEqual } from 'node:crypto'
import type { JsonNode } from '../strict-json.ts'
import { plainDecimal } from './number.ts'

/** How a JSON number was written into the text that was signed. */
export type NumberSpelling = 'plain' | 'as-sent'

/**
 * Every parameter but Signature, names rising by UTF-8 bytes, name and value without separators, the private key
 * last. Source: uhost.md §2.1 and its vectors.
 */
export function textToSign(
  parameters: ReadonlyMap<string, JsonNode>,
  privateKey: string,
  numbers: NumberSpelling,
): string {
  const rest = new Map(parameters)
  rest.delete('Signature')
  return objectText(rest, numbers) + privateKey
}

/** Lower-case hex SHA-1 of the UTF-8 bytes. */
export function signText(text: string): string {
  return createHash('sha1').update(text, 'utf8').digest('hex')
}

/**
 * Whether `signature` is the one that this key gives these parameters. JSON numbers may have been signed as plain
 * decimals (Go, Java) or as sent (JavaScript); both spellings are tried, all numbers alike.
 */
export function isSignedBy(
  parameters: ReadonlyMap<string, JsonNode>,
  privateKey: string,
  signature: string,
): boolean {
  const given = Buffer.from(signature, 'utf8')
  return (['plain', 'as-sent'] as const).some((numbers) => {
    const expected = Buffer.from(signText(textToSign(parameters, privateKey, numbers)), 'utf8')
    return given.length === expected.length && timingSafeEqual(given, expected)
  })
}

function objectText(members: ReadonlyMap<string, JsonNode>, numbers: NumberSpelling): string {
  return [...members]
    .map(([name, node]) => ({ name, node, bytes: Buffer.from(name, 'utf8') }))
    .sort((left, right) => Buffer.compare(left.bytes, right.bytes))
    .map(({ name, node }) => name + nodeText(node, numbers))
    .join('')
}

function nodeText(node: JsonNode, numbers: NumberSpelling): string {
  switch (node.is) {
    case 'text':
      return node.text
    case 'number':
      return numbers === 'plain' ? plainDecimal(node.token) : node.token
    case 'flag':
      return String(node.flag)
    case 'null':
      // The Go client signs a nil list with its name and nothing behind it.
      return ''
    case 'list':
      return node.items.map((item) => nodeText(item, numbers)).join('')
    case 'object':
      return objectText(node.members, numbers)
    default:
      return node satisfies never
  }
}
