import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir, readFile, readlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { makeFolder, runTool, sparseContent } from '../disk/fixture.ts'
import type { ImageFormat } from '../disk/formats/contract.ts'
import { openNbd } from '../disk/nbd-client.ts'
import { isFault } from '../image/fault.ts'
import { convert, makeReader, openFiles, pidsWith, serveFiles, statusOf } from './reader.fixture.ts'

const MIB = 1024 * 1024
const CONTENT = sparseContent(4 * MIB)
const isRoot = process.getuid?.() === 0
const never = new AbortController().signal

/** Each as qemu-img calls it, with what it is told besides. */
const KINDS: readonly (readonly [Exclude<ImageFormat, 'raw'>, string, readonly string[]])[] = [
  ['qcow2', 'qcow2', []],
  ['qcow2', 'qcow2', ['-o', 'compat=0.10']],
  ['qcow2', 'qcow2', ['-c', '-o', 'compression_type=zstd,extended_l2=on']],
  ['vmdk', 'vmdk', []],
  ['vmdk', 'vmdk', ['-o', 'subformat=streamOptimized']],
  ['vhd', 'vpc', ['-o', 'force_size=on']],
  ['vhd', 'vpc', ['-o', 'subformat=fixed,force_size=on']],
  ['vhdx', 'vhdx', []],
  ['vdi', 'vdi', []],
  ['qed', 'qed', []],
]

test('every format reads as what went into it, several disks of a file at once', async (t) => {
  const folder = await makeFolder(t)
  const raw = join(folder, 'content')
  await writeFile(raw, CONTENT)
  const files = await Promise.all(
    KINDS.map(async ([format, driver, options]) => ({
      file: await convert(folder, raw, driver, options),
      format,
      sizeBytes: CONTENT.length,
    })),
  )
  const { reader } = await makeReader(t)
  const { readable } = await openFiles(t, reader, 'a', files)
  assert.equal(readable.length, KINDS.length)
  for (const [index, disk] of readable.entries()) {
    const client = await openNbd(disk)
    assert.ok((await client.read(0, CONTENT.length)).equals(CONTENT), String(KINDS[index]))
    assert.ok(client.readOnly)
    await client.close()
  }
})

test('it runs as a user of its own, without rights, network or files', async (t) => {
  const folder = await makeFolder(t)
  const raw = join(folder, 'content')
  await writeFile(raw, CONTENT)
  const file = await convert(folder, raw, 'qcow2')
  const { reader, runDirectory } = await makeReader(t)
  const facts = new Map((await reader.facts()).map(({ name, isThere }) => [name, isThere]))
  const users = new Set<string>()
  for (const key of ['a', 'b']) {
    await openFiles(t, reader, key, [{ file, format: 'qcow2', sizeBytes: CONTENT.length }])
  }
  const pids = await pidsWith(runDirectory)
  assert.equal(pids.length, 2)
  for (const pid of pids) {
    const status = await statusOf(pid)
    assert.equal(status.get('NoNewPrivs'), '1')
    const limits = await readFile(`/proc/${pid}/limits`, 'utf8')
    assert.match(limits, /^Max file size +0 +0 /m)
    assert.match(limits, /^Max core file size +0 +0 /m)
    assert.match(limits, /^Max address space +4294967296 /m)
    assert.match(limits, /^Max cpu time +301 +306 /m)
    if (!isRoot) continue
    for (const name of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) {
      assert.match(status.get(name) ?? '', /^0+$/, name)
    }
    const [user = ''] = (status.get('Uid') ?? '').split('\t')
    assert.equal(status.get('Uid'), `${user}\t${user}\t${user}\t${user}`)
    assert.ok(Number(user) >= 65_534)
    users.add(user)
    if (facts.get('a user of its own')) assert.match(limits, /^Max processes +96 +96 /m)
    if (facts.get('no network')) {
      assert.notEqual(await readlink(`/proc/${pid}/ns/net`), await readlink('/proc/self/ns/net'))
    }
    if (facts.get('no files but programs and libraries')) {
      const seen = (await readdir(`/proc/${pid}/root`)).filter((name) => !/^(s?bin|lib\w*|usr)$/.test(name))
      assert.deepEqual(seen, ['own'])
      assert.deepEqual((await readdir(`/proc/${pid}/root/own`)).sort(), ['in', 'out'])
    }
  }
  if (facts.get('a user of its own')) assert.equal(users.size, 2)
})

test('a damaged cluster is a fault of the read, and nothing else', async (t) => {
  const folder = await makeFolder(t)
  const raw = join(folder, 'content')
  await writeFile(raw, Buffer.alloc(MIB, 'a line of text\n'))
  const bytes = await readFile(await convert(folder, raw, 'qcow2', ['-c']))
  // Source: qcow2.txt of QEMU: where the table of tables is, then a table, then a compressed cluster of 64 KiB.
  const table = bytes.readBigUInt64BE(Number(bytes.readBigUInt64BE(40))) & 0x00ff_ffff_ffff_fe00n
  const cluster = Number(bytes.readBigUInt64BE(Number(table)) & ((1n << 54n) - 1n))
  bytes.fill(0xff, cluster, cluster + 16)
  const { reader } = await makeReader(t)
  const { readable } = await openFiles(t, reader, 'a', [{ file: bytes, format: 'qcow2', sizeBytes: MIB }])
  const [disk] = readable
  assert.ok(disk)
  const client = await openNbd(disk)
  await assert.rejects(client.read(0, MIB), (error) => isFault(error, 'unavailable'))
  await client.close()
  const again = await openNbd(disk)
  await again.close()
})

