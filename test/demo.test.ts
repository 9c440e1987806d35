import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { GuestConsole } from '../demo/guest.ts'
import { findServer, type Server, startServer, stopServer } from '../demo/server.ts'
import { importBase } from '../demo/steps.ts'
import { newId, spellId } from '../src/image/ids.ts'

const KEY = { CALOTYPE_ACCESS_KEY_ID: 'demo-first-key', CALOTYPE_ACCESS_KEY_SECRET: 'not-a-real-secret-000' }

async function folder(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'calo-'))
  t.after(() => rm(path, { recursive: true, force: true }))
  return path
}

async function start(
  t: TestContext,
  data: string,
  options: Partial<Parameters<typeof startServer>[0]> = {},
): Promise<Server> {
  const { environment, ...rest } = options
  const server = await startServer({
    data,
    listen: '127.0.0.1:0',
    importDirectory: join(data, 'imports'),
    environment: { CALOTYPE_HOST_DRIVER: 'simulated', ...environment },
    ...rest,
  })
  t.after(() => stopServer(server))
  return server
}

/** A web server of somebody else, who answers everything so. */
async function stranger(t: TestContext, listener: RequestListener): Promise<string> {
  const server = createServer(listener)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

test('with its first key from the environment a server is started, and found again', async (t) => {
  const data = await folder(t)
  const environment = { ...KEY, CALOTYPE_UHOST_REPLAY_WINDOW_SECONDS: '60' }
  const server = await start(t, data, { environment })
  assert.match(server.keySource, /CALOTYPE_ACCESS_KEY_ID/)
  assert.equal(server.key.accessKeyId, KEY.CALOTYPE_ACCESS_KEY_ID)
  await server.native.call('GET', '/v1/regions')
  // The story works with the strictest settings too.
  await server.uhost('GetRegion', {})
  const found = await findServer(data, KEY)
  assert.equal(found?.endpoint.origin, server.endpoint.origin)
  assert.equal(await findServer(data, {}), undefined)
})

test('the endpoint that a killed server left is neither found nor waited for', async (t) => {
  const data = await folder(t)
  const first = await start(t, data)
  assert.equal(first.keySource, join(data, 'access-key.json'))
  await stopServer(first, 'SIGKILL')
  const endpoint = await readFile(join(data, 'endpoint'), 'utf8')
  assert.equal(endpoint.trim(), first.endpoint.origin)
  assert.equal(await findServer(data), undefined)

  // Another server, with other keys, got that port.
  const other = await start(t, await folder(t))
  await writeFile(join(data, 'endpoint'), `${other.endpoint.origin}\n`)
  assert.equal(await findServer(data), undefined)
  const web = await stranger(t, (_, response) => response.end('ok'))
  await writeFile(join(data, 'endpoint'), `${web}\n`)
  assert.equal(await findServer(data), undefined)

  const slow = ['sh', '-c', 'sleep 0.5; exec "$@"', 'sh']
  const second = await start(t, data, { wrapper: slow })
  assert.notEqual(second.endpoint.origin, web)
  await second.native.call('GET', '/v1/regions')
})

test('a start that fails or takes too long shows the end of the log', async (t) => {
  const data = await folder(t)
  const running = await start(t, data)
  await assert.rejects(
    start(t, data),
    /did not start\. The end of .*server\.log:\n(?:.*\n)*.*Another server uses/,
  )
  // The one that runs is as before.
  assert.equal((await findServer(data))?.endpoint.origin, running.endpoint.origin)
  const never = ['sh', '-c', 'echo a first word; exec sleep 600', 'sh']
  await assert.rejects(
    start(t, await folder(t), { wrapper: never, waitMs: 200 }),
    /did not answer in time and was ended\. The end of .*server\.log:\na first word/,
  )
})

test('an import that a found server refuses says that it was found, and what to do', async (t) => {
  const data = await folder(t)
  const own = await start(t, data)
  await assert.rejects(
    importBase(own, 'hk', 'base'),
    (error: Error) => !error.message.includes('found a server'),
  )
  const found = await findServer(data)
  assert(found !== undefined)
  await assert.rejects(
    importBase(found, 'hk', 'base'),
    /^Error: found a server at http:\/\/127\.0\.0\.1:\d+; stop it, or put .*base\.raw into its import folder\. It said: There is no file/,
  )
})

test('a console whose start is no longer kept is read on behind the gap', async () => {
  // Of what was said, the part before `keptFrom` is gone; one read answers few bytes.
  const said = { text: 'guest# old', keptFrom: 0 }
  const call = async (method: string, _path: string, options: { query?: { from: number } }) => {
    if (method === 'POST') {
      said.text += `echo\r\n${'x'.repeat(50)}`
      said.keptFrom = said.text.length - 10
      said.text += '\r\nanswer\r\nguest# '
      return {}
    }
    const from = Math.max(options.query?.from ?? 0, said.keptFrom)
    const bytes = Buffer.from(said.text.slice(from, from + 4))
    return { from, next: from + bytes.length, bytes: bytes.toString('base64') }
  }
  const server = { native: { call } } as unknown as Server
  const console = new GuestConsole(server, { region: 'hk' }, spellId('machine', newId('machine'), 'native'))
  const answer = await console.run('cat file')
  assert.match(answer, /^\[\d+ bytes are no longer kept\]\nx{10}\nanswer$/)
})
