import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { Fault, isFault } from '../image/fault.ts'
import type { Disk } from './contract.ts'
import { lendDisk } from './extents.ts'
import { makeFolder, runTool, serveDisk, sparseContent } from './fixture.ts'
import { memoryDisk } from './memory-disk.ts'
import { openNbd } from './nbd-client.ts'
import { serveNbd } from './nbd-server.ts'

const MIB = 1024 * 1024

async function serveContent(t: TestContext, content: Buffer) {
  const folder = await makeFolder(t)
  const path = join(folder, 'raw')
  await writeFile(path, content)
  const address = await serveDisk(t, memoryDisk(content))
  return { ...address, folder, path, uri: `nbd+unix:///?socket=${address.socketPath}` }
}

test('nbdinfo sees size, flags, block sizes and block status', async (t) => {
  const { uri } = await serveContent(t, sparseContent(MIB))
  const { exports } = JSON.parse(await runTool('nbdinfo', ['--json', uri]))
  const [info] = exports
  assert.equal(info['export-size'], MIB)
  assert.deepEqual(info.contexts, ['base:allocation'])
  assert.equal(info.is_read_only, true)
  assert.equal(info.can_multi_conn, true)
  assert.equal(info.can_df, true)
  assert.equal(info.can_cache, true)
  assert.equal(info.can_flush, true)
  assert.equal(info.can_trim, false)
  assert.equal(info.can_zero, false)
  assert.equal(info.block_size_minimum, 1)
  assert.equal(info.block_size_maximum, 32 * MIB)
})

test('nbdinfo --map and qemu-img map see the extents', async (t) => {
  const content = sparseContent(4 * MIB, 6)
  const { uri } = await serveContent(t, content)
  const expected = await memoryDisk(content).extents(0, content.length)
  const byNbdinfo = JSON.parse(await runTool('nbdinfo', ['--map', '--json', uri])).map(
    (run: { offset: number; length: number; type: number }) => ({
      offset: run.offset,
      lengthBytes: run.length,
      holds: run.type === 3 ? 'zero' : 'data',
    }),
  )
  assert.deepEqual(byNbdinfo, expected)
  const byQemu = JSON.parse(await runTool('qemu-img', ['map', '-f', 'raw', '--output=json', uri])).map(
    (run: { start: number; length: number; zero: boolean }) => ({
      offset: run.start,
      lengthBytes: run.length,
      holds: run.zero ? 'zero' : 'data',
    }),
  )
  assert.deepEqual(byQemu, expected)
})

test('nbdcopy and qemu-img find equal bytes', async (t) => {
  const content = sparseContent(40 * MIB, 2)
  const { uri, folder, path } = await serveContent(t, content)
  await runTool('nbdcopy', [uri, join(folder, 'copy')])
  assert.ok((await readFile(join(folder, 'copy'))).equals(content))
  const said = await runTool('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', uri, path])
  assert.match(said, /identical/)
  await runTool('nbdcopy', ['--no-extents', '--connections=4', '--requests=64', uri, join(folder, 'again')])
  assert.ok((await readFile(join(folder, 'again'))).equals(content))
})

test('qemu-io reads the bytes, and an overlay over the export reads and writes', async (t) => {
  const content = Buffer.alloc(MIB, 0x5a)
  const { uri, folder } = await serveContent(t, content)
  const said = await runTool('qemu-io', ['-r', '-f', 'raw', '-c', 'read -v 1000 32', uri])
  assert.match(said, /000003e8:( +5a){16}/)
  assert.match(said, /read 32\/32 bytes at offset 1000/)
  const overlay = join(folder, 'overlay')
  await runTool('qemu-img', ['create', '-f', 'qcow2', '-b', uri, '-F', 'raw', overlay])
  await runTool('qemu-io', ['-f', 'qcow2', '-c', 'write -P 0x11 4096 512', overlay])
  const check = ['-f', 'qcow2', '-c', 'read -P 0x11 4096 512', '-c', 'read -P 0x5a 4608 100000', overlay]
  const checked = await runTool('qemu-io', check)
  assert.doesNotMatch(checked, /Pattern verification failed/)
})