test('what QEMU cannot read after all is refused, and leaves no process', async (t) => {
  const folder = await makeFolder(t)
  const raw = join(folder, 'content')
  await writeFile(raw, CONTENT)
  const { reader, runDirectory } = await makeReader(t)
  const isCorrupt = (error: unknown) =>
    isFault(error, 'invalid') && error.subject === 'file' && error.reason === 'corrupt'
  for (const [format, driver, options] of KINDS) {
    const bytes = await readFile(await convert(folder, raw, driver, options))
    const empty = openFiles(t, reader, 'empty', [
      { file: Buffer.alloc(bytes.length), format, sizeBytes: CONTENT.length },
    ])
    await assert.rejects(empty, isCorrupt, `${format} of zeroes`)
    await reader.close('empty')
    const other = openFiles(t, reader, 'other', [{ file: bytes, format, sizeBytes: CONTENT.length + 512 }])
    await assert.rejects(other, isCorrupt, `${format} of another size`)
    assert.deepEqual(await pidsWith(runDirectory), [])
    await reader.close('other')
  }
  assert.deepEqual(await readdir(runDirectory), [])
})

test('what is not served, and an abort, are no fault of the file', async (t) => {
  const { reader, runDirectory } = await makeReader(t)
  const disks = [{ exportName: '0', format: 'qcow2', sizeBytes: MIB }] as const
  const { socketPath } = await reader.prepare('a')
  await assert.rejects(reader.open('a', disks, never), (error) => isFault(error, 'unavailable'))
  await serveFiles(t, socketPath, [])
  await assert.rejects(reader.open('a', disks, never), (error) => isFault(error, 'unavailable'))
  const aborted = AbortSignal.abort(new Error('enough'))
  await assert.rejects(reader.open('a', disks, aborted), /enough/)
  assert.deepEqual(await pidsWith(runDirectory), [])
})

test('a reader that dies is the fault of its clients, and the key can be opened anew', async (t) => {
  const folder = await makeFolder(t)
  const raw = join(folder, 'content')
  await writeFile(raw, CONTENT)
  const file = await convert(folder, raw, 'qcow2')
  const { reader, runDirectory, records } = await makeReader(t)
  const what = [{ file, format: 'qcow2', sizeBytes: CONTENT.length }] as const
  const { readable } = await openFiles(t, reader, 'a', what)
  assert.ok(readable[0])
  const client = await openNbd(readable[0])
  for (const pid of await pidsWith(runDirectory)) process.kill(pid, 'SIGKILL')
  await assert.rejects(client.read(0, 512), (error) => isFault(error, 'unavailable'))
  while (records.length === 0) await new Promise((resolve) => setImmediate(resolve))
  assert.equal(records[0]?.key, 'a')
  const again = await openFiles(t, reader, 'a', what)
  assert.ok(again.readable[0])
  const other = await openNbd(again.readable[0])
  assert.ok((await other.read(0, MIB)).equals(CONTENT.subarray(0, MIB)))
  await other.close()
})

test('nothing is left after the end, whoever began it', async (t) => {
  const folder = await makeFolder(t)
  const raw = join(folder, 'content')
  await writeFile(raw, CONTENT)
  const file = await convert(folder, raw, 'qcow2')
  const { reader, runDirectory } = await makeReader(t)
  const what = [{ file, format: 'qcow2', sizeBytes: CONTENT.length }] as const
  await openFiles(t, reader, 'a', what)
  await openFiles(t, reader, 'b', what)
  await writeFile(join(runDirectory, 'others'), '')
  await reader.close('a')
  await reader.close('a')
  await reader.close('never')
  assert.equal((await pidsWith(runDirectory)).length, 1)

  // A service that is killed: its readers go on, until the next one starts.
  const fixture = join(import.meta.dirname, 'reader-crash.fixture.ts')
  const child = spawn(process.execPath, [fixture, runDirectory, file, String(CONTENT.length)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(child.stdout, 'data')
  child.kill('SIGKILL')
  await once(child, 'exit')
  assert.equal((await pidsWith(`--description=${runDirectory}`)).length, 2)
  await reader.closeAll()
  assert.deepEqual(await pidsWith(runDirectory), [])
  assert.deepEqual(await readdir(runDirectory), ['others'])
  await reader.closeAll()
})

test('a file that names another gets nothing of the host, even if it was never inspected', async (t) => {
  const folder = await makeFolder(t)
  const canary = join(folder, 'canary')
  await writeFile(canary, Buffer.alloc(MIB, 'canary'))
  const { reader } = await makeReader(t)
  const path = join(folder, 'overlay')
  await runTool('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', canary, '-F', 'raw', path])
  const { readable } = await openFiles(t, reader, 'a', [{ file: path, format: 'qcow2', sizeBytes: MIB }])
  assert.ok(readable[0])
  const client = await openNbd(readable[0])
  assert.ok((await client.read(0, MIB)).equals(Buffer.alloc(MIB)))
  await client.close()
  const outside = join(folder, 'outside')
  await runTool('qemu-img', [
    'create',
    '-q',
    '-f',
    'qcow2',
    '-o',
    `data_file=${canary},data_file_raw=on`,
    outside,
    '1M',
  ])
  const opened = openFiles(t, reader, 'b', [{ file: outside, format: 'qcow2', sizeBytes: MIB }])
  // With no more than limits, that it was inspected is all that keeps it from what the service itself may read.
  const facts = (await reader.facts()).filter(({ isThere }) => isThere).map(({ name }) => name)
  const isHeld = ['no files but programs and libraries', 'another user'].some((name) => facts.includes(name))
  if (isHeld) await assert.rejects(opened, (error) => isFault(error))
  else await opened
})
