import assert from 'node:assert/strict'
import { test } from 'node:test'
import { folder, literal, parse, path, refuses, region } from './settings/settings.fixture.ts'
import { attributeOf, SETTINGS } from './settings.ts'

test('the defaults', () => {
  assert.deepEqual(parse({}), {
    data: '/data',
    listen: { host: '127.0.0.1', port: 8370 },
    regions: [
      {
        id: 'cn-hangzhou',
        localName: { zh: '华东1（杭州）', en: 'China (Hangzhou)' },
        zones: ['cn-hangzhou-h', 'cn-hangzhou-i'],
        objects: folder('/data/regions/cn-hangzhou/objects'),
      },
      {
        id: 'cn-shanghai',
        localName: { zh: '华东2（上海）', en: 'China (Shanghai)' },
        zones: ['cn-shanghai-b'],
        objects: folder('/data/regions/cn-shanghai/objects'),
      },
      {
        id: 'cn-bj2',
        localName: { zh: '北京二', en: 'Beijing 2' },
        zones: ['cn-bj2-02', 'cn-bj2-04', 'cn-bj2-05'],
        objects: folder('/data/regions/cn-bj2/objects'),
      },
      {
        id: 'hk',
        localName: { zh: '香港', en: 'Hong Kong' },
        zones: ['hk-01', 'hk-02'],
        objects: folder('/data/regions/hk/objects'),
      },
    ],
    defaultRegion: 'cn-bj2',
    host: { driver: 'qemu', acceleration: 'auto', graceSeconds: 10 },
    accessKey: undefined,
    capture: { workers: 2 },
    encryption: 'on',
    gc: { everyHours: 24, graceHours: 24 },
    scrub: { everyDays: 7, bytesPerSecond: 50_000_000 },
    cleaning: { secrets: 'report', kernel: undefined },
    regionKeys: {},
    oldRegionKeys: {},
    clockSkewMinutes: 15,
    importDirectory: '/data/imports',
    bodyLimitBytes: 1_048_576,
    logLevel: 'info',
    imagesPerRegionMax: 1000,
    snapshotsPerRegionMax: 10_000,
    imports: {
      ...{
        allow: [],
        diskBytesMax: 2 ** 41,
        ratioMax: 2000,
        fetchHours: 24,
        uploadHours: 48,
        uploadsMax: 200,
      },
    },
    copies: {
      ...{ atOnce: 4, attempts: 60, repeatMinutes: 10, acrossProjects: 'reference' },
      cacheBytes: 2 ** 31,
      pausedDays: 30,
    },
    peering: { listen: 'off' },
    peers: [],
    exports: { linkHours: 24 },
    bundles: { signers: [] },
    uhostReplayWindowSeconds: 'off',
  })
  assert.equal(parse({ coreCount: 64 }).capture.workers, 4)
})

test('the file, then the environment, then flags; each is checked though a later one wins', () => {
  const yaml =
    'data: store\nlisten: 127.0.0.1:1\nlogLevel: debug\nhost:\n  driver: files\n  graceSeconds: 3\n'
  const inFile = parse({ yaml, environment: {} })
  assert.equal(inFile.data, '/etc/calotype/store')
  assert.deepEqual(inFile.host, { driver: 'files', acceleration: 'auto', graceSeconds: 3 })
  const environment = {
    CALOTYPE_DATA: 'store',
    CALOTYPE_LISTEN: '127.0.0.1:2',
    CALOTYPE_HOST_DRIVER: 'qemu',
    CALOTYPE_LOG_LEVEL: '',
  }
  const inEnvironment = parse({ yaml, environment })
  assert.equal(inEnvironment.data, '/home/ada/store')
  assert.equal(inEnvironment.listen.port, 2)
  assert.equal(inEnvironment.logLevel, 'debug')
  assert.deepEqual(inEnvironment.host, { driver: 'qemu', acceleration: 'auto', graceSeconds: 3 })
  const inFlags = parse({
    yaml,
    environment,
    flags: { data: './here', listen: '127.0.0.1:3', hostDriver: 'simulated', logLevel: undefined },
  })
  assert.equal(inFlags.data, '/home/ada/here')
  assert.equal(inFlags.listen.port, 3)
  assert.equal(inFlags.host.driver, 'simulated')
  refuses(
    { yaml: 'logLevel: loud', flags: { logLevel: 'info' } },
    'logLevel',
    "The setting logLevel in /etc/calotype/settings.yaml takes trace, debug, info, warn, error, fatal or silent, not 'loud'.",
  )
})

