import { domainToASCII } from 'node:url'
import { Fault } from '../image/fault.ts'
import {
  type Address,
  type AddressKind,
  type AddressRange,
  isSingle,
  isWithin,
  parseRange,
} from './addresses.ts'
import { isForeignPort } from './fetch-ports.ts'

/** What the operator lets callers reach beside public addresses: one place each. */
export interface Allowed {
  readonly host:
    | { readonly is: 'name'; readonly name: string }
    | { readonly is: 'range'; readonly range: AddressRange }
  /** Undefined: every port that is not another protocol's. */
  readonly port: number | undefined
}

/**
 * A host's name, an address, or a range as `ADDRESS/BITS`, each but the last with `:PORT` where only that one is meant;
 * IPv6 with a port in brackets. A name opens whatever it resolves to but metadata addresses; those take the address itself.
 * Throws Fault 'invalid' field 'allow'.
 */
export function parseAllowed(entry: string): Allowed {
  const whole = parseRange(entry)
  if (whole !== undefined) return { host: { is: 'range', range: whole }, port: undefined }
  const [, bracketed, plain, portText] = /^(?:\[([^\]]*)\]|([^:[\]/]+))(?::(\d{1,5}))?$/.exec(entry) ?? []
  const port = portText === undefined ? undefined : Number(portText)
  const text = bracketed ?? plain
  if (text === undefined || port === 0 || (port ?? 0) > 65_535) throw refuseEntry()
  const range = parseRange(text)
  if (range !== undefined) return { host: { is: 'range', range }, port }
  const name = bracketed === undefined ? parseName(text) : undefined
  if (name === undefined) throw refuseEntry()
  return { host: { is: 'name', name }, port }
}

/** As names are compared and asked for: ASCII, lower case, without the last dot. Undefined for what is none. */
export function parseName(text: string): string | undefined {
  const name = domainToASCII(text).replace(/\.$/, '').toLowerCase()
  const isName = name.length <= 253 && name.split('.').every((label) => /^[a-z0-9_-]{1,63}$/.test(label))
  // Where the last label is a number the whole is meant as an address.
  return isName && !/(^|\.)(\d+|0x[0-9a-f]*)$/.test(name) ? name : undefined
}

/** Whether a name's answers may be internal. */
export function isAllowedName(allowed: readonly Allowed[], name: string, port: number): boolean {
  return allowed.some(({ host, port: only }) => host.is === 'name' && host.name === name && fits(only, port))
}

/** True where somebody named this very port, so that it may be one of another protocol. */
export function isAllowedPort(allowed: readonly Allowed[], port: number): boolean {
  return !isForeignPort(port) || allowed.some(({ port: only }) => only === port)
}

/** Whether to connect to `address`, the answer for `name` (undefined for an address in the text itself). */
export function mayReach(
  allowed: readonly Allowed[],
  name: string | undefined,
  address: Address,
  port: number,
  kind: AddressKind,
): boolean {
  if (kind === 'public' && !isForeignPort(port)) return true
  return allowed.some(({ host, port: only }) => {
    if (!fits(only, port)) return false
    if (host.is === 'name') return host.name === name && kind !== 'metadata'
    return isWithin(host.range, address) && (kind !== 'metadata' || isSingle(host.range))
  })
}

function fits(only: number | undefined, port: number): boolean {
  return only === undefined ? !isForeignPort(port) : only === port
}

function refuseEntry(): Fault {
  return new Fault(
    'invalid',
    'An address to allow is a host name, an IP address or a range such as 10.0.0.0/8; the first two may have a port behind a colon, IPv6 then in brackets.',
    { field: 'allow' },
  )
}
