import { isIPv4, isIPv6 } from 'node:net'

/** An IP address as a number. One that maps an IPv4 address into IPv6 (::ffff:a.b.c.d) is that IPv4 address. */
export interface Address {
  readonly family: 4 | 6
  readonly bits: bigint
}

/** All addresses that begin with the same `prefixBits` bits. */
export interface AddressRange extends Address {
  readonly prefixBits: number
}

/**
 * What may be behind an address: 'public' is anybody's; 'internal' is everything that is not reachable from everywhere;
 * 'metadata' hands keys to whoever asks from a machine of a cloud, and is internal beside that.
 */
export type AddressKind = 'public' | 'internal' | 'metadata'

/** Undefined for what is no address, and for one of a zone (fe80::1%eth0). */
export function parseAddress(text: string): Address | undefined {
  if (isIPv4(text)) return { family: 4, bits: bitsOf4(text) }
  if (!isIPv6(text) || text.includes('%')) return undefined
  const bits = bitsOf6(text)
  return bits >> 32n === 0xffffn ? { family: 4, bits: bits & 0xffffffffn } : { family: 6, bits }
}

/** `ADDRESS/BITS`, or an address alone as a range of one. Bits behind the prefix are cut off. */
export function parseRange(text: string): AddressRange | undefined {
  const [start = '', length, ...more] = text.split('/')
  const address = parseAddress(start)
  if (address === undefined || more.length > 0) return undefined
  const widthBits = widthOf(address.family)
  if (length === undefined) return { ...address, prefixBits: widthBits }
  if (!/^\d{1,3}$/.test(length)) return undefined
  // The prefix of a mapped address was counted in IPv6.
  const prefixBits = Number(length) - (start.includes(':') && address.family === 4 ? 96 : 0)
  if (prefixBits < 0 || prefixBits > widthBits) return undefined
  const hostBits = BigInt(widthBits - prefixBits)
  return { family: address.family, bits: (address.bits >> hostBits) << hostBits, prefixBits }
}

/** As it is connected to: the number that was judged, never a text that somebody else might read another way. */
export function formatAddress({ family, bits }: Address): string {
  const parts = Array.from({ length: family === 4 ? 4 : 8 }, (_, index) =>
    family === 4 ? (bits >> BigInt(24 - index * 8)) & 0xffn : (bits >> BigInt(112 - index * 16)) & 0xffffn,
  )
  return family === 4 ? parts.join('.') : parts.map((part) => part.toString(16)).join(':')
}

export function isWithin(range: AddressRange, { family, bits }: Address): boolean {
  const hostBits = BigInt(widthOf(range.family) - range.prefixBits)
  return family === range.family && bits >> hostBits === range.bits >> hostBits
}

export function isSingle(range: AddressRange): boolean {
  return range.prefixBits === widthOf(range.family)
}

/**
 * Source: the IANA IPv4 and IPv6 Special-Purpose Address Registries (2025-10) and the IPv6 Global Unicast allocations.
 * Stricter than those in three things: all of 192.0.0.0/24 and 2001::/23 is internal though some anycast services for
 * routers in them are not, 6to4 and Teredo are (they carry an IPv4 address that nobody checks), and so is ISATAP.
 */
export function kindOf(address: Address): AddressKind {
  if (METADATA.some((range) => isWithin(range, address))) return 'metadata'
  if (address.family === 4)
    return INTERNAL_4.some((range) => isWithin(range, address)) ? 'internal' : 'public'
  // What a translator makes an IPv4 connection of is as public as that.
  if (isWithin(TRANSLATED, address)) return kindOf({ family: 4, bits: address.bits & 0xffffffffn })
  if (!isWithin(GLOBAL_UNICAST, address)) return 'internal'
  // The second half of an ISATAP address; a tunnel to the IPv4 address behind it.
  const marker = (address.bits >> 32n) & 0xffffffffn
  if (marker === 0x5efen || marker === 0x0200_5efen) return 'internal'
  return INTERNAL_6.some((range) => isWithin(range, address)) ? 'internal' : 'public'
}

const range = (text: string): AddressRange => {
  const parsed = parseRange(text)
  if (parsed === undefined) throw new Error(`${text} is no range of addresses.`)
  return parsed
}

const METADATA = [
  '169.254.0.0/16', // link-local: AWS, GCP, Azure, OpenStack, …
  'fe80::/10', // OpenStack: fe80::a9fe:a9fe
  '100.100.100.200', // Alibaba
  '100.80.80.80', // UCloud
  '168.63.129.16', // Azure's host; looks public
  '192.0.0.192', // Oracle
  'fd00:ec2::/32', // AWS
  'fd20:ce::254', // GCP
  'fd00:42::42', // Scaleway
].map(range)

const INTERNAL_4 = [
  '0.0.0.0/8', // this network
  '10.0.0.0/8', // private
  '100.64.0.0/10', // shared by carriers
  '127.0.0.0/8', // loopback
  '172.16.0.0/12', // private
  '192.0.0.0/24', // IETF
  '192.0.2.0/24', // documentation
  '192.88.99.0/24', // 6to4 relays
  '192.168.0.0/16', // private
  '198.18.0.0/15', // benchmarking
  '198.51.100.0/24', // documentation
  '203.0.113.0/24', // documentation
  '224.0.0.0/4', // multicast
  '240.0.0.0/4', // reserved, broadcast
].map(range)

/** Everything else in IPv6 is loopback, unique local, link-local, multicast, discarded, mapped or not given out. */
const GLOBAL_UNICAST = range('2000::/3')
const TRANSLATED = range('64:ff9b::/96')
const INTERNAL_6 = [
  '2001::/23', // IETF, with Teredo, benchmarking, ORCHID
  '2001:db8::/32', // documentation
  '2002::/16', // 6to4
  '3fff::/20', // documentation
].map(range)

function widthOf(family: 4 | 6): number {
  return family === 4 ? 32 : 128
}

function bitsOf4(text: string): bigint {
  return text.split('.').reduce((bits, part) => (bits << 8n) | BigInt(part), 0n)
}

function bitsOf6(text: string): bigint {
  const dotted = text.slice(text.lastIndexOf(':') + 1)
  const plain = isIPv4(dotted)
    ? `${text.slice(0, -dotted.length)}${(bitsOf4(dotted) >> 16n).toString(16)}:${(bitsOf4(dotted) & 0xffffn).toString(16)}`
    : text
  const [head = '', tail] = plain.split('::').map((half) => (half === '' ? [] : half.split(':')))
  const groups =
    tail === undefined ? [...head] : [...head, ...Array(8 - head.length - tail.length).fill('0'), ...tail]
  return groups.reduce<bigint>((bits, group) => (bits << 16n) | BigInt(`0x${group}`), 0n)
}
