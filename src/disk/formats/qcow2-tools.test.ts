import assert from 'node:assert/strict'
import { copyFile, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { makeFolder, runTool, sparseContent } from '../fixture.ts'
import { fileSource, qemuInfo } from './checks.fixture.ts'
import { buildQcow2, type Qcow2Cluster, type Qcow2Recipe } from './qcow2.fixture.ts'
import { inspectQcow2 } from './qcow2.ts'
import { buildQed } from './qed.fixture.ts'
import { inspectQed } from './qed.ts'

const MIB = 1024 * 1024
const OPTIONS = { virtualBytesMax: 64 * 1024 ** 4 }

/** The inspector takes the file, and QEMU reads the same size out of it. */
async function accepted(t: TestContext, path: string, format: 'qcow2' | 'qed'): Promise<string> {
  const source = await fileSource(t, path)
  const disk = await (format === 'qcow2' ? inspectQcow2(source, OPTIONS) : inspectQed(source, OPTIONS))
  const told = await qemuInfo(path, format)
  assert.deepEqual(
    { format: disk.format, virtualBytes: disk.virtualBytes, lengthBytes: disk.lengthBytes },
    { format: told.format, virtualBytes: told.virtualBytes, lengthBytes: source.sizeBytes },
  )
  return disk.variant
}

async function rawDisk(folder: string): Promise<string> {
  const path = join(folder, 'disk.raw')
  // Some of it can be compressed and some cannot; and it is no multiple of any cluster, so the last one is never whole.
  const content = sparseContent(3 * MIB + 512, 7)
  content.fill('Calotype', MIB, MIB + 300_000)
  await writeFile(path, content)
  return path
}

test('what qemu-img makes of a disk is taken, whatever the options', async (t) => {
  const folder = await makeFolder(t)
  const raw = await rawDisk(folder)
  const options: readonly (readonly [name: string, options: string, ...more: string[]])[] = [
    ['version 2', 'compat=0.10'],
    ['version 2, zlib', 'compat=0.10', '-c'],
    ['version 3', 'compat=1.1'],
    ['version 3, zlib', 'compat=1.1', '-c'],
    ['version 3, zstd', 'compression_type=zstd', '-c'],
    ['version 3, zstd', 'compression_type=zstd'],
    ['version 3, extended L2', 'extended_l2=on,cluster_size=128k'],
    ['version 3, extended L2', 'extended_l2=on,cluster_size=16k'],
    ['version 3, zlib, extended L2', 'extended_l2=on', '-c'],
    ['version 3', 'lazy_refcounts=on'],
    ...['512', '1k', '4k', '64k', '2M'].flatMap(
      (size) =>
        [
          ['version 3', `cluster_size=${size}`],
          ['version 3, zlib', `cluster_size=${size}`, '-c'],
          ['version 3, zstd', `cluster_size=${size},compression_type=zstd`, '-c'],
        ] as const,
    ),
    ...['1', '2', '4', '8', '32', '64'].map((bits) => ['version 3', `refcount_bits=${bits}`] as const),
    ...['metadata', 'falloc', 'full'].flatMap(
      (kind) =>
        [
          ['version 3', `preallocation=${kind}`],
          ['version 3, extended L2', `preallocation=${kind},extended_l2=on`],
        ] as const,
    ),
  ]
  for (const [variant, option, ...more] of options) {
    await t.test(`${option} ${more.join(' ')}`, async (t) => {
      const path = join(folder, 'disk.qcow2')
      await runTool('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', ...more, '-o', option, raw, path])
      assert.equal(await accepted(t, path, 'qcow2'), variant)
    })
  }
})

test('a fresh, empty disk of any size is taken', async (t) => {
  const folder = await makeFolder(t)
  for (const [size, option] of [
    ['512', 'cluster_size=64k'],
    ['1G', 'cluster_size=512'],
    ['60T', 'cluster_size=2M'],
    ['50G', 'cluster_size=64k,preallocation=metadata,refcount_bits=1'],
  ] as const) {
    await t.test(`${size} ${option}`, async (t) => {
      const path = join(folder, 'empty.qcow2')
      await runTool('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', option, path, size])
      await accepted(t, path, 'qcow2')
    })
  }
})

