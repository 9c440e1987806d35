import { refused } from './file.ts'
import { members, type RegionSource, refusal } from './members.ts'
import { getSetting } from './table.ts'

/** Another installation. Without `url` it only reads from us; without projects it reads nothing. */
export interface PeerSettings {
  readonly name: string
  /** SHA-256 of its certificate, 64 lower-case hex digits. */
  readonly fingerprint: string
  /** `https://HOST:PORT`. */
  readonly url: string | undefined
  /** Of ours, what it may read. */
  readonly projects: readonly string[] | 'all'
  readonly regions: readonly string[] | 'all'
}

/** Reads `{name: {fingerprint, url?, projects?, regions?}}`. Throws Fault 'invalid' naming the setting. */
export function parsePeers(list: unknown, source: RegionSource): readonly PeerSettings[] {
  if (!(list instanceof Map)) throw refusal(source, 'peers', getSetting('peers').takes, list)
  const peers = [...list].map(([name, body]) => parsePeer(name, body, source))
  for (const [index, { name, fingerprint }] of peers.entries()) {
    const other = peers.slice(0, index).find((one) => one.fingerprint === fingerprint)
    if (other === undefined) continue
    throw refused(
      `peers.${name}`,
      `The settings peers.${other.name} and peers.${name} in ${source.path} have the same fingerprint.`,
    )
  }
  return peers
}

function parsePeer(name: unknown, body: unknown, source: RegionSource): PeerSettings {
  if (typeof name !== 'string' || !/^[a-z][a-z0-9-]{0,31}$/.test(name)) {
    const takes = 'names of up to 32 lower-case letters, digits and -, a letter first'
    throw refusal(source, 'peers', takes, name)
  }
  const key = `peers.${name}`
  const peer = members(source, key, body, 'a map with fingerprint', [
    'fingerprint',
    'url',
    'projects',
    'regions',
  ])
  const fingerprint = String(peer.get('fingerprint') ?? '')
    .replaceAll(':', '')
    .toLowerCase()
  if (!/^[0-9a-f]{64}$/.test(fingerprint)) {
    const takes = "64 hex digits in quotes, as 'calotype peer identity' prints them there"
    throw refusal(source, `${key}.fingerprint`, takes, peer.get('fingerprint'))
  }
  const names = (member: string): readonly string[] | 'all' => {
    const value = peer.get(member) ?? []
    if (value === 'all') return 'all'
    const isList = Array.isArray(value) && value.every((one) => typeof one === 'string' && one !== '')
    if (isList) return value
    throw refusal(source, `${key}.${member}`, `all, or a list of ${member}`, value)
  }
  const projects = names('projects')
  return {
    ...{ name, fingerprint, projects, url: parseUrl(`${key}.url`, peer.get('url'), source) },
    regions: peer.has('regions') ? names('regions') : 'all',
  }
}

function parseUrl(key: string, value: unknown, source: RegionSource): string | undefined {
  if (value === undefined) return undefined
  const url = typeof value === 'string' ? URL.parse(value) : null
  const isPlain = url?.protocol === 'https:' && `${url.origin}/`.startsWith(String(value))
  if (url !== null && isPlain) return url.origin
  throw refusal(source, key, 'https://HOST[:PORT]', value)
}
