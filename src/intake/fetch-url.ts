import { Fault } from '../image/fault.ts'
import { type Address, parseAddress } from './addresses.ts'
import { parseName } from './fetch-allow.ts'

const URL_LENGTH_MAX = 8192

/** Where a request goes. The host is either a name that has to be asked for, or an address. */
export interface Target {
  readonly url: URL
  readonly host:
    | { readonly is: 'name'; readonly name: string }
    | { readonly is: 'address'; readonly address: Address }
  readonly port: number
}

/**
 * An http: or https: address as a caller writes it. The parser of URLs brings every spelling of an IPv4 address to the
 * one that is judged (0x7f.1, 017700000001, 2130706433, full-width digits); what it would mend in silence is refused
 * before. Throws Fault 'invalid' 'request' reason 'url'.
 */
export function parseTarget(text: string): Target {
  requirePlain(text)
  if (!/^https?:\/\/[^/?#]/i.test(text))
    throw refuseUrl('It has to begin with http:// or https:// and a host.')
  if (text.includes('#')) throw refuseUrl('Leave out what is behind the #.')
  return targetOf(parseUrl(text))
}

/** What an answer of `from` sends us on to. Throws as `parseTarget`. */
export function parseRedirect(location: string, from: URL): Target {
  requirePlain(location)
  const url = parseUrl(location, from)
  if (from.protocol === 'https:' && url.protocol === 'http:') {
    throw refuseUrl('It sends us on from https to http. Give the address where the file really is.')
  }
  url.hash = ''
  return targetOf(url)
}

/** Without the query, which often is a key by itself. */
export function showUrl(url: URL): string {
  const shown = `${url.origin}${url.pathname}`
  return `${shown.length > 500 ? `${shown.slice(0, 500)}…` : shown}${url.search === '' ? '' : '?…'}`
}

export function refuseUrl(why: string, options: ErrorOptions = {}): Fault {
  return new Fault('invalid', `Nothing can be fetched from this address. ${why}`, {
    ...options,
    reason: 'url',
  })
}

function requirePlain(text: string): void {
  if (text.length > URL_LENGTH_MAX) throw refuseUrl(`It is longer than ${URL_LENGTH_MAX} characters.`)
  // Spaces, tabs and line ends the parser takes away, backslashes it turns: others read such a text otherwise.
  if (/[\p{Cc}\p{Z}\\]/u.test(text))
    throw refuseUrl('It has spaces, control characters or backslashes in it.')
  if (/^([^/?#]*:)?\/\/[^/?#]*@/.test(text)) throw refuseUrl('Leave out user and password.')
}

function parseUrl(text: string, base?: URL): URL {
  const url = URL.parse(text, base)
  if (url === null) throw refuseUrl('It is no URL: check host and port.')
  return url
}

function targetOf(url: URL): Target {
  if (url.protocol !== 'http:' && url.protocol !== 'https:')
    throw refuseUrl('Only http and https can be fetched.')
  if (url.username !== '' || url.password !== '') throw refuseUrl('Leave out user and password.')
  const port = url.port === '' ? (url.protocol === 'https:' ? 443 : 80) : Number(url.port)
  const literal = /^\[.*\]$/.test(url.hostname) ? url.hostname.slice(1, -1) : url.hostname
  const address = parseAddress(literal)
  if (address !== undefined) return { url, host: { is: 'address', address }, port }
  const name = parseName(url.hostname)
  if (name === undefined) throw refuseUrl('Its host is neither a name nor an address.')
  return { url, host: { is: 'name', name }, port }
}
