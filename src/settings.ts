import assert from 'node:assert/strict'
import { isIPv6 } from 'node:net'
import { availableParallelism } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import type { Fault } from './image/fault.ts'
import type { RegionId } from './image/ids.ts'
import { parseAllowed } from './intake/fetch-allow.ts'
import { describe, parseDirectory, parseFile, refused, type Tree } from './settings/file.ts'
import { type PeerSettings, parsePeers } from './settings/peers.ts'
import { defaultRegions, parseRegionKeys, parseRegions, type RegionSettings } from './settings/regions.ts'
import { attributeOf, getSetting, SETTINGS, type SettingRow } from './settings/table.ts'

export { attributeOf, type PeerSettings, type RegionSettings, SETTINGS, type SettingRow }

const DRIVERS = ['qemu', 'files', 'simulated'] as const
const ACCELERATIONS = ['auto', 'kvm', 'tcg'] as const
const ENCRYPTIONS = ['on', 'off'] as const
const SECRETS = ['report', 'refuse'] as const
const ACROSS_PROJECTS = ['reference', 'rekey'] as const
const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const

/** Everything that can be set, checked and frozen. It may hold a secret: never log it whole. */
export interface Settings {
  /** An absolute folder. */
  readonly data: string
  readonly listen: { readonly host: string; readonly port: number }
  /** In the order they were written; never empty. */
  readonly regions: readonly RegionSettings[]
  /** One of `regions`; its first zone is the default zone. */
  readonly defaultRegion: RegionId
  readonly host: {
    readonly driver: (typeof DRIVERS)[number]
    readonly acceleration: (typeof ACCELERATIONS)[number]
    readonly graceSeconds: number
  }
  /** Undefined when the environment gives none: then the first start makes one. */
  readonly accessKey: { readonly id: string; readonly secret: string } | undefined
  readonly capture: { readonly workers: number }
  readonly encryption: (typeof ENCRYPTIONS)[number]
  readonly gc: { readonly everyHours: number | 'off'; readonly graceHours: number }
  readonly scrub: { readonly everyDays: number | 'off'; readonly bytesPerSecond: number }
  readonly cleaning: {
    readonly secrets: (typeof SECRETS)[number]
    /** An absolute folder; undefined for the system's own kernel. */
    readonly kernel: string | undefined
  }
  /** 64 hex digits by region id, for those regions that the environment gives a key. */
  readonly regionKeys: Readonly<Record<string, string>>
  /** Likewise, the keys before: what they wrap is to be wrapped again. */
  readonly oldRegionKeys: Readonly<Record<string, string>>
  readonly clockSkewMinutes: number
  readonly bodyLimitBytes: number
  readonly logLevel: (typeof LOG_LEVELS)[number]
  readonly imagesPerRegionMax: number
  readonly snapshotsPerRegionMax: number
  /** An absolute folder. */
  readonly importDirectory: string
  readonly imports: {
    readonly allow: readonly string[]
    readonly diskBytesMax: number
    readonly ratioMax: number
    readonly fetchHours: number
    readonly uploadHours: number
    readonly uploadsMax: number
  }
  readonly copies: {
    readonly atOnce: number
    readonly attempts: number
    readonly repeatMinutes: number | 'off'
    readonly acrossProjects: (typeof ACROSS_PROJECTS)[number]
    readonly cacheBytes: number
    readonly pausedDays: number | 'off'
  }
  readonly peering: { readonly listen: { readonly host: string; readonly port: number } | 'off' }
  readonly peers: readonly PeerSettings[]
  readonly exports: { readonly linkHours: number }
  /** Hex. */
  readonly bundles: { readonly signers: readonly string[] }
  readonly uhostReplayWindowSeconds: number | 'off'
}

export interface SettingsInput {
  readonly file?: { readonly path: string; readonly text: string }
  readonly environment: Readonly<Record<string, string | undefined>>
  /** By the flag's name in camel case without dashes (`hostDriver` for `--host-driver`), as commander gives them. */
  readonly flags: Readonly<Record<string, string | undefined>>
  /** What relative paths in the environment and in flags start from. Those in the file start from the file's folder. */
  readonly folder?: string
  readonly coreCount?: number
}

/** A value as it was given: in the file anything, elsewhere text. */
interface Given {
  readonly value: unknown
  /** Completes "… takes X" in an error: `in /etc/calotype.yaml`. */
  readonly where: string
  readonly folder: string
}

/**
 * Reads settings from the file, then the environment, then flags; the later wins, though each is checked. An empty
 * environment variable counts as not given. Throws Fault 'invalid' whose message names the setting, its source and
 * what it takes, and never shows a secret. The result is frozen, all the way down.
 */
