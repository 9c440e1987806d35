import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { promisify } from 'node:util'
import { isFault } from '../image/fault.ts'
import { nameServer, readAll, startServer, world } from './fetch.fixture.ts'
import { createFetcher } from './fetch.ts'

const run = promisify(execFile)
const never = new AbortController().signal
const START = { offset: 0, etag: undefined }
const PUBLIC = '93.184.215.14'
const refusal = (reason: 'address' | 'url') => (error: unknown) =>
  isFault(error, 'invalid') && error.subject === 'request' && error.reason === reason
const unavailable = (error: unknown) => isFault(error, 'unavailable') && error.subject === 'file'

/** A server that nobody may ever reach. */
async function canary(t: TestContext) {
  const server = await startServer((_, response) => response.end('secret'))
  t.after(() => server.close())
  return server
}

test('guard: a name that leads inside is not connected to, whatever else it answers', async (t) => {
  const inside = await canary(t)
  for (const answers of [
    ...[
      ['127.0.0.1'],
      ['::1'],
      ['::ffff:127.0.0.1'],
      ['10.0.0.1', '192.168.0.1'],
      ['169.254.169.254'],
      ['fd00:ec2::254'],
    ],
    ...[['0.0.0.0'], ['::'], ['64:ff9b::7f00:1'], ['fe80::1%lo'], ['127.0.0.1', '::1'], [], ['nonsense']],
  ]) {
    const { lookup } = nameServer({ 'evil.example': [answers] })
    const places = world(Object.fromEntries(answers.map((address) => [address, inside])))
    const fetcher = createFetcher({ allow: [], lookup, connect: places.connect })
    await assert.rejects(
      fetcher.open({ url: `http://evil.example:${inside.port}/` }, START, never),
      refusal('address'),
    )
    // And with the real way to connect.
    const real = createFetcher({ allow: [], lookup })
    await assert.rejects(
      real.open({ url: `http://evil.example:${inside.port}/` }, START, never),
      refusal('address'),
    )
    assert.deepEqual(places.tried, [])
  }
  assert.equal(inside.connectionCount(), 0)
})

test('guard: of an answer with public and internal addresses only the public ones are tried', async (t) => {
  const inside = await canary(t)
  const outside = await startServer((_, response) => response.end('public'))
  t.after(() => outside.close())
  const { lookup } = nameServer({
    'mixed.example': [['127.0.0.1', '10.0.0.1', '2606:2800::1', PUBLIC, '::1']],
  })
  const places = world({
    [PUBLIC]: outside,
    '127.0.0.1': inside,
    '10.0.0.1': inside,
    '0:0:0:0:0:0:0:1': inside,
  })
  const fetcher = createFetcher({ allow: [], lookup, connect: places.connect })
  assert.equal(
    String(await readAll(await fetcher.open({ url: 'http://mixed.example/' }, START, never))),
    'public',
  )
  assert.deepEqual(places.tried, ['2606:2800:0:0:0:0:0:1 80', `${PUBLIC} 80`])
  assert.equal(inside.connectionCount(), 0)
  assert.equal(outside.requests[0]?.headers.host, 'mixed.example')
})

test('guard: a name is asked for once; what it answers later is not heard', async (t) => {
  const inside = await canary(t)
  const outside = await startServer((_, response) => response.end('public'))
  t.after(() => outside.close())
  const names = nameServer({ 'rebind.example': [[PUBLIC], ['127.0.0.1']] })
  const places = world({ [PUBLIC]: outside, '127.0.0.1': inside })
  const fetcher = createFetcher({ allow: [], lookup: names.lookup, connect: places.connect })
  const url = `http://rebind.example:${inside.port}/`
  assert.equal(fetcher.check({ url }), url)
  assert.equal(String(await readAll(await fetcher.open({ url }, START, never))), 'public')
  assert.deepEqual(names.asked, ['rebind.example'])
  // The second opening hears the second answer, and judges it.
  await assert.rejects(fetcher.open({ url }, START, never), refusal('address'))
  assert.equal(inside.connectionCount(), 0)
})

