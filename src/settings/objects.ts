import { join } from 'node:path'
import type { ObjectsLimits, ObjectsPlace } from '../objects/open.ts'
import { parseDirectory, refused } from './file.ts'
import { members, type RegionSource, refusal } from './members.ts'

type S3Place = Extract<ObjectsPlace, { kind: 's3' }>

const TAKES = 'a directory, or a map with directory or s3'
const KEY_ID = 'CALOTYPE_S3_ACCESS_KEY_ID'
const SECRET = 'CALOTYPE_S3_SECRET_ACCESS_KEY'

/** Where a region's objects are unless its settings say otherwise. */
export function defaultObjects(data: string, regionId: string): ObjectsPlace {
  return { kind: 'directory', folder: join(data, 'regions', regionId, 'objects') }
}

/**
 * Reads a region's `objects`: a directory, or `{directory?, s3?: {bucket, prefix?, endpoint?, region?, pathStyle?},
 * connections?, bytesPerSecond?}`. The keys of a bucket come from the environment. Throws Fault 'invalid' naming the
 * setting or the variable, never showing a key.
 */
export function parseObjects(regionId: string, given: unknown, source: RegionSource): ObjectsPlace {
  const key = `regions.${regionId}.objects`
  if (given === undefined) return defaultObjects(source.data, regionId)
  if (!(given instanceof Map)) return parseFolder(key, given, TAKES, source)
  const known = ['directory', 's3', 'connections', 'bytesPerSecond']
  const map = members(source, key, given, TAKES, known)
  if (map.has('directory') && map.has('s3')) {
    throw refused(key, `The setting ${key} in ${source.path} takes directory or s3, not both.`)
  }
  const limits = parseLimits(key, map, source)
  let place = defaultObjects(source.data, regionId)
  if (map.has('directory'))
    place = parseFolder(`${key}.directory`, map.get('directory'), 'a directory', source)
  if (map.has('s3')) place = parseS3(regionId, map.get('s3'), source)
  return limits === undefined ? place : { ...place, limits }
}

/**
 * What no two regions may both take, in words: the directory, or the bucket. A prefix below another one counts as the
 * same, because the upper store would see the objects of the lower one.
 */
export function findClash(one: ObjectsPlace, other: ObjectsPlace): string | undefined {
  if (one.kind === 'directory') {
    return other.kind === 'directory' && one.folder === other.folder
      ? `the directory ${one.folder}`
      : undefined
  }
  if (other.kind !== 's3' || one.bucket !== other.bucket || one.endpoint !== other.endpoint) return undefined
  const [upper, lower] = [one, other].map(({ prefix }) => (prefix === '' ? '' : `${prefix}/`)).toSorted()
  if (upper === undefined || lower?.startsWith(upper) !== true) return undefined
  return `objects below '${upper}' in the bucket ${one.bucket}`
}

/** Refuses keys for a region that has no bucket: a mistyped name would leave the region that was meant without. */
export function checkS3KeyNames(
  regions: readonly { readonly id: string; readonly objects: ObjectsPlace }[],
  environment: RegionSource['environment'],
): void {
  const ids = regions.filter(({ objects }) => objects.kind === 's3').map(({ id }) => id)
  for (const [name, value] of Object.entries(environment)) {
    const prefix = [KEY_ID, SECRET].find((each) => name.startsWith(`${each}_`))
    if (prefix === undefined || value === undefined || value === '') continue
    if (ids.some((id) => name === `${prefix}_${suffixOf(id)}`)) continue
    const there = ids.length === 0 ? 'There is none' : `There are ${ids.join(', ')}`
    throw refused('s3Key', `The environment variable ${name} fits no region with a bucket. ${there}.`)
  }
}

function parseFolder(key: string, given: unknown, takes: string, source: RegionSource): ObjectsPlace {
  const folder = parseDirectory(given, source.folder)
  if (folder === undefined) throw refusal(source, key, takes, given)
  return { kind: 'directory', folder }
}

