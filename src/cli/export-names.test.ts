import assert from 'node:assert/strict'
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import type { RegionId } from '../image/ids.ts'
import type { Image } from '../image/image.ts'
import { encodeInventory } from '../store/bundle/inventory.ts'
import { fakeImage } from '../wire/native/fixture-nouns.ts'
import { type MemoryIoOptions, type Ran, startServer, type TestServer } from './fixture.ts'
import { startProxy, type TestProxy } from './fixture-proxy.ts'

const MIB = 1024 ** 2
const RANGE_BYTES = 1 * MIB
/** Three whole ranges and a part; data here and there, an odd length. */
const FILE_BYTES = 3 * RANGE_BYTES + 5000

function sparseContent(): Buffer {
  const bytes = Buffer.alloc(FILE_BYTES)
  for (const at of [0, 8 * 4096, RANGE_BYTES - 100, 2 * RANGE_BYTES + 70_000])
    randomBytes(200).copy(bytes, at)
  return bytes
}

let server: TestServer
let proxy: TestProxy
let folder: string
let image: Image
let file: string
let content: Buffer
const home = process.cwd()
beforeEach(async () => {
  server = await startServer()
  proxy = await startProxy(server.url)
  folder = mkdtempSync(join(tmpdir(), 'calotype-export-'))
  file = join(folder, 'out.qcow2')
  image = fakeImage({ disks: [{ index: 0, sizeBytes: 4096, bus: 'virtio-blk' }] })
  server.fake.images.set(image.id, image)
  content = sparseContent()
  server.fake.transfers.exported = content
})
afterEach(async () => {
  process.chdir(home)
  await proxy.close()
  await server.gateway.close()
  rmSync(folder, { recursive: true })
})

const runWith = (options: MemoryIoOptions, ...argv: string[]): Promise<Ran> =>
  server.runWith({ ...options, environment: { CALOTYPE_ENDPOINT: proxy.url } }, 'image', ...argv)
const run = (...argv: string[]) => runWith({}, ...argv)
const exported = (...more: string[]) => [
  'export',
  `img-${image.id}`,
  '--format',
  'qcow2',
  '-o',
  file,
  '--part-size',
  '1MiB',
  ...more,
]
const exportInputs = () =>
  server.fake.calls
    .filter((call) => call.name === 'exports.create')
    .map((call) => call.input as { what: object })

test('of several disks one is named, or all are written', async () => {
  image = fakeImage({
    disks: [
      { index: 0, sizeBytes: 4 * 1024 ** 3, bus: 'virtio-blk' },
      { index: 1, sizeBytes: 1024 ** 3, bus: 'virtio-blk' },
    ],
  })
  server.fake.images.set(image.id, image)
  server.fake.transfers.exported = content.subarray(0, 5000)
  const which = await run(...exported())
  assert.equal(which.exitCode, 2)
  assert.match(
    which.stderr,
    /has the disks 0 \(4 GiB\), 1 \(1 GiB\): name one with --disk, or take --all-disks\.\n$/,
  )
  assert.equal((await run(...exported('--disk', '2'))).exitCode, 2)
  assert.equal((await run(...exported('--disk', '1'))).exitCode, 0)
  const all = JSON.parse((await run(...exported('--all-disks', '--json'))).stdout)
  const names = [0, 1].map((index) => join(folder, `out-${index}.qcow2`))
  assert.deepEqual(
    all.files.map((one: { file: string }) => one.file),
    names,
  )
  assert.deepEqual(all.files[1], { file: names[1], sizeBytes: 5000, disk: 1 })
  // Without a name they have the server's.
  process.chdir(folder)
  const { create } = server.fake.app.exports
  let count = 0
  server.fake.app.exports.create = async (...given) => ({
    ...(await create(...given)),
    fileName: `golden-disk${count++}.raw`,
  })
  const named = await run('export', `img-${image.id}`, '--format', 'raw', '--all-disks')
  assert.equal(named.exitCode, 0, named.stderr)
  assert.ok(existsSync('golden-disk0.raw') && existsSync('golden-disk1.raw'))
  server.fake.app.exports.create = create
  assert.deepEqual(
    exportInputs().map(({ what }) => (what as { diskIndex: number }).diskIndex),
    [1, 0, 1, 0, 1],
  )
})

test('without a name it has the one of the image, unless that leads elsewhere', async () => {
  process.chdir(folder)
  server.fake.transfers.exported = content.subarray(0, 5000)
  const export_ = () => run('export', `img-${image.id}`, '--format', 'vhdx')
  server.fake.images.set(image.id, { ...image, name: '金 image 1' })
  assert.equal((await export_()).exitCode, 0)
  for (const name of ['../evil', '.bashrc', '/etc/x', 'a\u202eb', '-rf']) {
    server.fake.images.set(image.id, { ...image, name })
    assert.equal((await export_()).exitCode, 0)
    rmSync(`img-${image.id}-0.vhdx`)
  }
  assert.deepEqual(readdirSync(folder), ['金 image 1.vhdx'])
})

test('an inventory goes out, a bundle comes back', async () => {
  const publicKey = generateKeyPairSync('x25519').publicKey.export({ format: 'jwk' }).x ?? ''
  const recipient = Buffer.from(publicKey, 'base64url').toString('hex')
  const inventory = encodeInventory({ recipient, region: 'cn-hangzhou' as RegionId, pages: [] })
  server.fake.transfers.inventory = inventory
  assert.equal((await run('inventory')).stdout, inventory)
  const there = join(folder, 'there.inventory')
  for (const _again of [1, 2]) assert.equal((await run('inventory', '-o', there)).exitCode, 0)
  assert.equal(readFileSync(there, 'utf8'), inventory)
  const other = join(folder, 'other')
  writeFileSync(other, '{"version":1}')
  const kept = await run('inventory', '-o', other)
  assert.deepEqual([kept.exitCode, /is there already\. .*--force/.test(kept.stderr)], [2, true])
  assert.equal(readFileSync(other, 'utf8'), '{"version":1}')
  assert.equal((await run('inventory', '-o', other, '--force')).exitCode, 0)
  assert.equal(readFileSync(other, 'utf8'), inventory)
  rmSync(other)
  const bundle = join(folder, 'image.bundle')
  const { exitCode, stdout, stderr } = await run('bundle', `img-${image.id}`, '--for', there, '-o', bundle)
  assert.equal(exitCode, 0, stderr)
  const signed = `It is signed with ${'ab'.repeat(32)}: tell that to whoever imports it (--signer).\n`
  assert.equal(stdout, `${bundle} is a bundle of img-${image.id}, 3.0 MiB.\n${signed}`)
  assert.ok(readFileSync(bundle).equals(content))
  assert.deepEqual(exportInputs()[0]?.what, { is: 'bundle', inventory })
  assert.deepEqual(readdirSync(folder).sort(), ['image.bundle', 'there.inventory'])
})