test('a disk with a life behind it is taken: snapshots, bitmaps, writes, another size', async (t) => {
  const folder = await makeFolder(t)
  const path = join(folder, 'old.qcow2')
  for (const option of ['cluster_size=4k', 'cluster_size=64k', 'cluster_size=64k,extended_l2=on']) {
    await t.test(option, async (t) => {
      const io = (...commands: string[]) =>
        runTool('qemu-io', ['-f', 'qcow2', ...commands.flatMap((command) => ['-c', command]), path])
      await runTool('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', option, path, '40M'])
      await io('write -P 1 0 300k', 'write -P 2 9M 100k', 'write -z 20M 1M', 'write -c -P 3 30M 64k')
      await runTool('qemu-img', ['snapshot', '-c', 'first', path])
      await io('write -P 4 0 1k', 'discard 9M 64k', 'write -zu 100k 100k')
      await runTool('qemu-img', ['snapshot', '-c', 'second', path])
      await runTool('qemu-img', ['bitmap', '--add', path, 'one', '-f', 'qcow2'])
      await runTool('qemu-img', ['bitmap', '--add', '-g', '512', path, 'two', '-f', 'qcow2'])
      await io('write -P 5 12M 700k')
      await runTool('qemu-img', ['resize', '-q', '-f', 'qcow2', path, '60M'])
      assert.match(await accepted(t, path, 'qcow2'), /snapshots/)
      await runTool('qemu-img', ['snapshot', '-d', 'first', path])
      await runTool('qemu-img', ['bitmap', '--remove', path, 'one', '-f', 'qcow2'])
      await accepted(t, path, 'qcow2')
      await runTool('qemu-img', ['snapshot', '-d', 'second', path])
      await runTool('qemu-img', ['bitmap', '--remove', path, 'two', '-f', 'qcow2'])
      await runTool('qemu-img', ['resize', '-q', '-f', 'qcow2', '--shrink', path, '10M'])
      await accepted(t, path, 'qcow2')
    })
  }
})

test('a disk whose machine was killed with lazy reference counts is taken', async (t) => {
  const folder = await makeFolder(t)
  const path = join(folder, 'lazy.qcow2')
  await runTool('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', 'lazy_refcounts=on', path, '8M'])
  const killed = runTool('qemu-io', [
    '-f',
    'qcow2',
    '-c',
    'write -P 1 0 1M',
    '-c',
    'flush',
    '-c',
    'sigraise 9',
    path,
  ])
  await assert.rejects(killed)
  const { incompatible } = await headerOf(t, path)
  assert.equal(incompatible & 1n, 1n)
  await accepted(t, path, 'qcow2')
})

async function headerOf(t: TestContext, path: string): Promise<{ incompatible: bigint }> {
  const header = await (await fileSource(t, path)).read(0, 104)
  return { incompatible: header.readBigUInt64BE(72) }
}

test('what qemu-img makes as QED is taken', async (t) => {
  const folder = await makeFolder(t)
  const raw = await rawDisk(folder)
  for (const option of [
    'cluster_size=64k',
    'cluster_size=4k,table_size=2',
    'cluster_size=1M,table_size=16',
  ]) {
    await t.test(option, async (t) => {
      const path = join(folder, 'disk.qed')
      await runTool('qemu-img', ['convert', '-f', 'raw', '-O', 'qed', '-o', option, raw, path])
      await accepted(t, path, 'qed')
    })
  }
})

