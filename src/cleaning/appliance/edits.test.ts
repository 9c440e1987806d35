import assert from 'node:assert/strict'
import { link, mkdir, open, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { isFault } from '../../image/fault.ts'
import type { Edit } from '../../volume/contract.ts'
import {
  type Bench,
  checkExt4,
  debugfs,
  debugfsWrite,
  MIB,
  namesIn,
  openBench,
  putExt4,
  withCache,
} from './appliance.fixture.ts'

let cache: Awaited<ReturnType<typeof withCache>>
before(async () => {
  cache = await withCache()
})
after(() => cache.remove())

async function onBench(work: (bench: Bench, tree: string) => Promise<void>): Promise<void> {
  const bench = await openBench(cache.cacheFolder)
  try {
    const tree = join(bench.folder, 'tree')
    await mkdir(tree)
    await work(bench, tree)
  } finally {
    await bench.close()
  }
}

/** Names that a shell, a list or a decoder may stumble over; bytes that are no UTF-8 as the contract has them. */
const ODD_NAMES = [
  'line\nbreak',
  '-rf',
  '--',
  '*',
  ' blanks ',
  'quo\'te"$(touch x)`touch y`;&|',
  'back\\nslash',
  'bad\udcff\udc81\udc88',
  '李雷',
  '\u0001\u007f',
  'n'.repeat(255),
]

const bytesOf = (name: string) =>
  Buffer.concat(
    Array.from(name, (one) =>
      /[\udc80-\udcff]/.test(one) && one.length === 1
        ? Buffer.of(one.charCodeAt(0) - 0xdc00)
        : Buffer.from(one),
    ),
  )

async function fill(tree: string): Promise<void> {
  const folder = (...names: string[]) => mkdir(join(tree, ...names), { recursive: true })
  await folder('etc')
  await folder('kept')
  await folder('many')
  await folder('odd')
  await folder('deep')
  await folder('-dash', 'x y')
  await folder('locked')
  await writeFile(join(tree, 'etc/machine-id'), 'old machine id\n', { mode: 0o600 })
  await writeFile(join(tree, 'kept/shared'), 'shared bytes')
  await writeFile(join(tree, 'kept/target'), 'target bytes')
  await link(join(tree, 'kept/shared'), join(tree, 'many/also shared'))
  await symlink('/kept/target', join(tree, 'many/link'))
  await symlink('../kept', join(tree, 'many/folder link'))
  await symlink('/kept/target', join(tree, 'etc/link'))
  await writeFile(join(tree, 'many/.hidden'), 'x')
  await writeFile(join(tree, 'many/resident'), Buffer.alloc(300_000, 'r'))
  for (let index = 0; index < 500; index += 1) await writeFile(join(tree, `many/file ${index}`), `${index}`)
  await writeFile(join(tree, 'odd/kept'), 'x')
  for (const name of ODD_NAMES)
    await writeFile(Buffer.concat([Buffer.from(`${tree}/odd/`), bytesOf(name)]), 'x')
  await writeFile(join(tree, '-dash/x y/log'), 'a line\n', { mode: 0o640 })
  await writeFile(join(tree, 'locked/history'), 'secret')
  await writeFile(join(tree, 'locked/fixed'), 'secret')
  await writeFile(Buffer.from(`${tree}/locked/${BAD}`, 'latin1'), 'secret')
}

const EDITS: readonly Edit[] = [
  { is: 'empty', path: ['many'] },
  ...ODD_NAMES.map((name) => ({ is: 'remove', path: ['odd', name] }) as const),
  { is: 'remove', path: ['deep'] },
  { is: 'empty', path: ['-dash', 'x y', 'log'] },
  { is: 'empty', path: ['locked', 'history'] },
  { is: 'remove', path: ['locked', 'fixed'] },
  { is: 'remove', path: ['locked', 'bad\udcff\udc81\udc88'] },
  { is: 'write', path: ['etc', 'machine-id'], content: 'uninitialized\n\n', mode: 0o444 },
  { is: 'write', path: ['etc', 'link'], content: '%s\\n', mode: 0o600 },
  { is: 'write', path: ['new', '-folder', 'file'], content: '', mode: 0o755 },
  { is: 'link', path: ['new', 'link'], target: '-to\nsome where' },
  { is: 'link', path: ['kept', 'replaced'], target: '/dev/null' },
]

const IMMUTABLE = 0x80010
const APPEND_ONLY = 0x80020
/** In latin1. */
const BAD = 'bad\xff\x81\x88'

async function harden(disk: string): Promise<void> {
  // A tree deeper than any path may be long, and marks that forbid changes to root.
  const steps = Array.from(
    { length: 30 },
    (_, index) => `mkdir ${`d${index}`.padEnd(200, 'd')}\ncd ${`d${index}`.padEnd(200, 'd')}`,
  )
  const marks = [
    `set_inode_field /locked/history flags ${APPEND_ONLY}`,
    `set_inode_field /locked/fixed flags ${IMMUTABLE}`,
    `set_inode_field /locked/${BAD} flags ${IMMUTABLE}`,
    `set_inode_field /locked flags ${APPEND_ONLY}`,
  ]
  await debugfsWrite(disk, ['cd /deep', ...steps, ...marks, ''].join('\n'))
}

test('every kind of edit, with odd names, on blocks of 1 and 4 KiB, inside a disk and on a whole one', () =>
  onBench(async (bench, tree) => {
    await fill(tree)
    const whole = await bench.addDisk(64 * MIB)
    const parted = await bench.addDisk(72 * MIB)
    const shapes = [
      { disk: whole, offset: 0, blockBytes: 4096 },
      { disk: parted, offset: 3 * MIB, blockBytes: 1024 },
    ]
    for (const { disk, offset, blockBytes } of shapes) {
      const path = `${bench.folder}/made`
      await writeFile(path, '')
      await putExt4(path, 0, 64 * MIB, tree, ['-b', String(blockBytes)])
      await harden(path)
      const bytes = await readFile(path)
      await writeAt(disk, offset, bytes)
    }
    const edge = Buffer.alloc(MIB, 'e')
    await writeAt(parted, 2 * MIB, edge)
    await writeAt(parted, 67 * MIB, edge)

    const appliance = await bench.start(
      shapes.map(({ offset }, diskIndex) => ({ diskIndex, offset, lengthBytes: 64 * MIB })),
    )
    assert.deepEqual(appliance.checks, ['clean', 'clean'])
    assert.match(appliance.tools.kernel ?? '', /^\d+\.\d+/)
    assert.match(appliance.tools.e2fsprogs ?? '', /^\d+\.\d+/)
    assert(appliance.bootMs > 0)
    await appliance.apply([0, 1].map((volume) => ({ volume, edits: EDITS })))
    await appliance.end()
    await appliance.end()

    for (const { disk, offset } of shapes) {
      const look = (command: string) => debugfs(disk, offset, command)
      const names = (path: string) => namesIn(disk, offset, path)
      assert.equal(await checkExt4(disk, offset), 0)
      assert.deepEqual(await names('/'), [
        '-dash',
        'etc',
        'kept',
        'locked',
        'lost+found',
        'many',
        'new',
        'odd',
      ])
      assert.deepEqual(await names('/many'), [])
      assert.deepEqual(await names('/odd'), ['kept'])
      assert.deepEqual(await names('/locked'), ['history'])
      assert.deepEqual(await names('/kept'), ['replaced', 'shared', 'target'])
      assert.equal(await look('cat /kept/shared'), 'shared bytes')
      assert.equal(await look('cat /kept/target'), 'target bytes')
      assert.match(await look('stat /kept/shared'), /Links: 1 /)
      assert.match(await look('stat "/-dash/x y/log"'), /Mode: +0640 .*Size: 0\n/s)
      assert.match(await look('stat /locked/history'), /Flags: 0x80020\n.*Size: 0\n/s)
      assert.match(await look('stat /locked'), /Flags: 0x80020\n/)
      assert.equal(await look('cat /etc/machine-id'), 'uninitialized\n\n')
      assert.match(await look('stat /etc/machine-id'), /Mode: +0444 .*User: +0 +Group: +0 /s)
      assert.equal(await look('cat /etc/link'), '%s\\n')
      assert.match(await look('stat /etc/link'), /Type: regular +Mode: +0600 /)
      assert.match(await look('stat /new/-folder'), /Type: directory +Mode: +0755 .*User: +0 +Group: +0 /s)
      assert.match(await look('stat /new/-folder/file'), /Mode: +0755 .*Size: 0\n/s)
      assert.match(await look('stat /new/link'), /Fast link dest: "-to\nsome where"/)
      assert.match(await look('stat /kept/replaced'), /Fast link dest: "\/dev\/null"/)
    }
    const bytes = await readFile(parted)
    assert(bytes.subarray(2 * MIB, 3 * MIB).equals(edge), 'nothing before the volume changes')
    assert(bytes.subarray(67 * MIB, 68 * MIB).equals(edge), 'nothing behind the volume changes')
  }))

test('a file system without room is refused as full', () =>
  onBench(async (bench, tree) => {
    const disk = await bench.addDisk(8 * MIB)
    await putExt4(disk, 0, 8 * MIB, tree, ['-b', '1024'])
    const free = /Free blocks: +(\d+)/.exec(await debugfs(disk, 0, 'stats -h'))?.[1]
    const filler = join(bench.folder, 'filler')
    await writeFile(filler, Buffer.alloc((Number(free) - 60) * 1024, 'f'))
    await debugfsWrite(disk, `write ${filler} filler\n`)
    const appliance = await bench.start([{ diskIndex: 0, offset: 0, lengthBytes: 8 * MIB }])
    const content = 'x'.repeat(100_000)
    const asked = appliance.apply([
      { volume: 0, edits: [{ is: 'write', path: ['big'], content, mode: 0o600 }] },
    ])
    await assert.rejects(asked, (error) => isFault(error, 'conflict') && error.reason === 'full')
  }))

test('a path through a link is not followed', () =>
  onBench(async (bench, tree) => {
    await mkdir(join(tree, 'kept'))
    await writeFile(join(tree, 'kept/file'), 'bytes')
    await symlink('kept', join(tree, 'way'))
    const disk = await bench.addDisk(8 * MIB)
    await putExt4(disk, 0, 8 * MIB, tree)
    const appliance = await bench.start([{ diskIndex: 0, offset: 0, lengthBytes: 8 * MIB }])
    const asked = appliance.apply([{ volume: 0, edits: [{ is: 'remove', path: ['way', 'file'] }] }])
    await assert.rejects(asked, (error) => isFault(error, 'conflict') && error.reason === 'damaged')
    assert.equal(await debugfs(disk, 0, 'cat /kept/file'), 'bytes')
  }))

async function writeAt(path: string, offset: number, bytes: Buffer): Promise<void> {
  const handle = await open(path, 'r+')
  try {
    await handle.write(bytes, 0, bytes.length, offset)
  } finally {
    await handle.close()
  }
}