test('every setting can be given each way its row says, and an error names that way', () => {
  const good: Record<string, string> = {
    data: '/srv/images',
    listen: '[::1]:0',
    defaultRegion: 'hk',
    'host.driver': 'simulated',
    'host.acceleration': 'tcg',
    'host.graceSeconds': '0',
    'accessKey.id': 'calotype-first-key',
    'accessKey.secret': 'not-a-real-secret-000',
    'capture.workers': '64',
    encryption: 'off',
    'gc.everyHours': 'off',
    'gc.graceHours': '0',
    'scrub.everyDays': 'off',
    'scrub.bytesPerSecond': '1048576',
    'cleaning.secrets': 'refuse',
    'cleaning.kernel': '/srv/kernel',
    clockSkewMinutes: '1440',
    bodyLimitBytes: '65536',
    logLevel: 'silent',
    imagesPerRegionMax: '1000000',
    snapshotsPerRegionMax: '1000000',
    importDirectory: '/srv/imports',
    'imports.allow': '10.0.0.0/8, minio.example:9000',
    'imports.diskBytesMax': '1048576',
    'imports.ratioMax': '2',
    'imports.fetchHours': '720',
    'imports.uploadHours': '1',
    'imports.uploadsMax': '10000',
    'copies.atOnce': '64',
    'copies.attempts': '1',
    'copies.repeatMinutes': 'off',
    'copies.acrossProjects': 'rekey',
    'copies.cacheBytes': '0',
    'copies.pausedDays': 'off',
    'peering.listen': '[::1]:0',
    'exports.linkHours': '720',
    'bundles.signers': 'ab'.repeat(32),
    uhostReplayWindowSeconds: '300',
  }
  const keyPair = {
    CALOTYPE_ACCESS_KEY_ID: 'calotype-first-key',
    CALOTYPE_ACCESS_KEY_SECRET: 'not-a-real-secret-000',
  }
  for (const setting of SETTINGS.filter(({ key }) => key !== 'regions' && key !== 'peers')) {
    const value = good[setting.key]
    assert(value !== undefined, `${setting.key} has no example in this test`)
    const bad = setting.takes === 'a directory' ? '~/images' : ' '
    const base: Record<string, string> = { CALOTYPE_DATA: '/data' }
    if (setting.key.startsWith('accessKey')) Object.assign(base, keyPair)
    const at = (settings: unknown): unknown => {
      return setting.key.split('.').reduce((node, name) => (node as Record<string, unknown>)[name], settings)
    }
    const before = parse({ environment: { CALOTYPE_DATA: '/data' } })
    const accept = (given: Parameters<typeof parse>[0]) => {
      const after = parse({ environment: base, ...given })
      assert.notDeepEqual(
        setting.key.startsWith('accessKey') ? before.accessKey : at(before),
        at(after),
        setting.key,
      )
    }
    const inFile = (text: string) => {
      const [section, name] = setting.key.split('.')
      return name === undefined
        ? `${section}: ${JSON.stringify(text)}`
        : `${section}: {${name}: ${JSON.stringify(text)}}`
    }
    if (setting.isInFile) {
      accept({ yaml: inFile(value), environment: setting.key === 'data' ? {} : base })
      refuses({ yaml: inFile(bad) }, setting.key, `in ${path}`, setting.takes)
    }
    if (setting.environment !== undefined) {
      accept({ environment: { ...base, [setting.environment]: value } })
      const environment = { ...base, [setting.environment]: bad }
      refuses({ environment }, setting.key, `environment variable ${setting.environment} `, setting.takes)
    }
    const attribute = attributeOf(setting)
    if (attribute !== undefined) {
      accept({ flags: { [attribute]: value } })
      refuses({ flags: { [attribute]: bad } }, setting.key, `flag ${setting.flag} `, setting.takes)
    }
  }
})

