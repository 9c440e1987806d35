import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { connect, createServer, type Server } from 'node:net'
import { afterEach, beforeEach, test } from 'node:test'
import { Upload as TusUpload, type UploadOptions } from 'tus-js-client'
import { Fault } from '../../image/fault.ts'
import { signedRequest } from './fixture-request.ts'
import { type NativeServer, startNative } from './fixture-server.ts'
import { bytesAt, makePlace, PART, sendPart, TUS, tokenOf } from './fixture-tus.ts'

let server: NativeServer

beforeEach(async () => {
  server = await startNative()
})
afterEach(async () => {
  await server.gateway.close()
  assert.deepEqual(server.bugs, [])
})

const base64 = (text: string) => Buffer.from(text).toString('base64')
const metadataOf = (pairs: Record<string, string>) =>
  Object.entries(pairs)
    .map(([key, value]) => `${key} ${base64(value)}`)
    .join(',')

/** A signed creation in the words of the protocol. */
function create(headers: Record<string, string>, path = '/v1/uploads') {
  const signed = signedRequest('POST', path, undefined, { host: server.host })
  return server.ask('POST', path, { ...(signed.headers as Record<string, string>), ...TUS, ...headers })
}
/** Sends `bytes` with the protocol's own client; resolves when it is done. */
function sendAll(bytes: Buffer, change: Partial<UploadOptions> = {}): Promise<TusUpload> {
  return new Promise((resolve, reject) => {
    const upload: TusUpload = new TusUpload(bytes, {
      endpoint: `${server.url}/v1/uploads`,
      metadata: { name: 'golden', osType: 'Linux', kind: 'custom', sha256: 'ab'.repeat(32) },
      retryDelays: [0, 0, 0],
      storeFingerprintForResuming: false,
      onBeforeRequest(request) {
        // The creation alone is signed: every other request has the token in its path.
        if (request.getMethod() !== 'POST') return
        const { pathname, host } = new URL(request.getURL())
        const { headers } = signedRequest('POST', pathname, undefined, { host })
        for (const [name, value] of Object.entries(headers))
          if (name !== 'host') request.setHeader(name, String(value))
      },
      onSuccess: () => resolve(upload),
      onError: reject,
      ...change,
    })
    upload.start()
  })
}

test("the protocol's own client sends a file, in one part and in many", async () => {
  const bytes = randomBytes(3 * 1024 ** 2 + 17)
  for (const chunkSize of [Number.POSITIVE_INFINITY, 256 * 1024]) {
    const before = server.records.length
    const upload = await sendAll(bytes, { chunkSize })
    const url = new URL(upload.url ?? '')
    assert.equal(url.origin, server.url)
    assert.ok(bytesAt(server, url.pathname).equals(bytes))
    const partCount = chunkSize === Number.POSITIVE_INFINITY ? 1 : 13
    await server.logged(before + 1 + partCount)
    assert.equal(server.records.filter(({ method }) => method === 'PATCH').length >= partCount, true)
  }
  const wish = server.fake.calls.find(({ name }) => name === 'uploads.create')
  assert.equal(wish?.caller?.door, 'native')
  assert.deepEqual(wish?.input, {
    regionId: 'cn-hangzhou',
    projectId: undefined,
    name: 'golden',
    description: undefined,
    tag: undefined,
    kind: 'custom',
    osType: 'Linux',
    osName: undefined,
    firmware: undefined,
    bus: undefined,
    format: undefined,
    checksum: { algorithm: 'sha256', hex: 'ab'.repeat(32) },
    signer: undefined,
    lengthBytes: bytes.length,
  })
})

test("the protocol's own client gives up what it began, and one with nothing but POST works too", async () => {
  const upload = await sendAll(randomBytes(100_000), { overridePatchMethod: true })
  assert.ok(server.records.some(({ method, path }) => method === 'POST' && path === '/v1/uploads/…'))
  await upload.abort(true)
  assert.equal(server.fake.transfers.uploads.size, 0)
})

