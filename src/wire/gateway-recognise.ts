import type { IncomingHttpHeaders } from 'node:http'
import { PARAMETER_COUNT_MAX, splitPairs, splitUrl } from './acs3.ts'
import type { DoorName } from './gateway-contract.ts'

/** 'index': the root without any cloud's mark. 'nothing': a path that no door has. */
export type Recognised = DoorName | 'health' | 'index' | 'nothing'

/** The path of a raw request target, without its query; of a proxy's absolute form, without scheme and host. */
export function pathOf(url: string): string {
  return splitUrl(url).path.replace(/#.*$/s, '')
}

// A parameter that only a WUYING request carries. `Signature`, `Action` and `SecurityToken` are in both clouds'.
const WUYING_NAMES = new Set(['AccessKeyId', 'SignatureNonce', 'SignatureMethod', 'SignatureVersion'])

interface Marks {
  wuying: boolean
  publicKey: boolean
  action: boolean
}

function mark(marks: Marks, name: string, value: unknown): void {
  if (name === 'PublicKey') marks.publicKey = true
  else if (name === 'Action') marks.action = true
  else if (WUYING_NAMES.has(name) || (name === 'Version' && value === '2020-09-30')) marks.wuying = true
}

/** Only as far as a request may go on: a door refuses more parameters than that. */
function markPairs(marks: Marks, text: string): void {
  let count = 0
  for (const pair of splitPairs(text)) {
    if (marks.publicKey || count++ > PARAMETER_COUNT_MAX) return
    const cut = pair.indexOf('=')
    const name = cut < 0 ? pair : pair.slice(0, cut)
    // The marks are short; what is longer need not be decoded.
    if (name.length > 64) continue
    const [[plain, value] = ['', '']] = new URLSearchParams(pair.slice(0, 128))
    mark(marks, plain, value)
  }
}

function markJson(marks: Marks, body: Buffer): void {
  try {
    const value: unknown = JSON.parse(body.toString('utf8'))
    if (typeof value !== 'object' || value === null) return
    for (const [name, item] of Object.entries(value)) mark(marks, name, item)
  } catch {
    // Malformed, or cut because it was too large: only UHost speaks JSON at the root, so its door explains.
    marks.action = true
  }
}

/**
 * Which door a request is for (architecture.md, decision 15). Looks at names only: a wrong guess can never let
 * anybody in, because each door checks its own signature. `body` may be cut short.
 */
export function recognise(request: {
  readonly url: string
  readonly headers: IncomingHttpHeaders
  readonly body: Buffer
}): Recognised {
  const path = pathOf(request.url)
  if (path === '/v1' || path.startsWith('/v1/')) return 'native'
  if (path === '/healthz') return 'health'
  if (path !== '/') return 'nothing'
  const { headers } = request
  if (/^ACS\d/i.test(headers.authorization ?? '')) return 'wuying'
  const marks: Marks = { wuying: false, publicKey: false, action: false }
  markPairs(marks, splitUrl(request.url).queryText)
  if (request.body.length > 0) {
    const type = headers['content-type'] ?? ''
    if (/json/i.test(type)) markJson(marks, request.body)
    else markPairs(marks, request.body.toString())
  }
  if (marks.publicKey) return 'uhost'
  if (marks.wuying || Object.keys(headers).some((name) => name.startsWith('x-acs-'))) return 'wuying'
  return marks.action ? 'uhost' : 'index'
}