test('data is required and is a path as the shell would have made it', () => {
  refuses({ environment: {} }, 'data', '--data', 'CALOTYPE_DATA', "'data' in the file")
  refuses({ flags: { data: '' } }, 'data', 'the flag --data takes a directory')
  refuses({ yaml: 'data: ~/images' }, 'data', `in ${path} takes a directory, not '~/images'`)
  refuses({ yaml: 'data: [a, b]' }, 'data', 'not the list ["a","b"]')
  refuses({ yaml: 'data:' }, 'data', 'not nothing')
})

test('listen takes a host and a port', () => {
  const listen = (text: string) => parse({ flags: { listen: text } }).listen
  assert.deepEqual(listen('[::1]:8370'), { host: '::1', port: 8370 })
  assert.deepEqual(listen('images.example:65535'), { host: 'images.example', port: 65535 })
  assert.deepEqual(listen('0.0.0.0:0'), { host: '0.0.0.0', port: 0 })
  for (const text of [
    '8370',
    ':8370',
    'localhost',
    'localhost:',
    'a:65536',
    'a:-1',
    '::1:8370',
    '[x]:1',
    '[1.2.3.4]:1',
    'a b:1',
    'http://a:1',
  ]) {
    refuses({ flags: { listen: text } }, 'listen', 'the flag --listen takes HOST:PORT', literal(`'${text}'`))
  }
  refuses({ yaml: 'listen: 8370' }, 'listen', 'takes HOST:PORT', 'not 8370')
  refuses({ yaml: 'listen: [host]' }, 'listen', 'not the list ["host"]')
})

test('numbers are whole and within their range, from every source', () => {
  const ranges: [string, string, number, number][] = [
    ['host.graceSeconds', 'hostGraceSeconds', 0, 600],
    ['capture.workers', 'captureWorkers', 1, 64],
    ['clockSkewMinutes', 'clockSkewMinutes', 1, 1440],
    ['bodyLimitBytes', 'bodyLimitBytes', 65_536, 67_108_864],
    ['imagesPerRegionMax', 'imagesPerRegionMax', 1, 1_000_000],
    ['snapshotsPerRegionMax', 'snapshotsPerRegionMax', 1, 1_000_000],
    ['uhostReplayWindowSeconds', 'uhostReplayWindowSeconds', 1, 86_400],
  ]
  for (const [key, attribute, min, max] of ranges) {
    for (const value of [min, max]) parse({ flags: { [attribute]: String(value) } })
    for (const value of [min - 1, max + 1, 1.5, '', '10m', '1e2', 'NaN']) {
      refuses({ flags: { [attribute]: String(value) } }, key, 'a whole number from')
    }
  }
  refuses({ yaml: 'bodyLimitBytes: 1.5' }, 'bodyLimitBytes', 'not 1.5')
  refuses({ yaml: 'bodyLimitBytes: true' }, 'bodyLimitBytes', 'not true')
})

test('keys of regions come from the environment alone, for regions that there are, and are never shown', () => {
  const key = 'AB'.repeat(32)
  const environment = {
    CALOTYPE_DATA: '/data',
    CALOTYPE_REGION_KEY_CN_HANGZHOU: key,
    CALOTYPE_REGION_KEY_HK: '',
    CALOTYPE_OLD_REGION_KEY_HK: key,
  }
  const { regionKeys, oldRegionKeys } = parse({ environment })
  assert.deepEqual(regionKeys, { 'cn-hangzhou': key })
  assert.deepEqual(oldRegionKeys, { hk: key })
  for (const name of ['CALOTYPE_REGION_KEY_HK', 'CALOTYPE_OLD_REGION_KEY_HK']) {
    for (const wrong of [key.slice(1), `${key}ab`, `${key.slice(1)}g`, ' ']) {
      const bad = { ...environment, [name]: wrong }
      refuses({ environment: bad }, 'regionKey', name, 'takes 64 hex digits', /^(?!.*ABAB)/)
    }
  }
  const lost = { ...environment, CALOTYPE_REGION_KEY_HONGKONG: key }
  refuses({ environment: lost }, 'regionKey', 'CALOTYPE_REGION_KEY_HONGKONG fits no region', /^(?!.*ABAB)/)
})

