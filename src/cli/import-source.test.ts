import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { startServer, type TestServer } from './fixture.ts'
import { startProxy, type TestProxy } from './fixture-proxy.ts'
import { abortable } from './interrupt.ts'

let server: TestServer
let proxy: TestProxy
let folder: string
let disk: string
const content = Buffer.alloc(5000, 'disk')
const home = process.cwd()
beforeEach(async () => {
  server = await startServer()
  proxy = await startProxy(server.url)
  folder = mkdtempSync(join(tmpdir(), 'calotype-import-'))
  disk = join(folder, 'disk.qcow2')
  writeFileSync(disk, content)
})
afterEach(async () => {
  process.chdir(home)
  await proxy.close()
  await server.gateway.close()
  rmSync(folder, { recursive: true })
})

const run = (argv: readonly string[]) => {
  const environment = { CALOTYPE_ENDPOINT: proxy.url, XDG_STATE_HOME: join(folder, 'state') }
  return server.runWith({ environment }, 'image', 'import', ...argv)
}
const arrived = () => [...server.fake.transfers.uploads.values()].map((one) => Buffer.concat(one.bytes))
const inputOf = (name: string) =>
  server.fake.calls.findLast((call) => call.name === name)?.input as Record<string, unknown>

test('a folder is no file', async () => {
  const { exitCode, stderr } = await run([folder, '--name', 'i'])
  assert.deepEqual([exitCode, stderr], [2, `calotype: ${folder} is a folder; name a file in it.\n`])
})

test('standard input that cannot be read is told of', () => {
  const program = join(import.meta.dirname, '../main.ts')
  const closed = spawnSync(
    'sh',
    ['-c', `exec "$0" "$1" image import - --name i < "$2"`, process.execPath, program, folder],
    {
      encoding: 'utf8',
      env: { CALOTYPE_ENDPOINT: proxy.url, CALOTYPE_ACCESS_KEY_ID: 'k', CALOTYPE_ACCESS_KEY_SECRET: 's' },
    },
  )
  assert.match(closed.stderr, /^calotype: Cannot read standard input \(EISDIR\)\./)
  assert.equal(closed.status, 1)
})

test('addresses are fetched by the server, and its own files are named', async () => {
  const secretFile = join(folder, 'secret')
  writeFileSync(secretFile, 'k3y\n')
  const s3 = [
    '--s3-endpoint',
    'https://s3.example',
    '--s3-region',
    'r',
    '--s3-key-id',
    'id',
    '--s3-secret-file',
    secretFile,
  ]
  const said = await run([
    's3://bucket/key.vmdk',
    '--name',
    'i',
    ...s3,
    '--checksum',
    `md5:${'0'.repeat(32)}`,
  ])
  assert.equal(said.exitCode, 0, said.stderr)
  assert.match(said.stdout, /^Image img-\w+ is being made\. Follow it: calotype task wait task-\w+\n$/)
  const { from, checksum } = inputOf('images.import')
  assert.deepEqual(from, {
    is: 'url',
    source: {
      url: 's3://bucket/key.vmdk',
      s3: { endpoint: 'https://s3.example', region: 'r', keyId: 'id', secret: 'k3y' },
    },
  })
  assert.deepEqual(checksum, { algorithm: 'md5', hex: '0'.repeat(32) })
  const waited = await run(['https://example.org/d.raw', '--name', 'i', '--wait'])
  assert.match(waited.stdout, /is available/)
  assert.deepEqual(inputOf('images.import').from, { is: 'url', source: { url: 'https://example.org/d.raw' } })
  for (const argv of [['no-such-file-here.raw'], ['--server-file', 'no-such-file-here.raw']]) {
    assert.equal((await run([...argv, '--name', 'i', '--signer', 'EF'.repeat(32)])).exitCode, 0)
    assert.deepEqual(inputOf('images.import').from, { is: 'file', fileName: 'no-such-file-here.raw' })
    assert.equal(inputOf('images.import').signer, 'ef'.repeat(32))
  }
  assert.equal(server.fake.transfers.uploads.size, 0)
  // A plain name that a file here has is that file.
  process.chdir(folder)
  assert.equal((await run(['disk.qcow2', '--name', 'i'])).exitCode, 0)
  assert.deepEqual(arrived(), [content])
})

test('what cannot be meant is bad usage, and nothing is sent', async () => {
  const secretFile = join(folder, 'secret')
  writeFileSync(secretFile, 'two words\n')
  const empty = join(folder, 'empty')
  writeFileSync(empty, '')
  const s3 = ['s3://b/k', '--s3-key-id', 'i']
  for (const argv of [
    [],
    [''],
    [join(folder, 'none')],
    [folder],
    [empty],
    ['ftp://example.org/d'],
    [disk, '--server-file', 'd'],
    ['d.raw', '--restart'],
    ['-', '--restart'],
    ['d.raw', '--part-size', '1MiB'],
    ['d.raw', '--no-wait', '--timeout', '1'],
    [...s3],
    [...s3, '--s3-secret-file', join(folder, 'none')],
    [...s3, '--s3-secret-file', secretFile],
    [disk, '--s3-region', 'r'],
    [disk, '--sha256', 'abc'],
    [disk, '--checksum', 'crc:00'],
    [disk, '--checksum', 'sha1'],
    [disk, '--sha256', 'a'.repeat(64), '--sha512', 'a'.repeat(128)],
    [disk, '--signer', 'abc'],
    [disk, '--part-size', '1KiB'],
    [disk, '--part-size', '1GiB'],
    [disk, '--format', 'iso'],
  ]) {
    const { exitCode, stdout, stderr } = await run(['--name', 'i', ...argv])
    assert.deepEqual([exitCode, stdout], [2, ''], `${argv.join(' ')}: ${stderr}`)
    assert.notEqual(stderr, '')
  }
  assert.deepEqual(proxy.passed, [])
})

test('work that is no longer waited for may fail unheard', async () => {
  const stopped = new Error('Ctrl-C')
  for (const signal of [AbortSignal.abort(stopped), AbortSignal.timeout(1)]) {
    const work = new Promise<never>((_, reject) => setTimeout(() => reject(new Error('late')), 20))
    await assert.rejects(
      async () => abortable(work, signal),
      (error) => error === signal.reason,
    )
    await assert.rejects(work, /late/)
  }
  assert.equal(await abortable(Promise.resolve(1), new AbortController().signal), 1)
})