export function parseSettings(input: SettingsInput): Settings {
  const folder = input.folder ?? process.cwd()
  const tree = input.file === undefined ? undefined : parseFile(input.file)
  const pick = <T>(key: string, parse: (text: string, given: Given) => T | undefined, absent?: T): T => {
    const setting = getSetting(key)
    const read = (given: Given): T => {
      const text = textOf(given.value)
      const value = text === undefined ? undefined : parse(text, given)
      if (value !== undefined) return value
      throw refusal(setting, given)
    }
    const given = givenValues(setting, input, tree, folder).map(read).at(-1)
    if (given !== undefined) return given
    return absent ?? read({ value: setting.default, where: 'by default', folder })
  }

  const data = pick('data', (text, given) => parseDirectory(text, given.folder), '')
  if (data === '') {
    throw refused(
      'data',
      "The setting data is missing. Give --data DIRECTORY, CALOTYPE_DATA, or 'data' in the file.",
    )
  }
  const path = input.file?.path ?? ''
  const regions = tree?.has('regions')
    ? parseRegions(tree.get('regions'), {
        ...{ path, data, environment: input.environment },
        folder: resolve(folder, dirname(path)),
      })
    : defaultRegions(data)
  const ids = regions.map(({ id }) => id)
  const accessKey = {
    id: pick('accessKey.id', fitting(/^[A-Za-z0-9._+/=-]{3,128}$/), ''),
    secret: pick('accessKey.secret', fitting(/^[\x21-\x7e]{16,256}$/), ''),
  }
  if ((accessKey.id === '') !== (accessKey.secret === '')) {
    const [has, lacks] = accessKey.id === '' ? ['SECRET', 'ID'] : ['ID', 'SECRET']
    throw refused(
      'accessKey',
      `The environment variable CALOTYPE_ACCESS_KEY_${has} is set without CALOTYPE_ACCESS_KEY_${lacks}. Give both or neither.`,
    )
  }
  return freeze({
    data,
    listen: pick('listen', parseListen),
    regions,
    defaultRegion: pick(
      'defaultRegion',
      (text) => ids.find((id) => id === text),
      ids.find((id) => id === 'cn-bj2') ?? ids[0],
    ),
    host: {
      driver: pick('host.driver', oneOf(DRIVERS)),
      acceleration: pick('host.acceleration', oneOf(ACCELERATIONS)),
      graceSeconds: pick('host.graceSeconds', wholeNumber(0, 600)),
    },
    accessKey: accessKey.id === '' ? undefined : accessKey,
    capture: {
      workers: pick(
        'capture.workers',
        wholeNumber(1, 64),
        Math.min(4, input.coreCount ?? availableParallelism()),
      ),
    },
    encryption: pick('encryption', oneOf(ENCRYPTIONS)),
    gc: {
      everyHours: pick('gc.everyHours', orOff(wholeNumber(1, 8760))),
      graceHours: pick('gc.graceHours', wholeNumber(0, 8760)),
    },
    scrub: {
      everyDays: pick('scrub.everyDays', orOff(wholeNumber(1, 365))),
      bytesPerSecond: pick('scrub.bytesPerSecond', wholeNumber(1_048_576, 1_000_000_000_000)),
    },
    cleaning: {
      secrets: pick('cleaning.secrets', oneOf(SECRETS)),
      kernel: pick('cleaning.kernel', (text, given) => parseDirectory(text, given.folder), '') || undefined,
    },
    regionKeys: parseRegionKeys('CALOTYPE_REGION_KEY_', ids, input.environment),
    oldRegionKeys: parseRegionKeys('CALOTYPE_OLD_REGION_KEY_', ids, input.environment),
    clockSkewMinutes: pick('clockSkewMinutes', wholeNumber(1, 1440)),
    bodyLimitBytes: pick('bodyLimitBytes', wholeNumber(65_536, 67_108_864)),
    logLevel: pick('logLevel', oneOf(LOG_LEVELS)),
    imagesPerRegionMax: pick('imagesPerRegionMax', wholeNumber(1, 1_000_000)),
    snapshotsPerRegionMax: pick('snapshotsPerRegionMax', wholeNumber(1, 1_000_000)),
    importDirectory: pick(
      'importDirectory',
      (text, given) => parseDirectory(text, given.folder),
      join(data, 'imports'),
    ),
    imports: {
      allow: pick('imports.allow', listOf(isAllowedPlace), []),
      diskBytesMax: pick('imports.diskBytesMax', wholeNumber(2 ** 20, 64 * 2 ** 40)),
      ratioMax: pick('imports.ratioMax', wholeNumber(2, 1_000_000)),
      fetchHours: pick('imports.fetchHours', wholeNumber(1, 720)),
      uploadHours: pick('imports.uploadHours', wholeNumber(1, 720)),
      uploadsMax: pick('imports.uploadsMax', wholeNumber(1, 10_000)),
    },
    copies: {
      atOnce: pick('copies.atOnce', wholeNumber(1, 64)),
      attempts: pick('copies.attempts', wholeNumber(1, 1000)),
      repeatMinutes: pick('copies.repeatMinutes', orOff(wholeNumber(1, 1440))),
      acrossProjects: pick('copies.acrossProjects', oneOf(ACROSS_PROJECTS)),
      cacheBytes: pick('copies.cacheBytes', wholeNumber(0, 1_000_000_000_000)),
      pausedDays: pick('copies.pausedDays', orOff(wholeNumber(1, 3650))),
    },
    peering: { listen: pick('peering.listen', orOff(parseListen)) },
    peers: tree?.has('peers')
      ? parsePeers(tree.get('peers'), { path, data, environment: input.environment, folder })
      : [],
    exports: { linkHours: pick('exports.linkHours', wholeNumber(1, 720)) },
    bundles: {
      signers: pick(
        'bundles.signers',
        listOf((one) => /^[0-9a-f]{64}$/.test(one)),
        [],
      ),
    },
    uhostReplayWindowSeconds: pick('uhostReplayWindowSeconds', orOff(wholeNumber(1, 86_400))),
  })
}

