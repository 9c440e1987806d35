import type { RegionId } from '../image/ids.ts'
import type { ObjectsPlace } from '../objects/open.ts'
import { refused } from './file.ts'
import { members, type RegionSource, refusal } from './members.ts'
import { checkS3KeyNames, defaultObjects, findClash, parseObjects } from './objects.ts'
import { getSetting } from './table.ts'

export interface RegionSettings {
  readonly id: RegionId
  readonly localName: { readonly zh: string; readonly en: string }
  /** Never empty; a zone belongs to one region. */
  readonly zones: readonly string[]
  /** The region's own, folders absolute. No two regions share one. */
  readonly objects: ObjectsPlace
  /** Of copies into it together, and of those out of it; absent for any number. */
  readonly copyBytesPerSecond?: number
}

const DEFAULT_REGIONS = [
  ['cn-hangzhou', '华东1（杭州）', 'China (Hangzhou)', ['cn-hangzhou-h', 'cn-hangzhou-i']],
  ['cn-shanghai', '华东2（上海）', 'China (Shanghai)', ['cn-shanghai-b']],
  ['cn-bj2', '北京二', 'Beijing 2', ['cn-bj2-02', 'cn-bj2-04', 'cn-bj2-05']],
  ['hk', '香港', 'Hong Kong', ['hk-01', 'hk-02']],
] as const

const TAKES_ID = 'up to 32 lower-case letters, digits and -, a letter first'
const TAKES_NAME = 'text of 1 to 64 characters, or a map with zh and en'

export function defaultRegions(data: string): readonly RegionSettings[] {
  return DEFAULT_REGIONS.map(([id, zh, en, zones]) => {
    return {
      id: id as RegionId,
      localName: { zh, en },
      zones,
      objects: defaultObjects(data, id),
    }
  })
}

/**
 * Reads `{id: {name, zones, objects?, copyBytesPerSecond?}}`; the objects of a region are in `DATA/regions/ID/objects` unless it says
 * otherwise. Throws Fault 'invalid' naming the setting, also where two regions share a zone, a directory or a bucket.
 */
export function parseRegions(list: unknown, source: RegionSource): readonly RegionSettings[] {
  if (!(list instanceof Map) || list.size === 0) {
    throw refusal(source, 'regions', getSetting('regions').takes, list)
  }
  const regions = [...list].map(([id, body]) => parseRegion(id, body, source))
  const owners = new Map<string, string>()
  for (const [index, { id, zones, objects }] of regions.entries()) {
    const key = `regions.${id}`
    for (const thing of zones.map((zone) => `the zone ${zone}`)) {
      const other = owners.get(thing)
      if (other !== undefined) {
        throw refused(key, `The settings ${other} and ${key} in ${source.path} both take ${thing}.`)
      }
      owners.set(thing, key)
    }
    for (const other of regions.slice(0, index)) {
      const thing = findClash(other.objects, objects)
      if (thing !== undefined) {
        throw refused(
          key,
          `The settings regions.${other.id} and ${key} in ${source.path} both take ${thing}.`,
        )
      }
    }
  }
  checkS3KeyNames(regions, source.environment)
  return regions
}

/**
 * The keys that the environment gives regions, by region id. Throws Fault 'invalid', which never shows a key, also for
 * the key of a region that there is not: a mistyped name would have a new key made for the region that was meant.
 */
export function parseRegionKeys(
  prefix: string,
  ids: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): Readonly<Record<string, string>> {
  const keys: Record<string, string> = {}
  for (const [name, value] of Object.entries(environment)) {
    if (!name.startsWith(prefix) || value === undefined || value === '') continue
    const id = ids.find((each) => name === prefix + each.toUpperCase().replaceAll('-', '_'))
    if (id === undefined) {
      throw refused(
        'regionKey',
        `The environment variable ${name} fits no region. There are ${ids.join(', ')}.`,
      )
    }
    if (!/^[0-9a-f]{64}$/i.test(value)) {
      throw refused('regionKey', `The environment variable ${name} takes 64 hex digits, not what it holds.`)
    }
    keys[id] = value
  }
  return keys
}

function parseRegion(id: unknown, body: unknown, source: RegionSource): RegionSettings {
  if (!isId(id)) throw refusal(source, 'regions', `ids of ${TAKES_ID}`, id)
  const key = `regions.${id}`
  const region = members(source, key, body, 'a map with name and zones', [
    ...['name', 'zones', 'objects', 'copyBytesPerSecond'],
  ])
  const zones = region.get('zones')
  if (!Array.isArray(zones) || zones.length === 0 || !zones.every(isId)) {
    throw refusal(source, `${key}.zones`, `a list of zone ids of ${TAKES_ID}`, zones)
  }
  const objects = parseObjects(id, region.get('objects'), source)
  const localName = parseName(`${key}.name`, region.get('name'), source)
  const copyBytesPerSecond = region.get('copyBytesPerSecond')
  if (copyBytesPerSecond !== undefined && !isRate(copyBytesPerSecond)) {
    const takes = 'a whole number from 65536 to 1000000000000'
    throw refusal(source, `${key}.copyBytesPerSecond`, takes, copyBytesPerSecond)
  }
  const whole = { id: id as RegionId, localName, zones, objects }
  return copyBytesPerSecond === undefined ? whole : { ...whole, copyBytesPerSecond }
}

function parseName(key: string, name: unknown, source: RegionSource): RegionSettings['localName'] {
  if (isLabel(name)) return { zh: name, en: name }
  const labels = members(source, key, name, TAKES_NAME, ['zh', 'en'])
  const [zh, en] = [labels.get('zh'), labels.get('en')]
  if (!isLabel(zh)) throw refusal(source, `${key}.zh`, 'text of 1 to 64 characters', zh)
  if (!isLabel(en)) throw refusal(source, `${key}.en`, 'text of 1 to 64 characters', en)
  return { zh, en }
}

function isRate(value: unknown): value is number {
  return Number.isInteger(value) && Number(value) >= 65_536 && Number(value) <= 1_000_000_000_000
}

function isId(value: unknown): value is string {
  return typeof value === 'string' && /^[a-z][a-z0-9-]{0,31}$/.test(value)
}

function isLabel(value: unknown): value is string {
  return typeof value === 'string' && /^\P{Cc}{1,64}$/u.test(value)
}
