import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { Fault } from '../image/fault.ts'
import { type MemoryIoOptions, type Ran, startServer, type TestServer } from './fixture.ts'
import { startProxy, type TestProxy } from './fixture-proxy.ts'

const PART_BYTES = 64 * 1024
const DISK_BYTES = 5 * PART_BYTES + 1000

let server: TestServer
let proxy: TestProxy
let folder: string
let disk: string
let content: Buffer
beforeEach(async () => {
  server = await startServer()
  proxy = await startProxy(server.url)
  folder = mkdtempSync(join(tmpdir(), 'calotype-import-'))
  disk = join(folder, 'disk.qcow2')
  content = randomBytes(DISK_BYTES)
  writeFileSync(disk, content)
})
afterEach(async () => {
  await proxy.close()
  await server.gateway.close()
  rmSync(folder, { recursive: true })
})

const state = () => join(folder, 'state')
const run = (argv: readonly string[], options: MemoryIoOptions = {}): Promise<Ran> => {
  const environment = { CALOTYPE_ENDPOINT: proxy.url, XDG_STATE_HOME: state(), ...options.environment }
  return server.runWith({ ...options, environment }, 'image', 'import', ...argv)
}
const upload = (...more: string[]) => [disk, '--name', 'i', '--part-size', '64KiB', ...more]

test('what was found in the file is shown beside what was said of it', async () => {
  const original = server.fake.app.images.get
  server.fake.app.images.get = async (...given) => ({
    ...(await original(...given)),
    imported: {
      ...{ format: 'qcow2 (version 3, zstd), gzip', fileBytes: 1024 ** 3, sha256: 'cd'.repeat(32) },
      ...{ osType: 'Linux' as const, osName: 'Debian GNU/Linux 12', firmware: 'uefi' as const },
    },
  })
  const { stdout } = await run(upload())
  assert.match(stdout, /^system {7}Linux, Debian 12, bios$/m)
  assert.equal((await run(upload('--os-type', 'Linux'))).exitCode, 0)
  assert.match(stdout, /^made of {6}qcow2 \(version 3, zstd\), gzip, 1 GiB\nsha256 {7}(cd){32}$/m)
  assert.match(stdout, /^found in it {2}Debian GNU\/Linux 12, uefi$/m)
  const image = [...server.fake.images.values()][0]
  const shown = await server.run('image', 'show', `img-${image?.id}`)
  assert.match(shown.stdout, /^found in it {2}Debian GNU\/Linux 12, uefi$/m)
  const asJson = JSON.parse((await run(upload('--json'))).stdout)
  assert.match(asJson.uploadId, /^\w{17}$/)
  assert.deepEqual([asJson.tasks[0].state, asJson.image.imported.osName], ['done', 'Debian GNU/Linux 12'])
  const left = JSON.parse((await run(upload('--no-wait', '--json'))).stdout)
  assert.deepEqual(Object.keys(left).sort(), ['imageId', 'taskId', 'uploadId'])
})

test('a system that nobody said or found is shown as assumed', async () => {
  const original = server.fake.app.images.get
  server.fake.app.images.get = async (...given) => ({
    ...(await original(...given)),
    imported: {
      ...{ format: 'raw (no partition table)', fileBytes: 4096, sha256: undefined },
      ...{ osType: undefined, osName: undefined, firmware: undefined },
    },
  })
  assert.match((await run(upload())).stdout, /^system {7}Linux \(assumed\), .*bios$/m)
  assert.match((await run(upload('--os-type', 'Linux'))).stdout, /^system {7}Linux, .*bios$/m)
})

test('an import that failed says why, and how to be rid of its image', async () => {
  server.fake.taskFailure = 'It has a parent'
  const { exitCode, stdout, stderr } = await run(upload())
  assert.deepEqual([exitCode, stdout], [1, ''])
  assert.match(
    stderr,
    /failed: It has a parent\. Delete the failed image: calotype image delete img-\w{17}\n$/,
  )
  const asJson = await run(upload('--json'))
  assert.equal(asJson.exitCode, 1)
  const { imageId, taskId, uploadId, task, image } = JSON.parse(asJson.stdout)
  assert.deepEqual([task.id, task.state, image.id, image.state], [taskId, 'failed', imageId, 'failed'])
  assert.match(uploadId, /^\w{17}$/)
  // Where somebody has deleted it meanwhile.
  server.fake.app.images.get = async () => {
    throw new Fault('absent', 'There is no such image.', { subject: 'image' })
  }
  const gone = await run(upload('--json'))
  assert.deepEqual([gone.exitCode, JSON.parse(gone.stdout).image], [1, null])
  assert.doesNotMatch(gone.stderr, /Delete the failed image/)
})

test('uploads that became images are listed with --all', async () => {
  assert.equal((await run(upload())).exitCode, 0)
  assert.equal((await server.run('image', 'upload', 'list')).stdout, 'No uploads.\n')
  const { stdout } = await server.run('image', 'upload', 'list', '--all')
  assert.match(stdout, /^UPLOAD .*EXPIRES \(UTC\) +IMAGE +REASON\n/)
  assert.match(stdout, /received .*\d{4}-\d\d-\d\d \d\d:\d\d\S* +img-\w{17}$/m)
  assert.equal(stdout.match(/\d{4}-\d\d-\d\d/g)?.length, 1)
})