function parseLimits(
  key: string,
  map: ReadonlyMap<unknown, unknown>,
  source: RegionSource,
): ObjectsLimits | undefined {
  const pick = (name: string, min: number, max: number): number | undefined => {
    const value = map.get(name)
    if (value === undefined) return undefined
    if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return value
    throw refusal(source, `${key}.${name}`, `a whole number from ${min} to ${max}`, value)
  }
  const callsMax = pick('connections', 1, 256)
  const bytesPerSecond = pick('bytesPerSecond', 65_536, 1_000_000_000_000)
  if (callsMax === undefined && bytesPerSecond === undefined) return undefined
  return {
    ...(callsMax === undefined ? {} : { callsMax }),
    ...(bytesPerSecond === undefined ? {} : { bytesPerSecond }),
  }
}

function parseS3(regionId: string, given: unknown, source: RegionSource): S3Place {
  const key = `regions.${regionId}.objects.s3`
  const known = ['bucket', 'prefix', 'endpoint', 'region', 'pathStyle']
  const map = members(source, key, given, 'a map with bucket', known)
  const pick = (name: string, takes: string, pattern: RegExp, fallback?: string): string => {
    const value = map.get(name) ?? (map.has(name) ? null : fallback)
    if (typeof value === 'string' && pattern.test(value)) return value
    throw refusal(source, `${key}.${name}`, takes, value)
  }
  const bucket = pick(
    'bucket',
    '3 to 63 lower-case letters, digits, . and -',
    /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/,
  )
  const prefix = pick(
    'prefix',
    "up to 200 letters, digits and . _ - /, no '/' at either end",
    /^(?=.{0,200}$)(?:[A-Za-z0-9_-][A-Za-z0-9._-]*(?:\/[A-Za-z0-9_-][A-Za-z0-9._-]*)*)?$/,
    '',
  )
  const region = pick(
    'region',
    'the name of a region of the service, as us-east-1',
    /^[A-Za-z0-9-]{1,64}$/,
    'us-east-1',
  )
  const url = pick('endpoint', 'http://HOST[:PORT] or https://HOST[:PORT]', /./, amazon(region))
  const endpoint = URL.parse(url)
  if (endpoint === null || !/^https?:$/.test(endpoint.protocol) || !`${endpoint.origin}/`.startsWith(url)) {
    throw refusal(source, `${key}.endpoint`, 'http://HOST[:PORT] or https://HOST[:PORT]', url)
  }
  const isPathStyle = map.get('pathStyle') ?? map.has('endpoint')
  if (typeof isPathStyle !== 'boolean') {
    throw refusal(source, `${key}.pathStyle`, 'true or false', isPathStyle)
  }
  return {
    kind: 's3',
    endpoint: endpoint.origin,
    region,
    bucket,
    prefix,
    isPathStyle,
    ...parseKeys(regionId, key, source),
  }
}

/** The region's own pair, else the one for all regions. */
function parseKeys(
  regionId: string,
  key: string,
  { environment }: RegionSource,
): Pick<S3Place, 'accessKeyId' | 'secretAccessKey'> {
  const own = [`${KEY_ID}_${suffixOf(regionId)}`, `${SECRET}_${suffixOf(regionId)}`] as const
  for (const [idName, secretName] of [own, [KEY_ID, SECRET] as const]) {
    const [accessKeyId, secretAccessKey] = [environment[idName] ?? '', environment[secretName] ?? '']
    if (accessKeyId === '' && secretAccessKey === '') continue
    if (accessKeyId === '' || secretAccessKey === '') {
      const [has, lacks] = accessKeyId === '' ? [secretName, idName] : [idName, secretName]
      throw refused('s3Key', `The environment variable ${has} is set without ${lacks}. Give both or neither.`)
    }
    for (const [name, value] of [
      [idName, accessKeyId],
      [secretName, secretAccessKey],
    ]) {
      if (value !== undefined && /^[\x21-\x7e]{1,256}$/.test(value)) continue
      throw refused(
        's3Key',
        `The environment variable ${name} takes up to 256 printable ASCII characters without spaces, not what it holds.`,
      )
    }
    return { accessKeyId, secretAccessKey }
  }
  throw refused(
    's3Key',
    `The setting ${key} needs an access key. Set ${own[0]} and ${own[1]} in the environment, or for all regions ${KEY_ID} and ${SECRET}.`,
  )
}

const suffixOf = (regionId: string) => regionId.toUpperCase().replaceAll('-', '_')
const amazon = (region: string) => `https://s3.${region}.amazonaws.com`