test('names: found, listed, missing; block status belongs to its export alone', async (t) => {
  const socketPath = join(await makeFolder(t), 's')
  const names = ['first', 'ümläut', 'third']
  let openCount = 0
  const server = await serveNbd({
    listen: { socketPath },
    list: async () => names,
    resolve: async (exportName) => {
      const index = names.indexOf(exportName)
      if (index < 0) throw new Fault('absent', `There is no disk '${exportName}'.`, { subject: 'disk' })
      openCount++
      const disk = memoryDisk(Buffer.alloc(4096 * (index + 1)))
      return { ...disk, close: async () => void openCount-- }
    },
  })
  t.after(() => server.close())
  const listed = JSON.parse(
    await runTool('nbdinfo', ['--list', '--json', `nbd+unix:///?socket=${socketPath}`]),
  )
  assert.deepEqual(
    listed.exports.map((each: Record<string, unknown>) => [each['export-name'], each['export-size']]),
    [
      ['first', 4096],
      ['ümläut', 8192],
      ['third', 12288],
    ],
  )
  const client = await openNbd({ socketPath, exportName: 'ümläut' })
  assert.equal(client.sizeBytes, 8192)
  await client.close()
  await assert.rejects(openNbd({ socketPath, exportName: 'fourth' }), (error) => isFault(error, 'absent'))
  await assert.rejects(
    runTool('nbdinfo', [`nbd+unix:///fourth?socket=${socketPath}`]),
    /No such file or directory for export: fourth/,
  )
  await server.close()
  assert.equal(openCount, 0, 'every disk that was opened is closed')
})

test('a disk that fails is EIO at the client; the connection lives, and the log hears why', async (t) => {
  const inner = memoryDisk(sparseContent(MIB))
  const failing: Disk = {
    ...inner,
    read: async (offset, lengthBytes) => {
      if (offset === 4096) throw new Error('a bug')
      if (offset === 8192) throw new Fault('corrupt', 'Chunk 5 is broken.')
      if (offset === 12288) return Buffer.alloc(1)
      return inner.read(offset, lengthBytes)
    },
  }
  const socketPath = join(await makeFolder(t), 's')
  const reported: unknown[] = []
  const report = (error: unknown) => void reported.push(error)
  const server = await serveNbd({ listen: { socketPath }, resolve: async () => failing, report })
  t.after(() => server.close())
  const client = await openNbd({ socketPath, exportName: '' })
  for (const offset of [4096, 8192, 12288]) {
    await assert.rejects(
      client.read(offset, 4096),
      (error) => isFault(error, 'unavailable') && error.reason === 'EIO',
    )
  }
  assert.equal((await client.read(0, 4096)).length, 4096)
  assert.deepEqual(reported.map(String), [
    'Error: a bug',
    'Fault: Chunk 5 is broken.',
    'Fault: The disk answered short.',
  ])
  const uri = `nbd+unix:///?socket=${socketPath}`
  await assert.rejects(
    runTool('nbdcopy', ['--no-extents', '--request-size=4096', uri, 'null:']),
    /Input\/output error/,
  )
  await client.close()
})

test('a resolver that fails refuses the client with its words only', async (t) => {
  const socketPath = join(await makeFolder(t), 's')
  const reported: unknown[] = []
  const server = await serveNbd({
    listen: { socketPath },
    resolve: async () => {
      throw new Error('password is hunter2')
    },
    report: (error) => void reported.push(error),
  })
  t.after(() => server.close())
  const uri = `nbd+unix:///?socket=${socketPath}`
  await assert.rejects(runTool('nbdinfo', [uri]), (error) => !String(error).includes('hunter2'))
  await assert.rejects(openNbd({ socketPath, exportName: '' }), (error) => isFault(error, 'unavailable'))
  assert.ok(reported.length > 0)
})

test('closing ends the clients and lets go of the socket; a lent disk stays open', async (t) => {
  const inner = memoryDisk(Buffer.alloc(4096))
  let closeCount = 0
  const counted = { ...inner, close: async () => void closeCount++ }
  const socketPath = join(await makeFolder(t), 's')
  const first = await serveNbd({ listen: { socketPath }, resolve: async () => lendDisk(counted) })
  const client = await openNbd({ socketPath, exportName: '' })
  await Promise.all([first.close(), first.close()])
  await assert.rejects(client.read(0, 1), (error) => isFault(error, 'unavailable'))
  assert.equal(closeCount, 0)
  const second = await serveNbd({ listen: { socketPath }, resolve: async () => inner })
  const again = await openNbd({ socketPath, exportName: '' })
  await again.read(0, 1)
  await second.close()
})
