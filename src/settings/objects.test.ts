import assert from 'node:assert/strict'
import { test } from 'node:test'
import { folder, parse, path, refuses, region } from './settings.fixture.ts'

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