test('a connection that is cut in the middle is gone on from where it was', async () => {
  const bytes = randomBytes(4 * 1024 ** 2)
  let cutCount = 0
  const proxy: Server = createServer((near) => {
    const far = connect(server.port, '127.0.0.1')
    let sentBytes = 0
    near.on('data', (some: Buffer) => {
      sentBytes += some.length
      far.write(some)
      // What came is at the server before the cut, for the most part.
      if (cutCount < 2 && sentBytes > 1024 ** 2) {
        cutCount++
        far.end(() => far.destroy())
        near.destroy()
      }
    })
    far.on('data', (some) => near.write(some))
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const)
      one.on('error', () => other.destroy()).on('close', () => other.destroy())
  })
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
  const { port } = proxy.address() as { port: number }
  try {
    const upload = await sendAll(bytes, { endpoint: `http://127.0.0.1:${port}/v1/uploads` })
    assert.equal(cutCount, 2)
    const path = new URL(upload.url ?? '').pathname
    assert.ok(bytesAt(server, path).equals(bytes))
    const parts = server.fake.calls.filter(({ name }) => name === 'uploads.receive')
    const offsets = parts.map(({ input }) => (input as { offsetBytes: number }).offsetBytes)
    assert.equal(offsets[0], 0)
    assert.ok(offsets.length > 1 && (offsets.at(-1) ?? 0) > 0, String(offsets))
  } finally {
    proxy.close()
  }
})

test('what there is here is told without a signature', async () => {
  for (const path of ['/v1/uploads', `/v1/uploads/${'t'.repeat(43)}`]) {
    const { status, headers } = await server.ask('OPTIONS', path)
    assert.equal(status, 204)
    assert.equal(headers['tus-version'], '1.0.0')
    assert.equal(headers['tus-extension'], 'creation,creation-defer-length,expiration,checksum,termination')
    assert.equal(headers['tus-checksum-algorithm'], 'sha256,sha1,md5')
    assert.equal(headers['tus-max-size'], String(2 ** 44))
  }
  assert.deepEqual(server.fake.calls, [])
})

test('a place is made by JSON or by the protocol, and its answer is the same', async () => {
  const byJson = await server.askSigned('POST', '/v1/uploads', {
    ...{ name: 'disk', lengthBytes: 1000, checksum: 'md5:'.padEnd(36, 'A') },
    ...{ format: 'vmdk', region: 'hk', firmware: 'uefi', signer: 'AB'.repeat(32) },
  })
  assert.equal(byJson.status, 201)
  const wish = server.fake.calls.at(-1)?.input as Record<string, unknown>
  assert.deepEqual(wish.checksum, { algorithm: 'md5', hex: 'a'.repeat(32) })
  assert.deepEqual([wish.signer, wish.format, wish.regionId], ['ab'.repeat(32), 'vmdk', 'hk'])
  const { uploadId, location, ...rest } = byJson.json()
  assert.match(uploadId, /^[0-9a-z]{17}$/)
  assert.match(location, /^\/v1\/uploads\/[A-Za-z0-9_-]{43}$/)
  const expiresAtMs = server.fake.transfers.uploads.get(tokenOf(location))?.upload.expiresAtMs ?? 0
  assert.deepEqual(rest, { lengthBytes: 1000, offsetBytes: 0, expiresAtMs })
  assert.equal(byJson.headers.location, `${server.url}${location}`)
  assert.equal(byJson.headers['upload-expires'], new Date(expiresAtMs).toUTCString())

  const metadata = metadataOf({ name: '磁盘', project: 'org-b', bus: 'virtio-scsi', sha1: '0'.repeat(40) })
  const byTus = await create({ 'upload-defer-length': '1', 'upload-metadata': metadata })
  assert.equal(byTus.status, 201, byTus.body.toString())
  assert.equal(byTus.headers['tus-resumable'], '1.0.0')
  assert.equal(byTus.headers.location, `${server.url}${byTus.json().location}`)
  assert.equal(byTus.json().lengthBytes, null)
  const told = server.fake.calls.at(-1)?.input as Record<string, unknown>
  assert.deepEqual(
    [told.name, told.projectId, told.bus, told.checksum, told.lengthBytes],
    ['磁盘', 'org-b', 'virtio-scsi', { algorithm: 'sha1', hex: '0'.repeat(40) }, undefined],
  )
  const named = metadataOf({ filename: 'debian.qcow2', filetype: 'application/x-qemu-disk' })
  assert.equal((await create({ 'upload-length': '5', 'upload-metadata': named })).status, 201)
  assert.equal((server.fake.calls.at(-1)?.input as { name?: string } | undefined)?.name, 'debian.qcow2')
})