test('guard: the same name on the next hop is judged again', async (t) => {
  const inside = await canary(t)
  const outside = await startServer((_, response) => {
    response.writeHead(302, { Location: `http://rebind.example:${inside.port}/` }).end()
  })
  t.after(() => outside.close())
  const names = nameServer({ 'rebind.example': [[PUBLIC], ['127.0.0.1']] })
  const places = world({ [PUBLIC]: outside, '127.0.0.1': inside })
  const fetcher = createFetcher({ allow: [], lookup: names.lookup, connect: places.connect })
  await assert.rejects(fetcher.open({ url: 'http://rebind.example/' }, START, never), refusal('address'))
  assert.equal(names.asked.length, 2)
  assert.equal(inside.connectionCount(), 0)
})

test('guard: a connection that leads elsewhere ends before a byte is sent', async (t) => {
  const inside = await canary(t)
  const { lookup } = nameServer({ 'led.example': [[PUBLIC]] })
  const { connect } = await import('node:net')
  const fetcher = createFetcher({
    ...{ allow: [], lookup },
    connect: () => connect({ host: '127.0.0.1', port: inside.port }),
  })
  await assert.rejects(fetcher.open({ url: 'http://led.example/' }, START, never), refusal('address'))
  assert.equal(inside.requests.length, 0)
})

test('guard: public addresses of this very host are internal', async (t) => {
  const inside = await canary(t)
  const places = world({ [PUBLIC]: inside })
  const options = { connect: places.connect, ownAddresses: () => [PUBLIC, '2606:2800::1'] }
  const fetcher = createFetcher({ allow: [], ...options })
  assert.throws(() => fetcher.check({ url: `http://${PUBLIC}/` }), refusal('address'))
  await assert.rejects(fetcher.open({ url: 'http://[2606:2800::1]/' }, START, never), refusal('address'))
  const allowing = createFetcher({ allow: [PUBLIC], ...options })
  assert.equal(
    String(await readAll(await allowing.open({ url: `http://${PUBLIC}/` }, START, never))),
    'secret',
  )
})

test('guard: an allowed name may lead inside, but not to keys of a cloud', async (t) => {
  const server = await startServer((_, response) => response.end('ours'))
  t.after(() => server.close())
  const { lookup } = nameServer({
    'files.intern': [['127.0.0.1']],
    'keys.intern': [['169.254.169.254', '100.100.100.200']],
  })
  const allow = [`Files.Intern:${server.port}`, 'keys.intern']
  const fetcher = createFetcher({ allow, lookup })
  const url = `http://files.intern.:${server.port}/`
  assert.equal(String(await readAll(await fetcher.open({ url }, START, never))), 'ours')
  await assert.rejects(fetcher.open({ url: 'http://keys.intern/' }, START, never), refusal('address'))
  await assert.rejects(fetcher.open({ url: 'http://files.intern:81/' }, START, never), refusal('address'))
})

test('guard: a name that is not found, and a place where nobody is', async () => {
  const { lookup } = nameServer({ 'dead.example': [[PUBLIC, '93.184.215.15']] })
  const places = world({})
  const fetcher = createFetcher({ allow: [], lookup, connect: places.connect })
  await assert.rejects(fetcher.open({ url: 'http://none.example/' }, START, never), unavailable)
  await assert.rejects(fetcher.open({ url: 'http://dead.example/' }, START, never), (error) => {
    // Which of its addresses it was is nobody's business.
    return unavailable(error) && !String((error as Error).message).includes('93.')
  })
  assert.equal(places.tried.length, 2)
})

test('guard: name servers and hosts that never answer end in a fault', async () => {
  const hanging = createFetcher({ allow: [], lookup: () => new Promise(() => {}), connectMs: 20 })
  await assert.rejects(hanging.open({ url: 'http://slow.example/' }, START, never), unavailable)
  const abort = new AbortController()
  const waiting = createFetcher({
    allow: [],
    lookup: () => new Promise(() => abort.abort(new Error('enough'))),
  })
  await assert.rejects(waiting.open({ url: 'http://slow.example/' }, START, abort.signal), /enough/)
})