test('the access key comes from the environment alone, whole, and is never shown', () => {
  const secret = 'not-a-real-secret-000'
  const environment = {
    CALOTYPE_DATA: '/data',
    CALOTYPE_ACCESS_KEY_ID: 'first-key',
    CALOTYPE_ACCESS_KEY_SECRET: secret,
  }
  assert.deepEqual(parse({ environment }).accessKey, { id: 'first-key', secret })
  refuses(
    { environment: { ...environment, CALOTYPE_ACCESS_KEY_ID: '' } },
    'accessKey',
    'CALOTYPE_ACCESS_KEY_SECRET is set without CALOTYPE_ACCESS_KEY_ID',
  )
  refuses(
    { environment: { ...environment, CALOTYPE_ACCESS_KEY_SECRET: undefined } },
    'accessKey',
    'Give both or neither',
  )
  const refusedYaml = [
    `accessKey: {id: first-key, secret: ${secret}}`,
    `accessKey: ${secret}`,
    `accessKey: {secret: ${secret}}`,
  ]
  for (const yaml of refusedYaml) {
    const field = yaml.startsWith('accessKey: {secret') ? 'accessKey.secret' : 'accessKey.id'
    refuses({ yaml }, field, path, 'files get copied and committed', new RegExp(`^(?!.*${secret})`))
  }
  const bad = { ...environment, CALOTYPE_ACCESS_KEY_SECRET: 'has a space in it' }
  refuses({ environment: bad }, 'accessKey.secret', 'CALOTYPE_ACCESS_KEY_SECRET', /^(?!.*has a space)/)
})

test('an unknown name in the file is refused with the nearest known one', () => {
  const cases: [string, string, string][] = [
    ['dta: /x', 'dta', 'data'],
    ['lisen: x', 'lisen', 'listen'],
    ['hostDriver: qemu', 'hostDriver', 'host.driver'],
    ['host: {driver_: qemu}', 'host.driver_', 'host.driver'],
    ['capture: {worker: 2}', 'capture.worker', 'capture.workers'],
    ['defaultregion: hk', 'defaultregion', 'defaultRegion'],
    ['images_per_region_max: 5', 'images_per_region_max', 'imagesPerRegionMax'],
    ['"": 1', '', 'data'],
    ['constructor: 1', 'constructor', ''],
    ['__proto__: {data: /x}', '__proto__', ''],
  ]
  for (const [yaml, field, suggestion] of cases) {
    refuses({ yaml }, field, `There is no setting '${field}' in ${path}. Did you mean '${suggestion}`)
  }
})

test('a file that is no map of settings is refused', () => {
  for (const yaml of [
    '[a]',
    'text',
    'a: [',
    'a: 1\na: 2',
    '---\na: 1\n---\nb: 2',
    'data: *nowhere',
    '? [a]\n: b',
  ]) {
    refuses({ yaml }, 'file', path)
  }
  for (const yaml of ['host: qemu', 'host:', 'capture: [2]']) {
    refuses({ yaml }, yaml.split(':')[0] ?? '', `in ${path} takes a map, not`)
  }
  assert.deepEqual(parse({ yaml: '' }), parse({}))
  assert.deepEqual(parse({ yaml: '# nothing set\n' }), parse({}))
})

test('the result is frozen all the way down', () => {
  const isFrozen = (value: unknown): boolean => {
    return (
      Object.isFrozen(value) &&
      Object.values(value ?? {}).every(
        (each) => typeof each !== 'object' || each === undefined || isFrozen(each),
      )
    )
  }
  assert(isFrozen(parse({})))
  assert(isFrozen(parse({ yaml: region('name: x\nzones: [a]') })))
})
