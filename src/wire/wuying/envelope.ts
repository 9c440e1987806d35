import type { WireAnswer } from '../gateway-contract.ts'

export type Format = 'json' | 'xml'

// Clients compare the XML type as an exact text. Source: wuying.md §1.6.
const CONTENT_TYPES: Record<Format, string> = {
  json: 'application/json;charset=utf-8',
  xml: 'text/xml;charset=utf-8',
}

/** `content` as one JSON object, or as XML below `root`. */
export function envelope(
  format: Format,
  status: number,
  root: string,
  content: Readonly<Record<string, unknown>>,
): WireAnswer & { readonly body: string } {
  const body =
    format === 'json'
      ? JSON.stringify(content)
      : `<?xml version="1.0" encoding="UTF-8"?>\n<${root}>${xmlChildren(content)}</${root}>`
  return {
    status,
    headers: {
      'content-type': CONTENT_TYPES[format],
      'x-acs-request-id': String(content.RequestId ?? ''),
    },
    body,
  }
}

function xmlChildren(content: object): string {
  return Object.entries(content)
    .map(([name, value]) => xmlElement(name, value))
    .join('')
}

/** A list is its element once for each item, so an empty list has none. Names are ours, never the caller's. */
function xmlElement(name: string, value: unknown): string {
  if (value === undefined || value === null) return ''
  if (Array.isArray(value)) return value.map((item) => xmlElement(name, item)).join('')
  const inner = typeof value === 'object' ? xmlChildren(value) : escapeXml(String(value))
  return `<${name}>${inner}</${name}>`
}

const XML_MARKS: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&apos;',
  '\r': '&#13;',
}

/** Text for an element; characters that XML 1.0 cannot carry in any form become U+FFFD. */
export function escapeXml(text: string): string {
  return text
    .toWellFormed()
    .replace(/[&<>"'\r]/g, (mark) => XML_MARKS[mark] ?? mark)
    .replace(/[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu, '\ufffd')
}
