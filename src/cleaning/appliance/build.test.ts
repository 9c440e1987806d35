import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdir, mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { isFault } from '../../image/fault.ts'
import { buildAppliance } from './build.ts'
import { writeCpio } from './cpio.ts'
import { findKernel } from './kernel.ts'
import { readModules } from './modules.ts'

let root: string
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'kernel-'))
})
afterEach(() => rm(root, { recursive: true, force: true }))

const isUnavailable = (error: unknown) => isFault(error, 'unavailable')

/** Of a kernel only what is looked at. */
function kernelBytes(text: string): Buffer {
  const bytes = Buffer.alloc(1024, text)
  bytes.write('HdrS', 0x202)
  return bytes
}

const module = (name: string, ...needs: string[]) =>
  Buffer.from(`\x7fELF ${name}\0license=GPL\0depends=${needs.join(',')}\0name=${name}\0`, 'latin1')

async function addModule(version: string, name: string, bytes: Buffer): Promise<void> {
  const folder = join(root, 'lib/modules', version, 'kernel/drivers')
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, name), bytes)
}

async function addKernel(version: string): Promise<void> {
  await mkdir(join(root, 'boot'), { recursive: true })
  await writeFile(join(root, 'boot', `vmlinuz-${version}`), kernelBytes(version))
  await addModule(version, 'virtio_pci.ko', module('virtio_pci', 'virtio-ring', 'virtio'))
  await addModule(version, 'virtio_ring.ko.zst', zstdCompressSync(module('virtio_ring', 'virtio')))
  await addModule(version, 'virtio.ko.gz', gzipSync(module('virtio')))
  await addModule(version, 'virtio_blk.ko', module('virtio_blk', 'virtio'))
  await addModule(version, 'virtio_console.ko', module('virtio_console'))
  await writeFile(join(root, 'lib/modules', version, 'modules.builtin'), 'kernel/fs/ext4/ext4.ko\n')
}

test('the newest kernel with its modules is taken', async () => {
  await assert.rejects(findKernel([root]), isUnavailable)
  await addKernel('6.9.0-1-amd64')
  await addKernel('6.10.0-1-amd64')
  await mkdir(join(root, 'lib/modules/7.0.0/kernel'), { recursive: true })
  assert.equal((await findKernel([join(root, 'none'), root])).version, '6.10.0-1-amd64')
  // Some keep it beside its modules; one that was built for nothing QEMU boots does not count.
  await addModule('7.0.0', 'x.ko', module('x'))
  await writeFile(join(root, 'lib/modules/7.0.0/vmlinuz'), 'no kernel')
  assert.equal((await findKernel([root])).version, '6.10.0-1-amd64')
  await writeFile(join(root, 'lib/modules/7.0.0/vmlinuz'), kernelBytes('7'))
  assert.equal((await findKernel([root])).path, join(root, 'lib/modules/7.0.0/vmlinuz'))
})

test('modules come after those they stand on, however they are packed', async () => {
  await addKernel('6.1')
  const folder = join(root, 'lib/modules/6.1')
  await writeFile(join(root, 'm.ko'), module('mbcache'))
  execFileSync('xz', [join(root, 'm.ko')])
  await addModule('6.1', 'mbcache.ko.xz', await readFile(join(root, 'm.ko.xz')))
  await addModule('6.1', 'crc32c_generic.ko', module('crc32c_generic', 'mbcache'))
  const modules = await readModules(folder)
  const names = modules.map(({ name }) => name)
  assert.deepEqual(names, [
    ...['mbcache', 'crc32c_generic', 'virtio', 'virtio_ring', 'virtio_pci', 'virtio_blk', 'virtio_console'],
  ])
  assert(modules.every(({ name, bytes }) => bytes.includes(`\x7fELF ${name}`)))
  // Modules that stand on each other come to an end.
  await addModule('6.1', 'virtio.ko.gz', gzipSync(module('virtio', 'virtio_ring')))
  assert.equal((await readModules(folder)).length, 7)
  await writeFile(join(folder, 'modules.builtin'), '')
  await assert.rejects(readModules(folder), isUnavailable)
})

test('an archive is what cpio reads', async () => {
  const archive = writeCpio([
    { is: 'folder', path: 'bin' },
    { is: 'console', path: 'console' },
    { is: 'file', path: 'bin/odd', mode: 0o755, bytes: Buffer.from('12345') },
    { is: 'file', path: 'bin/even', mode: 0o600, bytes: Buffer.alloc(0) },
  ])
  const listed = execFileSync('cpio', ['-itv', '--quiet', '--numeric-uid-gid'], { input: archive }).toString()
  const lines = listed
    .trim()
    .split('\n')
    .map((line) => line.replace(/\s+/g, ' ').replace(/[A-Z]\w\w \d+ [\d:]+ /, ''))
  assert.deepEqual(lines, [
    'drwxr-xr-x 1 0 0 0 bin',
    'crw------- 1 0 0 5, 1 console',
    '-rwxr-xr-x 1 0 0 5 bin/odd',
    '-rw------- 1 0 0 0 bin/even',
  ])
})

test('a cancel ends the making, and nothing of it is kept', async () => {
  await addKernel('6.1')
  const cache = join(root, 'cache')
  const reason = new Error('enough')
  await assert.rejects(buildAppliance(cache, [root], AbortSignal.abort(reason)), reason)
  // After the looking, while it is put together.
  const signal = {
    aborted: false,
    throwIfAborted: () => assert.fail(reason),
    addEventListener() {},
    removeEventListener() {},
  }
  await assert.rejects(buildAppliance(cache, [root], signal as unknown as AbortSignal), reason)
  assert.deepEqual(await readdir(cache), [])
})

test('it is made once, and again when something changes', async () => {
  await addKernel('6.1')
  const cache = join(root, 'cache')
  const [one, other] = await Promise.all([buildAppliance(cache, [root]), buildAppliance(cache, [root])])
  assert.deepEqual(one, other)
  assert.equal((await readdir(cache)).length, 1)
  assert.deepEqual(await readFile(one.kernelPath), kernelBytes('6.1'))
  const names = execFileSync('cpio', ['-it', '--quiet'], {
    input: await readFile(one.initialPath),
  }).toString()
  for (const name of ['init', 'bin/busybox', 'bin/e2fsck', 'bin/rm', 'modules/000-virtio.ko', 'dev/console'])
    assert(names.split('\n').includes(name), name)

  const before = await readdir(cache)
  await buildAppliance(cache, [root])
  assert.deepEqual(await readdir(cache), before)
  await utimes(join(root, 'boot/vmlinuz-6.1'), 1, 1)
  // What a crash left long ago goes too.
  await mkdir(join(cache, '.making-appliance-x'))
  await utimes(join(cache, '.making-appliance-x'), 1, 1)
  await buildAppliance(cache, [root])
  const now = await readdir(cache)
  assert.equal(now.length, 1)
  assert.notDeepEqual(now, before)
})