test('links begin as the caller wrote the host, and behind a proxy as that was asked', async () => {
  const path = '/v1/uploads'
  for (const [host, proto, origin] of [
    ['images.example.com', 'https', 'https://images.example.com'],
    ['[::1]:8370', 'http', 'http://[::1]:8370'],
    ['a b"<script>', '', ''],
    ['x/../y', '', ''],
  ] as const) {
    const { headers, body } = signedRequest('POST', path, { name: 'a', lengthBytes: 1 }, { host })
    const given = { ...(headers as Record<string, string>), 'x-forwarded-proto': proto }
    const made = await server.ask('POST', path, given, body)
    assert.equal(made.status, 201)
    assert.equal(made.headers.location, `${origin}${made.json().location}`)
  }
})

test('a creation that is not well said, or not signed, makes nothing', async () => {
  const name = metadataOf({ name: 'a' })
  const length = { 'upload-length': '10' }
  const bad: [headers: Record<string, string>, status: number, says: RegExp][] = [
    [{ 'upload-metadata': name }, 400, /Upload-Length/],
    [{ ...length, 'upload-defer-length': '1', 'upload-metadata': name }, 400, /Upload-Length/],
    [{ 'upload-defer-length': '2', 'upload-metadata': name }, 400, /takes 1/],
    [{ 'upload-length': '-1', 'upload-metadata': name }, 400, /count of bytes/],
    [{ 'upload-length': '0', 'upload-metadata': name }, 400, /lengthBytes/],
    [{ 'upload-length': '1e3', 'upload-metadata': name }, 400, /count of bytes/],
    [{ 'upload-length': '9'.repeat(16), 'upload-metadata': name }, 400, /count of bytes/],
    [{ 'upload-length': String(2 ** 44 + 1), 'upload-metadata': name }, 413, /up to 17592186044416/],
    [{ ...length, 'tus-resumable': '0.2.2', 'upload-metadata': name }, 412, /1\.0\.0/],
    [length, 400, /'name' is missing/],
    [{ ...length, 'upload-metadata': 'name' }, 400, /1 to 256/],
    [{ ...length, 'upload-metadata': 'name !!!' }, 400, /base64/],
    [{ ...length, 'upload-metadata': 'name YQ' }, 400, /base64/],
    [{ ...length, 'upload-metadata': 'name /w==' }, 400, /UTF-8/],
    [{ ...length, 'upload-metadata': `name ${base64('a')} ${base64('b')}` }, 400, /pairs/],
    [{ ...length, 'upload-metadata': `${name},name ${base64('b')}` }, 400, /twice/],
    [{ ...length, 'upload-metadata': `${name},osTyp ${base64('Linux')}` }, 400, /mean 'osType'/],
    [{ ...length, 'upload-metadata': `${name},__proto__ ${base64('x')}` }, 400, /no key '__proto__'/],
    [{ ...length, 'upload-metadata': `${name},sha256 ${base64('xyz')}` }, 400, /checksum/],
    [
      {
        ...length,
        'upload-metadata': `${name},${metadataOf({ sha1: '0'.repeat(40), md5: '0'.repeat(32) })}`,
      },
      400,
      /one checksum/,
    ],
    [{ ...length, 'upload-metadata': `${name},format ${base64('iso')}` }, 400, /one of raw/],
    [{ ...length, 'upload-metadata': name, authorization: 'x' }, 403, /not signed/],
  ]
  for (const [headers, status, says] of bad) {
    const { body, headers: answered, ...said } = await create(headers)
    assert.equal(said.status, status, `${JSON.stringify(headers)} ${body}`)
    assert.match(said.json().error.message, says)
    assert.deepEqual([answered['tus-resumable'], answered['tus-version']], ['1.0.0', '1.0.0'])
  }
  const withBody = signedRequest('POST', '/v1/uploads', Buffer.from('bytes'), { host: server.host })
  const headers = {
    ...(withBody.headers as Record<string, string>),
    ...TUS,
    ...length,
    'upload-metadata': name,
  }
  assert.equal((await server.ask('POST', '/v1/uploads', headers, 'bytes')).status, 400)
  assert.equal((await create({ ...length, 'upload-metadata': name }, '/v1/uploads?name=b')).status, 400)
  assert.equal(server.fake.transfers.uploads.size, 0)

  server.fake.failNext(
    'uploads.create',
    new Fault('full', 'Make room.', { subject: 'project', reason: 'quota' }),
  )
  const full = await create({ ...length, 'upload-metadata': name })
  assert.deepEqual([full.status, full.json().error.reason], [413, 'quota'])
  server.fake.failNext(
    'uploads.create',
    new Fault('full', 'Make room.', { subject: 'project', reason: 'quota' }),
  )
  assert.equal((await server.askSigned('POST', '/v1/uploads', { name: 'a' })).status, 507)
})