/** Everything given for one setting, the one that wins last. */
function givenValues(
  setting: SettingRow,
  input: SettingsInput,
  tree: Tree | undefined,
  folder: string,
): Given[] {
  const attribute = attributeOf(setting)
  const sources: Given[] = []
  const inFile = setting.key.split('.').reduce<unknown>((node, name) => {
    return node instanceof Map ? node.get(name) : undefined
  }, tree)
  if (inFile !== undefined && input.file !== undefined) {
    const { path } = input.file
    sources.push({ value: inFile, where: `in ${path}`, folder: resolve(folder, dirname(path)) })
  }
  const inEnvironment = setting.environment === undefined ? '' : input.environment[setting.environment]
  if (inEnvironment !== undefined && inEnvironment !== '') {
    sources.push({
      value: inEnvironment,
      where: `in the environment variable ${setting.environment}`,
      folder,
    })
  }
  const stranger = Object.keys(input.flags).find(
    (name) => !SETTINGS.some((each) => attributeOf(each) === name),
  )
  assert(stranger === undefined, `the flag ${stranger} is no setting`)
  const inFlag = attribute === undefined ? undefined : input.flags[attribute]
  if (inFlag !== undefined) sources.push({ value: inFlag, where: `in the flag ${setting.flag}`, folder })
  return sources
}

function parseListen(text: string): Settings['listen'] | undefined {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9.-]+)):(\d{1,5})$/.exec(text)
  const port = Number(match?.[3])
  const host = match?.[1] ?? match?.[2]
  if (host === undefined || port > 65_535 || (match?.[1] !== undefined && !isIPv6(match[1]))) return undefined
  return { host, port }
}

const oneOf =
  <T extends string>(known: readonly T[]) =>
  (text: string): T | undefined => {
    return known.find((each) => each === text)
  }
const fitting =
  (pattern: RegExp) =>
  (text: string): string | undefined =>
    pattern.test(text) ? text : undefined
const wholeNumber =
  (min: number, max: number) =>
  (text: string): number | undefined => {
    return /^\d{1,15}$/.test(text) && Number(text) >= min && Number(text) <= max ? Number(text) : undefined
  }
const isAllowedPlace = (one: string): boolean => {
  try {
    parseAllowed(one)
    return true
  } catch {
    return false
  }
}
const listOf =
  (isOne: (one: string) => boolean) =>
  (text: string): string[] | undefined => {
    const all = text.split(',').map((one) => one.trim())
    return all.every(isOne) ? all : undefined
  }
const orOff =
  <T>(inner: (text: string) => T | undefined) =>
  (text: string): T | 'off' | undefined =>
    text === 'off' ? text : inner(text)

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' || typeof value === 'number' ? String(value) : undefined
}

function refusal({ key, takes }: SettingRow, { value, where }: Given): Fault {
  const got = key.startsWith('accessKey.') ? 'what it holds' : describe(value)
  return refused(key, `The setting ${key} ${where} takes ${takes}, not ${got}.`)
}

function freeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) for (const member of Object.values(value)) freeze(member)
  return Object.freeze(value)
}
