import { Fault } from '../../image/fault.ts'
import { type Acs3Authorization, decodePairs, findAcs3, type Pair, splitUrl } from '../acs3.ts'
import type { WireRequest } from '../gateway-contract.ts'

/** A request whose parameters are one map, whichever way they travelled. Nothing in it is verified yet. */
export interface Unpacked {
  readonly raw: WireRequest
  readonly path: string
  readonly query: readonly Pair[]
  /** Query and form together; where both name a parameter the form wins, as in the map that clients sign. */
  readonly parameters: ReadonlyMap<string, string>
  /** Present when the request is signed by ACS3-HMAC-SHA256; else it is signed by its parameters. */
  readonly authorization: Acs3Authorization | undefined
  readonly action: string
  readonly version: string
}

/**
 * Reads method, parameters, action and version, whichever of the published shapes the client chose (wuying.md §1.3).
 * The scheme is chosen by `Authorization`, never by the `x-acs-*` headers: clients of the older scheme send some too.
 * Throws Fault 'invalid' with the reasons of `errors.ts`.
 */
export function unpack(raw: WireRequest): Unpacked {
  if (raw.method !== 'GET' && raw.method !== 'POST') {
    throw new Fault('invalid', `Use GET or POST, not ${raw.method.slice(0, 20)}.`, {
      reason: 'method-unsupported',
    })
  }
  const { path, queryText } = splitUrl(raw.url)
  const query = decodePairs(queryText)
  const parameters = merge(query, decodePairs(formText(raw)))
  const header = raw.headers.authorization
  if (header !== undefined && /^ACS\d/i.test(header) && findAcs3(header) === undefined) {
    throw new Fault('invalid', 'Sign with ACS3-HMAC-SHA256 or HMAC-SHA1.', { reason: 'method-unknown' })
  }
  const authorization = findAcs3(header)
  const system = (parameter: string, name: string): string => {
    const value = authorization === undefined ? parameters.get(parameter) : one(raw.headers[name])
    if (value === undefined || value === '') throw missing(parameter)
    return value
  }
  return {
    raw,
    path,
    query,
    parameters,
    authorization,
    action: system('Action', 'x-acs-action'),
    version: system('Version', 'x-acs-version'),
  }
}

/** The format of the answer: JSON unless the request asks for XML. Throws Fault 'invalid' for a third one. */
export function answerFormat(unpacked: Unpacked): 'json' | 'xml' {
  const asked = unpacked.parameters.get('Format')
  if (asked === undefined || asked === '') {
    const accept = unpacked.authorization === undefined ? '' : (unpacked.raw.headers.accept ?? '')
    return /\bxml\b/i.test(accept) && !/json|\*\/\*/i.test(accept) ? 'xml' : 'json'
  }
  if (/^json$/i.test(asked)) return 'json'
  if (/^xml$/i.test(asked)) return 'xml'
  throw new Fault('invalid', 'Format takes JSON or XML.', { reason: 'format-unknown' })
}

/** Fault for a parameter that a request has to carry. */
export function missing(field: string, hint = ''): Fault {
  return new Fault('invalid', hint, { reason: 'missing', field })
}

function merge(query: readonly Pair[], form: readonly Pair[]): Map<string, string> {
  const parameters = new Map<string, string>()
  for (const pairs of [query, form]) {
    const seen = new Set<string>()
    for (const [name, value] of pairs) {
      // Two values under one name: which of them was signed, and which is meant, would be a guess.
      if (seen.has(name))
        throw new Fault('invalid', 'It is given twice. Send it once.', { field: name.slice(0, 80) })
      seen.add(name)
      parameters.set(name, value)
    }
  }
  return parameters
}

function formText(raw: WireRequest): string {
  if (raw.body.length === 0) return ''
  const type = raw.headers['content-type'] ?? ''
  if (type !== '' && !/^application\/x-www-form-urlencoded\s*(;|$)/i.test(type)) {
    throw new Fault('invalid', 'Send parameters in the query or as application/x-www-form-urlencoded.', {
      field: 'ContentType',
    })
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(raw.body)
  } catch (cause) {
    throw new Fault('invalid', 'The body is not UTF-8.', { reason: 'malformed', cause })
  }
}

function one(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value
}