test('parts by hand: offsets, checksums, a length told late, and the end', async () => {
  const path = await makePlace(server)
  const bytes = randomBytes(5000)
  const head = await server.ask('HEAD', path, TUS)
  assert.deepEqual(
    [head.status, head.headers['upload-offset'], head.headers['upload-defer-length']],
    [200, '0', '1'],
  )
  assert.equal(head.headers['cache-control'], 'no-store')
  assert.equal(head.headers['upload-length'], undefined)

  const first = await sendPart(server, path, 0, bytes.subarray(0, 1000))
  assert.deepEqual([first.status, first.headers['upload-offset'], first.body.length], [204, '1000', 0])
  assert.ok(first.headers['upload-expires'])
  const wrong = await sendPart(server, path, 999, bytes.subarray(999, 2000))
  assert.deepEqual([wrong.status, wrong.json().error.reason], [409, 'offset'])

  const part = bytes.subarray(1000, 3000)
  for (const algorithm of ['sha256', 'sha1', 'md5']) {
    const sum = (of: Buffer) => `${algorithm} ${createHash(algorithm).update(of).digest('base64')}`
    const bad = await sendPart(server, path, 1000, part, { 'upload-checksum': sum(bytes) })
    assert.deepEqual([bad.status, bad.json().error.reason], [460, 'checksum'])
    assert.equal((await server.ask('HEAD', path, TUS)).headers['upload-offset'], '1000')
  }
  const sum = `sha256 ${createHash('sha256').update(part).digest('base64')}`
  assert.equal(
    (await sendPart(server, path, 1000, part, { 'upload-checksum': sum })).headers['upload-offset'],
    '3000',
  )

  const last = await sendPart(server, path, 3000, bytes.subarray(3000), { 'upload-length': '5000' })
  assert.equal(last.status, 204, last.body.toString())
  assert.match(String(last.headers['calotype-image-id']), /^img-[0-9a-z]{17}$/)
  assert.match(String(last.headers['calotype-task-id']), /^task-[0-9a-z]{17}$/)
  assert.equal(last.headers['upload-expires'], undefined)
  assert.ok(bytesAt(server, path).equals(bytes))
  const after = await server.ask('HEAD', path, TUS)
  assert.deepEqual(
    [after.headers['upload-offset'], after.headers['upload-length'], after.headers['calotype-image-id']],
    ['5000', '5000', last.headers['calotype-image-id']],
  )
})

