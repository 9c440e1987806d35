import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { after, before, test } from 'node:test'
import { type Ceph, startCeph } from '../../test/ceph/ceph.ts'
import { isFault } from '../image/fault.ts'
import { parseObjectName } from './names.ts'
import { openObjects } from './open.ts'
import { listUploads, makeBucket, newPlace, type S3Place, startProxy } from './s3.fixture.ts'
import { openS3Objects } from './s3.ts'
import { objectStoreSuite } from './suite.ts'

const MIB = 1024 * 1024
const BUCKET = 'images'
const name = parseObjectName('packs/ab/abcdef')
const text = (bytes: Uint8Array) => Buffer.from(bytes).toString('latin1')

let ceph: Ceph
before(async () => {
  ceph = await startCeph()
  await makeBucket(ceph, BUCKET)
})
after(() => ceph?.stop())

objectStoreSuite('s3', async () => {
  const place = newPlace(ceph, BUCKET)
  return {
    objects: await openS3Objects({ ...place, clean: true }),
    again: () => openS3Objects({ ...place, clean: false }),
    dispose: async () => {},
  }
})

objectStoreSuite('s3 behind limits and retries', async () => {
  const place = { ...newPlace(ceph, BUCKET), limits: { callsMax: 3, bytesPerSecond: 1e12 } }
  return {
    objects: await openObjects(place, { clean: true }),
    again: () => openObjects(place, { clean: false }),
    dispose: async () => {},
  }
})

test('s3: a whole bucket may be one store, and what is not ours in it is left out', async () => {
  await makeBucket(ceph, 'whole')
  const place: S3Place = { ...newPlace(ceph, 'whole'), prefix: '' }
  const objects = await openS3Objects({ ...place, clean: true })
  await objects.put(name, Buffer.from('abc'))
  assert.deepEqual(await Array.fromAsync(objects.list('')), [name])
  const inside = await openS3Objects({ ...place, prefix: 'Other/thing', clean: true })
  await inside.put(name, Buffer.from('abc'))
  assert.deepEqual(await Array.fromAsync(objects.list('')), [name])
  assert.deepEqual(await Array.fromAsync(inside.list('packs/ab/abcdef')), [name])
})

test('s3: a list longer than a page is whole', async () => {
  const objects = await openS3Objects({ ...newPlace(ceph, BUCKET), clean: false })
  const names = Array.from({ length: 1010 }, (_, index) =>
    parseObjectName(`pages/${String(index).padStart(4, '0')}`),
  )
  const left = [...names]
  const worker = async () => {
    for (let next = left.pop(); next !== undefined; next = left.pop()) {
      await objects.put(next, Buffer.from('x'))
    }
  }
  await Promise.all(Array.from({ length: 16 }, worker))
  assert.deepEqual((await Array.fromAsync(objects.list('pages/'))).sort(), names)
})

test('s3: a put whose answer was lost is known again, and is somebody else to others', async () => {
  const proxy = await startProxy(ceph)
  try {
    const place = newPlace(ceph, BUCKET)
    const objects = await openS3Objects({ ...place, endpoint: proxy.endpoint, clean: false })
    proxy.onAnswer = () => false
    await assert.rejects(objects.put(name, Buffer.from('abc')), (error) => isFault(error, 'unavailable'))
    const other = await openS3Objects({ ...place, clean: false })
    while ((await other.size(name)) === undefined);
    proxy.onAnswer = () => true
    assert.equal(await other.put(name, Buffer.from('abc')), 'present')
    assert.equal(await objects.put(name, Buffer.from('abc')), 'stored')
    assert.equal(await objects.put(name, Buffer.from('abc')), 'present')

    const foreign = parseObjectName('keys/public')
    await other.put(foreign, Buffer.from('theirs'))
    proxy.onAnswer = () => false
    await assert.rejects(objects.put(foreign, Buffer.from('ours')), (error) => isFault(error, 'unavailable'))
    proxy.onAnswer = () => true
    assert.equal(await objects.put(foreign, Buffer.from('ours')), 'present')
  } finally {
    await proxy.close()
  }
})

