import assert from 'node:assert/strict'

export type Canonical =
  | string
  | number
  | boolean
  | null
  | readonly Canonical[]
  | { readonly [key: string]: Canonical }

/**
 * The one way to write a value as bytes: keys sorted by code unit, no spaces, integers only, strings as JSON writes
 * them, UTF-8. Source: docs/format.md, "Canonical JSON".
 */
export function encodeCanonical(value: Canonical): Buffer {
  return Buffer.from(write(value), 'utf8')
}

function write(value: Canonical): string {
  if (value === null || typeof value === 'boolean') return String(value)
  if (typeof value === 'string') {
    assert(value.isWellFormed(), 'canonical text is well-formed')
    return JSON.stringify(value)
  }
  if (typeof value === 'number') {
    assert(Number.isSafeInteger(value) && !Object.is(value, -0), 'canonical numbers are integers')
    return String(value)
  }
  if (Array.isArray(value)) return `[${value.map(write).join(',')}]`
  const object = value as { readonly [key: string]: Canonical }
  const members = Object.keys(object).sort()
  return `{${members.map((key) => `${JSON.stringify(key)}:${write(object[key] as Canonical)}`).join(',')}}`
}