test('each thing that can be wrong with a part has its own number', async () => {
  const path = await makePlace(server, 10)
  const say = async (headers: Record<string, string>, body = 'abc') => {
    const { status, json } = await server.ask('PATCH', path, headers, body)
    return [status, json().error.kind]
  }
  const at = { ...PART, 'upload-offset': '0' }
  assert.deepEqual(await say({ 'content-type': PART['content-type'], 'upload-offset': '0' }), [
    412,
    'invalid',
  ])
  assert.deepEqual(await say({ ...at, 'tus-resumable': '0.2.1' }), [412, 'invalid'])
  assert.deepEqual(await say({ ...at, 'content-type': 'application/octet-stream' }), [415, 'invalid'])
  assert.deepEqual(await say({ ...at, 'content-encoding': 'gzip' }), [415, 'invalid'])
  assert.deepEqual(await say(PART), [400, 'invalid'])
  for (const offset of ['-1', 'x', '1.5', '9'.repeat(16), '9'.repeat(30), '0, 0'])
    assert.deepEqual(await say({ ...PART, 'upload-offset': offset }), [400, 'invalid'], offset)
  assert.deepEqual(await say({ ...PART, 'upload-offset': String(2 ** 44) }), [413, 'invalid'])
  for (const sum of [
    'sha512 AAAA',
    'sha256',
    'sha256 AAAA',
    'constructor AAAA',
    `md5 ${base64('x'.repeat(17))}`,
  ])
    assert.deepEqual(await say({ ...at, 'upload-checksum': sum }), [400, 'invalid'], sum)
  assert.deepEqual(await say({ ...at, 'upload-length': '11' }), [400, 'invalid'])
  assert.deepEqual(await say(at, 'x'.repeat(11)), [400, 'invalid'])
  assert.deepEqual(server.fake.calls.filter(({ name }) => name === 'uploads.receive').length, 2)

  for (const [fault, status] of [
    [new Fault('conflict', 'Wait.', { subject: 'upload', reason: 'busy' }), 423],
    [new Fault('absent', 'Gone.', { subject: 'upload' }), 404],
    [new Fault('absent', 'Gone.', { subject: 'upload', reason: 'expired' }), 410],
    [new Fault('full', 'Full.', { subject: 'store' }), 413],
    [new Fault('unavailable', 'Later.', { subject: 'store' }), 503],
    [new Fault('invalid', 'Flatten it first.', { subject: 'file', reason: 'backing-file' }), 400],
    [new Fault('invalid', 'Too large a disk.', { subject: 'file', reason: 'too-large' }), 400],
  ] as const) {
    server.fake.failNext('uploads.receive', fault)
    const said = await server.ask('PATCH', path, at, 'abc')
    assert.equal(said.status, status, fault.message)
    const { kind, subject, reason, message } = said.json().error
    assert.deepEqual(
      [kind, subject, reason, message],
      [fault.kind, fault.subject, fault.reason, fault.message],
    )
    assert.equal(said.headers['tus-resumable'], '1.0.0')
  }
  assert.equal(bytesAt(server, path).length, 0)
})

test('a file that is refused is refused to whoever sends it', async () => {
  const path = await makePlace(server, 10)
  const held = server.fake.transfers.uploads.get(tokenOf(path))
  assert.ok(held)
  held.upload = { ...held.upload, state: { at: 'refused', reason: 'It names a backing file.' } }
  const said = await sendPart(server, path, 0, 'abc')
  assert.deepEqual([said.status, said.json().error.message], [400, 'It names a backing file.'])
  assert.equal((await server.ask('HEAD', path, TUS)).status, 200)
})