test('s3: retries carry a put over lost answers, and the answer is still right', async () => {
  const proxy = await startProxy(ceph)
  try {
    const objects = await openObjects(
      { ...newPlace(ceph, BUCKET), endpoint: proxy.endpoint },
      { clean: false },
    )
    let answers = 0
    proxy.onAnswer = () => ++answers > 2
    assert.equal(await objects.put(name, Buffer.from('abc')), 'stored')
    assert.equal(text(await objects.get(name, 0, 3)), 'abc')
  } finally {
    await proxy.close()
  }
})

test('s3: bytes that change on the way are refused by the service, and nothing is stored', async () => {
  const proxy = await startProxy(ceph)
  try {
    const place = newPlace(ceph, BUCKET)
    const objects = await openS3Objects({ ...place, endpoint: proxy.endpoint, clean: false })
    const bytes = Buffer.alloc(300_000, 'a')
    proxy.onRequest = (part) => {
      const index = part.indexOf('aaaaaaaa')
      if (index >= 0) part.write('b', index)
      return part
    }
    await assert.rejects(objects.put(name, bytes), (error) => isFault(error, 'unavailable'))
    assert.equal(await objects.size(name), undefined)
  } finally {
    await proxy.close()
  }
})

test('s3: an answer that is cut off is no short object', async () => {
  const proxy = await startProxy(ceph)
  try {
    const objects = await openS3Objects({ ...newPlace(ceph, BUCKET), endpoint: proxy.endpoint, clean: false })
    const bytes = randomBytes(4 * MIB)
    await objects.put(name, bytes)
    let answerBytes = 0
    proxy.onAnswer = (part) => {
      answerBytes += part.length
      return answerBytes < MIB
    }
    await assert.rejects(objects.get(name, 0, bytes.length), (error) => isFault(error, 'unavailable'))
    proxy.onAnswer = () => true
    assert.ok((await objects.get(name, 0, bytes.length)).equals(bytes))
    await assert.rejects(objects.get(name, 1, bytes.length), (error) => isFault(error, 'corrupt'))
    await assert.rejects(objects.get(name, bytes.length, 1), (error) => isFault(error, 'corrupt'))
  } finally {
    await proxy.close()
  }
})

test('s3: a get ends when its signal fires, also in the middle of the bytes', async () => {
  const proxy = await startProxy(ceph)
  try {
    const objects = await openS3Objects({ ...newPlace(ceph, BUCKET), endpoint: proxy.endpoint, clean: false })
    await objects.put(name, randomBytes(4 * MIB))
    const abort = new AbortController()
    proxy.onAnswer = () => {
      abort.abort(new Error('enough'))
      return true
    }
    await assert.rejects(objects.get(name, 0, 4 * MIB, abort.signal), /enough/)
  } finally {
    await proxy.close()
  }
})