test('guard: variables of the environment neither name a proxy nor switch checks off', async (t) => {
  const proxy = await canary(t)
  const { folder, key, certificate } = await makeCertificate('files.example')
  t.after(() => rm(folder, { recursive: true, force: true }))
  const secure = createServer({ key, cert: certificate }, (_, response) => response.end('over TLS'))
  await new Promise<void>((resolve) => secure.listen(0, '127.0.0.1', resolve))
  t.after(() => new Promise((resolve) => secure.close(resolve)))
  const plain = await startServer((_, response) => response.end('direct'))
  t.after(() => plain.close())
  const { port } = secure.address() as AddressInfo
  const script = `
    const { createFetcher } = await import(${JSON.stringify(new URL('./fetch.ts', import.meta.url).href)})
    const fetcher = createFetcher({ allow: ['127.0.0.1'] })
    const signal = new AbortController().signal
    const from = { offset: 0, etag: undefined }
    const file = await fetcher.open({ url: '${plain.origin}/' }, from, signal)
    console.log(Buffer.concat(await Array.fromAsync(file.body)).toString())
    await fetcher.open({ url: 'https://127.0.0.1:${port}/' }, from, signal).catch((error) => console.log(error.reason))
  `
  const proxyUrl = proxy.origin
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', script], {
    env: {
      ...process.env,
      ...{
        NODE_USE_ENV_PROXY: '1',
        HTTP_PROXY: proxyUrl,
        HTTPS_PROXY: proxyUrl,
        http_proxy: proxyUrl,
        ALL_PROXY: proxyUrl,
      },
      ...{ NO_PROXY: '', NODE_TLS_REJECT_UNAUTHORIZED: '0', NODE_NO_WARNINGS: '1' },
    },
  })
  assert.deepEqual(stdout.trim().split('\n'), ['direct', 'url'])
  assert.equal(proxy.connectionCount(), 0)
})

test('guard: https is checked against the name, and goes to the address that was judged', async (t) => {
  const { folder, key, certificate } = await makeCertificate('files.example')
  t.after(() => rm(folder, { recursive: true, force: true }))
  let location: string | undefined
  const servers: (string | false | null)[] = []
  const secure = createServer({ key, cert: certificate }, (request, response) => {
    servers.push((request.socket as import('node:tls').TLSSocket).servername ?? null)
    if (location === undefined) response.end(request.headers.host)
    else response.writeHead(302, { Location: location }).end()
  })
  await new Promise<void>((resolve) => secure.listen(0, '127.0.0.1', resolve))
  t.after(() => new Promise((resolve) => secure.close(resolve)))
  const { port } = secure.address() as AddressInfo
  const { lookup } = nameServer({ 'files.example': [['127.0.0.1']], 'other.example': [['127.0.0.1']] })
  const options = { allow: [`127.0.0.1:${port}`], lookup }
  const trusting = createFetcher({ ...options, authority: certificate })
  const url = `https://files.example:${port}/`
  assert.equal(String(await readAll(await trusting.open({ url }, START, never))), `files.example:${port}`)
  assert.deepEqual(servers, ['files.example'])
  for (const [fetcher, wrong] of [
    [trusting, `https://other.example:${port}/`],
    [trusting, `https://127.0.0.1:${port}/`],
    [createFetcher(options), url],
  ] as const) {
    await assert.rejects(fetcher.open({ url: wrong }, START, never), refusal('url'))
  }
  assert.equal(servers.length, 1)
  location = `http://files.example:${port}/`
  await assert.rejects(trusting.open({ url }, START, never), refusal('url'))
  await assert.rejects(trusting.open({ url: location }, START, never), unavailable)
})

async function makeCertificate(name: string) {
  const folder = await mkdtemp(join(tmpdir(), 'calo-fetch-'))
  const files = { key: join(folder, 'key.pem'), certificate: join(folder, 'certificate.pem') }
  await run('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'],
    ...[
      '-subj',
      `/CN=${name}`,
      '-addext',
      `subjectAltName=DNS:${name}`,
      '-keyout',
      files.key,
      '-out',
      files.certificate,
    ],
  ])
  return {
    folder,
    key: await readFile(files.key, 'utf8'),
    certificate: await readFile(files.certificate, 'utf8'),
  }
}
