import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { PutObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { type Ceph, startCeph } from '../../test/ceph/ceph.ts'
import { isFault } from '../image/fault.ts'
import { makeBucket } from '../objects/s3.fixture.ts'
import { nameServer, readAll, startServer, world } from './fetch.fixture.ts'
import { createFetcher } from './fetch.ts'
import { parseS3, signS3 } from './s3-source.ts'

const never = new AbortController().signal
const START = { offset: 0, etag: undefined }
const KEY_ID = 'AKIDCANARY'
const SECRET = 'canary+secret/of=a+bucket'
const BYTES = Buffer.alloc(100_000, 7)
/** Whatever an address can have in it that somebody might encode another way. */
const KEY = "a folder//dïsk (1)'!*+&=$@;:,~%41.raw"
const refusal = (reason: 'address' | 'url') => (error: unknown) =>
  isFault(error, 'invalid') && error.subject === 'request' && error.reason === reason
const sourceOf = (
  url: string,
  s3: Partial<{ endpoint: string; region: string; keyId: string; secret: string }> = {},
) => ({
  url,
  s3: { endpoint: undefined, region: undefined, keyId: KEY_ID, secret: SECRET, ...s3 },
})

let ceph: Ceph
before(async () => {
  ceph = await startCeph()
  await makeBucket(ceph, 'files')
  const { endpoint, region, accessKeyId, secretAccessKey } = ceph
  const client = new S3Client({
    endpoint,
    region,
    forcePathStyle: true,
    credentials: { accessKeyId, secretAccessKey },
  })
  await client.send(new PutObjectCommand({ Bucket: 'files', Key: KEY, Body: BYTES }))
  client.destroy()
})
after(() => ceph?.stop())

const cephSource = (url: string, secret = ceph.secretAccessKey) =>
  sourceOf(url, { endpoint: ceph.endpoint, region: ceph.region, keyId: ceph.accessKeyId, secret })
const cephFetcher = () => createFetcher({ allow: [new URL(ceph.endpoint).host] })

test('s3 source: an object comes whole, goes on, and begins again where it is another', async () => {
  const source = cephSource(`s3://files/${KEY}`)
  const fetcher = cephFetcher()
  assert.equal(fetcher.check(source), `s3://files/${KEY}`)
  const whole = await fetcher.open(source, START, never)
  assert.deepEqual([whole.sizeBytes, whole.offset], [BYTES.length, 0])
  assert.deepEqual(await readAll(whole), BYTES)
  const rest = await fetcher.open(source, { offset: 99_990, etag: whole.etag }, never)
  assert.deepEqual([rest.sizeBytes, rest.etag, rest.offset], [BYTES.length, whole.etag, 99_990])
  assert.equal((await readAll(rest)).length, 10)
  const again = await fetcher.open(source, { offset: 99_990, etag: '"other"' }, never)
  assert.equal(again.offset, 0)
  assert.equal((await readAll(again)).length, BYTES.length)
})

test('s3 source: what is not there, what may not be read, and what may not be reached', async () => {
  const fetcher = cephFetcher()
  for (const url of ['s3://files/none', 's3://nothing/none']) {
    await assert.rejects(
      fetcher.open(cephSource(url), START, never),
      (error) => isFault(error, 'absent') && error.subject === 'file',
    )
  }
  const wrong = cephSource(`s3://files/${KEY}`, SECRET)
  await assert.rejects(
    fetcher.open(wrong, START, never),
    (error) => isFault(error, 'denied') && error.subject === 'file' && !tells(error),
  )
  const strict = createFetcher({ allow: [] })
  assert.throws(() => strict.check(cephSource('s3://files/x')), refusal('address'))
  await assert.rejects(strict.open(cephSource('s3://files/x'), START, never), refusal('address'))
})

const tells = (error: Error) =>
  [KEY_ID, SECRET, 'Signature', 'Credential'].some((word) =>
    `${error.stack} ${JSON.stringify(error)} ${error.cause}`.includes(word),
  )

test('s3 source: what is no bucket and key, or comes without keys, is refused and tells nothing', () => {
  const fetcher = createFetcher({ allow: [] })
  const good = 's3://files/disk.raw'
  for (const source of [
    ...[
      's3://',
      's3:///key',
      's3://files',
      's3://files/',
      's3:files/x',
      's3://a/x',
      's3://us:er@files/x',
      's3://files:80/x',
    ],
    ...[
      's3://arn:aws:s3:::files/x',
      's3://files/a?versionId=1',
      's3://files/a#b',
      's3://files/../x',
      's3://files/a/./b',
      's3://fi les/x',
    ],
    ...[
      's3://files/a\nb',
      's3://files/\ud800',
      `s3://files/${'ü'.repeat(513)}`,
      's3://[::1]/x',
      's3://-a/x',
      's3://files--use1-az4--x-s3/x',
    ],
  ]
    .map((url) => sourceOf(url))
    .concat(
      sourceOf(good, { keyId: '' }),
      sourceOf(good, { secret: '' }),
      sourceOf(good, { secret: `${SECRET}\r\nX: y` }),
      sourceOf(good, { region: 'eu west' }),
      sourceOf(good, { region: 'a.evil.example/' }),
      sourceOf(good, { endpoint: 's3.example.com' }),
      sourceOf(good, { endpoint: 'ftp://s3.example.com' }),
      sourceOf(good, { endpoint: 'https://a:b@s3.example.com' }),
      sourceOf(good, { endpoint: 'https://s3.example.com/path' }),
      sourceOf(good, { endpoint: 'https://s3.example.com/?x' }),
      sourceOf('https://example.com/disk.raw'),
    )) {
    assert.throws(
      () => fetcher.check(source),
      (error) => refusal('url')(error) && !tells(error as Error),
      source.url,
    )
  }
  assert.throws(() => fetcher.check({ url: good }), refusal('url'))
  for (const endpoint of [
    'http://127.0.0.1:9000',
    'http://0x7f.1',
    'https://[::1]',
    'http://169.254.169.254',
    'https://s3.example.com:22',
  ]) {
    assert.throws(() => fetcher.check(sourceOf(good, { endpoint })), refusal('address'))
  }
  assert.equal(fetcher.check(sourceOf(good)), good)
  assert.equal(fetcher.check(sourceOf('S3://files/a%2Fb')), 's3://files/a%2Fb')
})

test('s3 source: each service gets its own kind of address', async () => {
  for (const [url, place, address] of [
    ['s3://files/a b', {}, 'https://files.s3.us-east-1.amazonaws.com/a%20b'],
    ['s3://files/a', { region: 'cn-north-1' }, 'https://files.s3.cn-north-1.amazonaws.com.cn/a'],
    ['s3://my.files/a', { region: 'eu-west-1' }, 'https://s3.eu-west-1.amazonaws.com/my.files/a'],
    [
      's3://files/a',
      { endpoint: 'https://s3.oss-cn-hangzhou.aliyuncs.com', region: 'cn-hangzhou' },
      'https://files.s3.oss-cn-hangzhou.aliyuncs.com/a',
    ],
    [
      's3://Files_1/a//b',
      { endpoint: 'http://minio.example:9000/' },
      'http://minio.example:9000/Files_1/a//b',
    ],
  ] as const) {
    const { target, headers } = await signS3(parseS3(sourceOf(url, place)), undefined)
    assert.equal(`${target.url.origin}${target.url.pathname}`, address)
    assert.ok(!`${target.url} ${JSON.stringify(headers)}`.includes(SECRET))
    assert.match(headers.authorization ?? '', /^AWS4-HMAC-SHA256 /)
  }
})

test('s3 source: what was signed goes to nobody else, nor does the environment say where', async (t) => {
  const canary = await startServer((_, response) => response.end('secret'))
  t.after(() => canary.close())
  const server = await startServer((_, response) => {
    response
      .writeHead(307, { Location: `${canary.origin}/`, 'x-amz-bucket-region': 'canary' })
      .end('<Error>canary</Error>')
  })
  t.after(() => server.close())
  const { lookup } = nameServer({
    'files.s3.eu-west-1.amazonaws.com': [['93.184.215.14']],
    's3.example.com': [['93.184.215.14']],
  })
  const places = world({ '93.184.215.14': server })
  const fetcher = createFetcher({ allow: [`127.0.0.1:${canary.port}`], lookup, connect: places.connect })
  const plain = sourceOf('s3://files/a', { endpoint: 'http://s3.example.com' })
  await assert.rejects(
    fetcher.open(plain, START, never),
    (error) => refusal('url')(error) && !tells(error as Error),
  )
  assert.equal(server.requests.length, 1)
  assert.equal(canary.connectionCount(), 0)
  process.env.AWS_ENDPOINT_URL = canary.origin
  process.env.AWS_ENDPOINT_URL_S3 = canary.origin
  t.after(() => {
    delete process.env.AWS_ENDPOINT_URL
    delete process.env.AWS_ENDPOINT_URL_S3
  })
  const { target } = await signS3(parseS3(sourceOf('s3://files/a', { region: 'eu-west-1' })), undefined)
  assert.equal(target.url.hostname, 'files.s3.eu-west-1.amazonaws.com')
  assert.equal(canary.connectionCount(), 0)
})