test('s3: large objects go up in parts, and what fails on the way leaves none', async () => {
  const place = newPlace(ceph, BUCKET)
  const parts = { partsAboveBytes: 5 * MIB, partBytes: 5 * MIB }
  const objects = await openS3Objects({ ...place, ...parts, clean: true })
  const bytes = randomBytes(12 * MIB)
  const shared = Buffer.from(new SharedArrayBuffer(bytes.length))
  bytes.copy(shared)
  assert.equal(await objects.put(name, shared), 'stored')
  assert.ok((await objects.get(name, 0, bytes.length)).equals(bytes))
  assert.equal(await objects.put(name, shared), 'present')
  assert.deepEqual(await listUploads(place), [])

  const proxy = await startProxy(ceph)
  try {
    const disturbed = await openS3Objects({ ...place, ...parts, endpoint: proxy.endpoint, clean: false })
    const second = parseObjectName('packs/cd/cdef')
    const abort = new AbortController()
    proxy.onRequest = (part) => {
      if (part.includes('partNumber=2')) abort.abort(new Error('enough'))
      return part
    }
    await assert.rejects(disturbed.put(second, bytes, abort.signal), /enough/)
    assert.deepEqual(await listUploads(place), [])
    proxy.onRequest = (part) => (part.includes('DELETE ') ? undefined : part)
    let answers = 0
    // Look, begin, part one: then nothing gets through any more, not even the request to abandon it.
    proxy.onAnswer = () => ++answers <= 3
    await assert.rejects(disturbed.put(second, bytes), (error) => isFault(error, 'unavailable'))
    assert.deepEqual(await listUploads(place), [`${place.prefix}/${second}`])
  } finally {
    await proxy.close()
  }
  await openS3Objects({ ...place, clean: true })
  assert.deepEqual(await listUploads(place), [])
  assert.deepEqual(await Array.fromAsync(objects.list('')), [name])
})

test('s3: keys and buckets that are not good are told apart, and no secret is shown', async () => {
  const place = newPlace(ceph, BUCKET)
  const cases: [Partial<S3Place>, 'denied' | 'invalid', RegExp][] = [
    [{ secretAccessKey: 'a-wrong-secret-of-a-key' }, 'denied', /access key for the bucket 'images'/],
    [{ accessKeyId: 'nobody-at-all' }, 'denied', /access key for the bucket 'images'/],
    [{ bucket: 'nowhere' }, 'invalid', /no bucket 'nowhere' at http/],
  ]
  for (const [change, kind, words] of cases) {
    const wrong = { ...place, ...change }
    const isRight = (error: unknown) => {
      assert.ok(isFault(error, kind), String(error))
      assert.match(error.message, words)
      const shown = `${error.stack} ${(error.cause as Error).stack} ${JSON.stringify(error.cause)}`
      assert.ok(!shown.includes(wrong.secretAccessKey) && !shown.includes('AWS4-HMAC'))
      return true
    }
    await assert.rejects(openS3Objects({ ...wrong, clean: true }), isRight)
    const objects = await openS3Objects({ ...wrong, clean: false })
    await assert.rejects(objects.put(name, Buffer.from('x')), isRight)
    await assert.rejects(objects.get(name, 0, 1), isRight)
    await assert.rejects(Array.fromAsync(objects.list('')), isRight)
  }
  const stranger = await ceph.administer(
    ...['user', 'create', '--uid=stranger', '--display-name=Stranger'],
    ...['--access-key=stranger', '--secret-key=a-strangers-secret'],
  )
  assert.match(stranger, /stranger/)
  const keys = { accessKeyId: 'stranger', secretAccessKey: 'a-strangers-secret' }
  await assert.rejects(
    openS3Objects({ ...place, ...keys, clean: true }),
    (error) => isFault(error, 'denied') && /may not be used with this access key/.test(error.message),
  )
})

test('s3: a bucket over its quota is full, and the put left nothing', async () => {
  await ceph.administer(
    ...['user', 'create', '--uid=small', '--display-name=Small'],
    ...['--access-key=small', '--secret-key=a-small-secret'],
  )
  await ceph.administer('quota', 'set', '--quota-scope=user', '--uid=small', `--max-size=${MIB}`)
  await ceph.administer('quota', 'enable', '--quota-scope=user', '--uid=small')
  const gateway = { ...ceph, accessKeyId: 'small', secretAccessKey: 'a-small-secret' }
  await makeBucket(gateway, 'small')
  const objects = await openS3Objects({ ...newPlace(gateway, 'small'), clean: true })
  await assert.rejects(
    objects.put(name, randomBytes(2 * MIB)),
    (error) => isFault(error, 'full') && /bucket 'small' is full/.test(error.message),
  )
  assert.equal(await objects.size(name), undefined)
  assert.equal(await objects.put(name, Buffer.from('small')), 'stored')
})
