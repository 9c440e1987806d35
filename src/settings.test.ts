import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isFault } from './image/fault.ts'
import { attributeOf, parseSettings, SETTINGS, type Settings, type SettingsInput } from './settings.ts'

const path = '/etc/calotype/settings.yaml'
const parse = (given: Partial<SettingsInput> & { readonly yaml?: string }): Settings => {
  const { yaml, ...input } = given
  const file = yaml === undefined ? {} : { file: { path, text: yaml } }
  return parseSettings({
    environment: { CALOTYPE_DATA: '/data' },
    flags: {},
    folder: '/home/ada',
    coreCount: 2,
    ...file,
    ...input,
  })
}
const refuses = (given: Parameters<typeof parse>[0], field: string, ...words: (string | RegExp)[]) => {
  assert.throws(
    () => parse(given),
    (error) => {
      assert(isFault(error, 'invalid'), String(error))
      assert.equal(error.field, field)
      for (const word of words) assert.match(error.message, word instanceof RegExp ? word : literal(word))
      return true
    },
    JSON.stringify(given),
  )
}
const literal = (text: string) => new RegExp(text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&'))
const folder = (path: string) => ({ kind: 'directory', folder: path })
const region = (lines: string) => `regions:\n  here:\n${lines.replace(/^/gm, '    ')}\n`

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

test('regions of your own replace the default ones', () => {
  const yaml =
    'regions:\n  office: {name: The office, zones: [office-1], objects: objects}\n  attic:\n    name: {zh: 阁楼, en: Attic}\n    zones: [attic-1, attic-2]\n'
  const settings = parse({ yaml })
  assert.deepEqual(settings.regions, [
    {
      id: 'office',
      localName: { zh: 'The office', en: 'The office' },
      zones: ['office-1'],
      objects: folder('/etc/calotype/objects'),
    },
    {
      id: 'attic',
      localName: { zh: '阁楼', en: 'Attic' },
      zones: ['attic-1', 'attic-2'],
      objects: folder('/data/regions/attic/objects'),
    },
  ])
  assert.equal(settings.defaultRegion, 'office')
  assert.equal(parse({ yaml: `${yaml}defaultRegion: attic` }).defaultRegion, 'attic')
  refuses(
    { yaml, flags: { defaultRegion: 'hk' } },
    'defaultRegion',
    "--default-region takes the id of one of the regions, not 'hk'",
  )
})

test('a region that is not whole is refused by name', () => {
  const cases: [string, string, string][] = [
    ['regions:', 'regions', 'not nothing'],
    ['regions: {}', 'regions', 'not an empty map'],
    ['regions: [hk]', 'regions', 'not the list ["hk"]'],
    [
      'regions: {HK: {name: x, zones: [a]}}',
      'regions',
      "lower-case letters, digits and -, a letter first, not 'HK'",
    ],
    ['regions: {hk: x}', 'regions.hk', "takes a map with name and zones, not 'x'"],
    [region('zones: [a]'), 'regions.here.name', 'not nothing'],
    [region('name: ""\nzones: [a]'), 'regions.here.name', 'text of 1 to 64 characters'],
    [region('name: {zh: x}\nzones: [a]'), 'regions.here.name.en', 'not nothing'],
    [region('name: {zh: x, en: y, fr: z}\nzones: [a]'), 'regions.here.name.fr', 'Did you mean'],
    [region('name: x'), 'regions.here.zones', 'takes a list of zone ids'],
    [region('name: x\nzones: []'), 'regions.here.zones', 'not an empty list'],
    [region('name: x\nzones: [a, 7]'), 'regions.here.zones', 'not the list ["a",7]'],
    [region('name: x\nzone: [a]'), 'regions.here.zone', "Did you mean 'zones'?"],
    [region('name: x\nzones: [a, a]'), 'regions.here', 'both take the zone a'],
    [region('name: x\nzones: [a]\nobjects: ~/x'), 'regions.here.objects', 'takes a directory'],
    [
      region('name: x\nzones: [a]\nobjects: 7'),
      'regions.here.objects',
      'takes a directory, or a map with directory or s3, not 7',
    ],
    [
      region('name: x\nzones: [a]\ncopyBytesPerSecond: 1'),
      'regions.here.copyBytesPerSecond',
      'takes a whole number from 65536',
    ],
    [
      `${region('name: x\nzones: [a]')}  there: {name: y, zones: [a]}`,
      'regions.there',
      'regions.here and regions.there',
    ],
    [
      `${region('name: x\nzones: [a]\nobjects: /o')}  there: {name: y, zones: [b], objects: /o/.}`,
      'regions.there',
      'both take the directory /o',
    ],
  ]
  for (const [yaml, field, words] of cases) refuses({ yaml }, field, path, words)
})

test('peers: who they are, what we read of them and they of us', () => {
  const mark = 'AB:'.repeat(31)
  const yaml = `peers:
  far: {fingerprint: "${mark}AB", url: "https://far.example:8371", projects: [org-one], regions: [hk]}
  near: {fingerprint: ${'cd'.repeat(32)}, projects: all}
`
  const { regions: _regions, peers } = parse({
    yaml: `${yaml}${region('name: x\nzones: [a]\ncopyBytesPerSecond: 1000000')}`,
  })
  assert.equal(_regions[0]?.copyBytesPerSecond, 1_000_000)
  assert.deepEqual(peers, [
    {
      name: 'far',
      fingerprint: 'ab'.repeat(32),
      url: 'https://far.example:8371',
      projects: ['org-one'],
      regions: ['hk'],
    },
    { name: 'near', fingerprint: 'cd'.repeat(32), url: undefined, projects: 'all', regions: 'all' },
  ])
  const cases: [string, string, string][] = [
    ['peers: [far]', 'peers', 'takes a map of name'],
    ['peers: {Far: {}}', 'peers', 'takes names of up to 32'],
    ['peers: {far: {url: "https://a"}}', 'peers.far.fingerprint', 'takes 64 hex digits'],
    [
      `peers: {far: {fingerprint: ${'1a'.repeat(32)}, url: "http://a"}}`,
      'peers.far.url',
      'takes https://HOST',
    ],
    [
      `peers: {far: {fingerprint: ${'1a'.repeat(32)}, url: "https://a/b"}}`,
      'peers.far.url',
      'takes https://',
    ],
    [`peers: {far: {fingerprint: ${'1a'.repeat(32)}, project: all}}`, 'peers.far.project', "mean 'projects'"],
    [
      `peers: {far: {fingerprint: ${'1a'.repeat(32)}, projects: x}}`,
      'peers.far.projects',
      'takes all, or a list',
    ],
    [
      `peers: {far: {fingerprint: ${'1a'.repeat(32)}}, near: {fingerprint: ${'1a'.repeat(32)}}}`,
      'peers.near',
      'the same fingerprint',
    ],
  ]
  for (const [text, field, words] of cases) refuses({ yaml: text }, field, path, words)
})

const bucket = (lines: string, more = '') =>
  region(`name: x\nzones: [a]\nobjects:\n  s3:\n${lines.replace(/^/gm, '    ')}${more}`)
const s3Keys = {
  CALOTYPE_DATA: '/data',
  CALOTYPE_S3_ACCESS_KEY_ID: 'common-id',
  CALOTYPE_S3_SECRET_ACCESS_KEY: 'common-secret',
}

test("a region's objects are in a directory or a bucket, with limits", () => {
  const objectsOf = (yaml: string, environment: Record<string, string> = s3Keys) =>
    parse({ yaml, environment }).regions[0]?.objects
  const amazon = {
    kind: 's3',
    endpoint: 'https://s3.us-east-1.amazonaws.com',
    region: 'us-east-1',
    bucket: 'images',
    prefix: '',
    isPathStyle: false,
    accessKeyId: 'common-id',
    secretAccessKey: 'common-secret',
  }
  assert.deepEqual(objectsOf(bucket('bucket: images')), amazon)
  const own = {
    bucket: 'b.c-1',
    prefix: 'office/Images_1',
    endpoint: 'http://127.0.0.1:7480/',
    region: 'default',
    pathStyle: false,
  }
  const lines = Object.entries(own).map(([name, value]) => `${name}: ${value}`)
  const keys = {
    ...s3Keys,
    CALOTYPE_S3_ACCESS_KEY_ID_HERE: 'own-id',
    CALOTYPE_S3_SECRET_ACCESS_KEY_HERE: 'own-secret',
  }
  const limits = '\n  connections: 4\n  bytesPerSecond: 65536'
  assert.deepEqual(objectsOf(bucket(lines.join('\n'), limits), keys), {
    kind: 's3',
    endpoint: 'http://127.0.0.1:7480',
    region: 'default',
    bucket: 'b.c-1',
    prefix: 'office/Images_1',
    isPathStyle: false,
    accessKeyId: 'own-id',
    secretAccessKey: 'own-secret',
    limits: { callsMax: 4, bytesPerSecond: 65_536 },
  })
  const styled = objectsOf(bucket('bucket: images\nendpoint: https://s3.example:9000'))
  assert.deepEqual(styled, { ...amazon, endpoint: 'https://s3.example:9000', isPathStyle: true })
  const limited = (member: string) => objectsOf(region(`name: x\nzones: [a]\nobjects: {${member}}`))
  assert.deepEqual(limited('directory: o, connections: 2'), {
    ...folder('/etc/calotype/o'),
    limits: { callsMax: 2 },
  })
  assert.deepEqual(limited('bytesPerSecond: 1000000'), {
    ...folder('/data/regions/here/objects'),
    limits: { bytesPerSecond: 1_000_000 },
  })
})

test("what is wrong with a region's bucket is said by name", () => {
  const at = 'regions.here.objects'
  const cases: [string, string, string][] = [
    [
      bucket('prefix: x'),
      `${at}.s3.bucket`,
      'takes 3 to 63 lower-case letters, digits, . and -, not nothing',
    ],
    [bucket('bucket: No'), `${at}.s3.bucket`, "not 'No'"],
    [bucket('bucket: images\nprefix: /x'), `${at}.s3.prefix`, "no '/' at either end, not '/x'"],
    [bucket('bucket: images\nprefix: a/../b'), `${at}.s3.prefix`, "not 'a/../b'"],
    [bucket('bucket: images\nprefix:'), `${at}.s3.prefix`, 'not nothing'],
    [bucket('bucket: images\nendpoint: s3.example'), `${at}.s3.endpoint`, 'takes http://HOST[:PORT]'],
    [bucket('bucket: images\nendpoint: https://a/b'), `${at}.s3.endpoint`, 'or https://HOST[:PORT]'],
    [bucket('bucket: images\nendpoint: ftp://a'), `${at}.s3.endpoint`, "not 'ftp://a'"],
    [bucket('bucket: images\nregion: "a b"'), `${at}.s3.region`, "not 'a b'"],
    [bucket('bucket: images\npathStyle: 1'), `${at}.s3.pathStyle`, 'takes true or false, not 1'],
    [bucket('bucket: images\nsecretAccessKey: x'), `${at}.s3.secretAccessKey`, 'There is no setting'],
    [bucket('bucket: images', '\n  connections: 0'), `${at}.connections`, 'from 1 to 256, not 0'],
    [bucket('bucket: images', '\n  bytesPerSecond: 1'), `${at}.bytesPerSecond`, 'from 65536 to'],
    [bucket('bucket: images', '\n  directory: /x'), at, 'takes directory or s3, not both'],
    [bucket('bucket: images', '\n  s4: 1'), `${at}.s4`, "Did you mean 's3'?"],
    [region('name: x\nzones: [a]\nobjects: {s3: images}'), `${at}.s3`, 'takes a map with bucket'],
    [region('name: x\nzones: [a]\nobjects: {directory: ~/x}'), `${at}.directory`, 'takes a directory'],
  ]
  for (const [yaml, field, words] of cases) refuses({ yaml, environment: s3Keys }, field, path, words)
  const twoRegions = (one: string, other: string) =>
    `${bucket(`bucket: images\nprefix: '${one}'`)}  there:\n    name: y\n    zones: [b]\n    objects: {s3: {bucket: images, prefix: '${other}'}}\n`
  for (const [one, other] of [
    ['', ''],
    ['x', 'x'],
    ['', 'x'],
    ['x/y', 'x'],
  ]) {
    const yaml = twoRegions(one ?? '', other ?? '')
    refuses({ yaml, environment: s3Keys }, 'regions.there', 'both take objects below', 'the bucket images')
  }
  assert.equal(parse({ yaml: twoRegions('x', 'xy'), environment: s3Keys }).regions.length, 2)
})

test('keys of buckets come from the environment alone, in pairs, and are never shown', () => {
  const yaml = bucket('bucket: images')
  const [id, secret] = ['CALOTYPE_S3_ACCESS_KEY_ID', 'CALOTYPE_S3_SECRET_ACCESS_KEY']
  const cases: [Record<string, string>, ...(string | RegExp)[]][] = [
    [{ [id]: '', [secret]: '' }, 'regions.here.objects.s3 needs an access key', `${id}_HERE`],
    [{ [id]: '' }, `${secret} is set without ${id}`, /^(?!.*common)/],
    [{ [`${id}_HERE`]: 'own-id' }, `${id}_HERE is set without ${secret}_HERE`, /^(?!.*own-id)/],
    [{ [secret]: 'a b' }, `${secret} takes up to 256`, /^(?!.*a b)/],
    [{ [`${id}_HEER`]: 'own-id' }, `${id}_HEER fits no region with a bucket. There are here.`],
  ]
  for (const [change, ...words] of cases) {
    refuses({ yaml, environment: { ...s3Keys, ...change } }, 's3Key', ...words)
  }
  const stray = { ...s3Keys, [`${secret}_HERE`]: 'own-secret' }
  refuses(
    { yaml: region('name: x\nzones: [a]'), environment: stray },
    's3Key',
    'There is none.',
    /^(?!.*own-)/,
  )
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