test('files made by hand are right: taken by us, without an error for QEMU, and the same disk for both', async (t) => {
  const folder = await makeFolder(t)
  const piece = (seed: number, sizeBytes: number) => sparseContent(65_536 * 8, seed).subarray(0, sizeBytes)
  const clusters = (sizeBytes: number, isVersion2 = false): ReadonlyMap<number, Qcow2Cluster> =>
    new Map<number, Qcow2Cluster>([
      [0, piece(3, sizeBytes)],
      [1, isVersion2 ? piece(4, sizeBytes) : 'zero'],
      [5, { compressed: Buffer.alloc(sizeBytes, 'compressed') }],
      [6, { compressed: Buffer.alloc(sizeBytes, 'again') }],
      [40, piece(5, sizeBytes)],
    ])
  const recipes: readonly (readonly [name: string, recipe: Qcow2Recipe])[] = [
    ['version 2', { version: 2, virtualBytes: MIB, clusters: clusters(4096, true) }],
    ['zlib', { virtualBytes: MIB, clusters: clusters(4096) }],
    ['zstd', { virtualBytes: MIB, clusters: clusters(4096), compression: 'zstd' }],
    ['smallest', { virtualBytes: MIB + 512, clusterBits: 9, clusters: clusters(512) }],
    ['short header', { virtualBytes: MIB, headerBytes: 104, clusters: clusters(4096) }],
    ['snapshots, bitmaps', { virtualBytes: MIB, snapshotNames: ['a', 'b'], bitmapNames: ['c', 'dd'] }],
    [
      'extended L2',
      {
        virtualBytes: MIB,
        clusterBits: 14,
        hasExtendedL2: true,
        clusters: new Map([
          ...clusters(16_384),
          [41, { bytes: piece(6, 16_384), dataParts: 0x8000_0f01, zeroParts: 0x40 }],
        ]),
      },
    ],
    ...[0, 1, 2, 3, 4, 5, 6].map(
      (refcountOrder) =>
        [`counts of ${2 ** refcountOrder} bits`, { virtualBytes: MIB, refcountOrder }] as const,
    ),
  ]
  for (const [name, recipe] of recipes) {
    await t.test(name, async (t) => {
      const path = join(folder, 'hand.qcow2')
      await writeFile(path, buildQcow2(recipe))
      await runTool('qemu-img', ['check', '-q', '-f', 'qcow2', path])
      await accepted(t, path, 'qcow2')
    })
  }
  await t.test('QED', async (t) => {
    const path = join(folder, 'hand.qed')
    const written = new Map<number, Buffer | 'zero'>([
      [0, piece(8, 4096)],
      [3, 'zero'],
      [9, piece(9, 4096)],
    ])
    await writeFile(path, buildQed({ virtualBytes: MIB, clusters: written }))
    await runTool('qemu-img', ['check', '-q', '-f', 'qed', path])
    await accepted(t, path, 'qed')
    const expected = join(folder, 'expected.raw')
    const raw = Buffer.alloc(MIB)
    for (const [index, bytes] of written) if (bytes !== 'zero') bytes.copy(raw, index * 4096)
    await writeFile(expected, raw)
    await runTool('qemu-img', ['compare', '-f', 'qed', '-F', 'raw', path, expected])
  })
})

test('a file that is cut anywhere in its tables is refused, and so is one without its end', async (t) => {
  const folder = await makeFolder(t)
  const whole = join(folder, 'whole.qcow2')
  const cut = join(folder, 'cut.qcow2')
  await runTool('qemu-img', ['convert', '-O', 'qcow2', '-f', 'raw', await rawDisk(folder), whole])
  const { sizeBytes } = await fileSource(t, whole)
  for (const lengthBytes of [
    80,
    104,
    65_536,
    70_000,
    5 * 65_536 - 1,
    sizeBytes >> 1,
    sizeBytes - 65_536 * 2,
  ]) {
    await copyFile(whole, cut)
    await truncate(cut, lengthBytes)
    const source = await fileSource(t, cut)
    await assert.rejects(inspectQcow2(source, OPTIONS), {
      kind: 'invalid',
      subject: 'file',
      reason: 'truncated',
    })
  }
})
