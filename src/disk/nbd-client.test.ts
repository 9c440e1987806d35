import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import fc from 'fast-check'
import { isFault } from '../image/fault.ts'
import type { Disk } from './contract.ts'
import { makeFolder, runTool, serveDisk, sparseContent, startTool } from './fixture.ts'
import { memoryDisk } from './memory-disk.ts'
import { openNbd } from './nbd-client.ts'
import { checkExtents } from './suite.ts'

const MIB = 1024 * 1024
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

async function startQemuNbd(t: TestContext, format: string, path: string, args: string[] = ['-r']) {
  const socketPath = join(await makeFolder(t), 's')
  const all = [...args, '-t', '-e', '8', '-f', format, '-k', socketPath, path]
  return { child: await startTool(t, 'qemu-nbd', all, socketPath), socketPath }
}

test('random sparse disks: the same bytes and extents through our server and client', async (t) => {
  const block = fc.uint8Array({ minLength: 4096, maxLength: 4096 })
  const piece = fc.oneof(fc.constant(new Uint8Array(16384)), fc.constant(new Uint8Array(4096)), block)
  const pieces = fc.array(piece, { minLength: 1, maxLength: 24 })
  await fc.assert(
    fc.asyncProperty(pieces, fc.nat(), fc.nat(), async (list, first, second) => {
      const content = Buffer.concat(list)
      const disk = memoryDisk(content)
      const client = await openNbd(await serveDisk(t, disk))
      const from = Math.min(first % content.length, second % content.length)
      const lengthBytes = Math.max(first % content.length, second % content.length) - from
      assert.ok((await client.read(0, content.length)).equals(content))
      assert.ok((await client.read(from, lengthBytes)).equals(content.subarray(from, from + lengthBytes)))
      assert.deepEqual(await client.extents(0, content.length), await disk.extents(0, content.length))
      assert.deepEqual(await client.extents(from, lengthBytes), await disk.extents(from, lengthBytes))
      await client.close()
    }),
    { numRuns: 60 },
  )
})

test('a sparse qcow2 behind qemu-nbd: its extents, and all its bytes by the extents alone', async (t) => {
  const folder = await makeFolder(t)
  const raw = join(folder, 'raw')
  const content = Buffer.alloc(48 * MIB)
  sparseContent(3 * MIB, 7).copy(content, 5 * MIB)
  sparseContent(2 * MIB, 8).copy(content, 40 * MIB)
  await writeFile(raw, content)
  await runTool('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, join(folder, 'q')])
  const { socketPath } = await startQemuNbd(t, 'qcow2', join(folder, 'q'))
  const client = await openNbd({ socketPath, exportName: '' })
  assert.ok(client.hasExtents && client.structured && client.readOnly && client.canMultiConn)
  const extents = await client.extents(0, client.sizeBytes)
  checkExtents(extents, 0, content.length, content)
  const dataBytes = extents.reduce((sum, run) => sum + (run.holds === 'data' ? run.lengthBytes : 0), 0)
  assert.ok(dataBytes > 0 && dataBytes < 6 * MIB, `${dataBytes} bytes to read`)
  const copy = Buffer.alloc(content.length)
  for (const run of extents) {
    if (run.holds === 'data')
      await client.readInto(copy.subarray(run.offset, run.offset + run.lengthBytes), run.offset)
  }
  assert.equal(sha256(copy), sha256(content))
  await client.close()
})

test('four connections fill one piece of shared memory, by blocks larger than one request may be', async (t) => {
  const raw = join(await makeFolder(t), 'raw')
  const content = sparseContent(80 * MIB, 3)
  await writeFile(raw, content)
  const { socketPath } = await startQemuNbd(t, 'raw', raw)
  const shared = new Uint8Array(new SharedArrayBuffer(content.length))
  const open = () => openNbd({ socketPath, exportName: '' })
  const clients = await Promise.all([open(), open(), open(), open()])
  const quarter = content.length / 4
  await Promise.all(
    clients.map((client, index) =>
      client.readInto(shared.subarray(index * quarter, (index + 1) * quarter), index * quarter),
    ),
  )
  assert.equal(sha256(shared), sha256(content))
  const [client] = clients
  assert.ok(client)
  assert.equal(client.maximumBlockBytes, 32 * MIB)
  assert.equal(sha256(await client.read(0, content.length)), sha256(content))
  await Promise.all(clients.map((each) => each.close()))
})

test('a server killed in the middle: every read under way and every later one is a fault', async (t) => {
  const raw = join(await makeFolder(t), 'raw')
  await writeFile(raw, sparseContent(64 * MIB, 4))
  const { child, socketPath } = await startQemuNbd(t, 'raw', raw)
  const client = await openNbd({ socketPath, exportName: '' })
  await client.read(0, 4096)
  const exit = once(child, 'exit')
  // Stopped, it takes requests and answers none: the reads are surely under way when it dies.
  child.kill('SIGSTOP')
  const reads = Array.from({ length: 20 }, (_, index) => client.read(index * MIB, MIB))
  const outcomes = Promise.allSettled(reads)
  child.kill('SIGKILL')
  await exit
  for (const outcome of await outcomes) {
    assert.ok(outcome.status === 'rejected' && isFault(outcome.reason, 'unavailable'))
  }
  await assert.rejects(client.read(0, 1), (error) => isFault(error, 'unavailable'))
  await client.close()
  await assert.rejects(openNbd({ socketPath, exportName: '' }), (error) => isFault(error, 'unavailable'))
})

test('writes, zeroes, trims and flushes', async (t) => {
  const raw = join(await makeFolder(t), 'raw')
  const content = sparseContent(40 * MIB, 5)
  await writeFile(raw, Buffer.alloc(content.length))
  const { socketPath } = await startQemuNbd(t, 'raw', raw, ['--discard=unmap'])
  const client = await openNbd({ socketPath, exportName: '' })
  assert.equal(client.readOnly, false)
  await client.write(0, content)
  await client.flush()
  assert.ok((await client.read(0, content.length)).equals(content))
  await client.zero(MIB, 2 * MIB)
  await client.trim(4 * MIB, MIB)
  assert.ok((await client.read(MIB, 2 * MIB)).every((byte) => byte === 0))
  assert.ok((await client.read(3 * MIB, MIB)).equals(content.subarray(3 * MIB, 4 * MIB)))
  await client.close()
})

test('a name nobody exports is absent', async (t) => {
  const raw = join(await makeFolder(t), 'raw')
  await writeFile(raw, Buffer.alloc(4096))
  const { socketPath } = await startQemuNbd(t, 'raw', raw)
  await assert.rejects(openNbd({ socketPath, exportName: 'no' }), (error) => isFault(error, 'absent'))
})

test('an abort ends the waiting at once, and the connection lives', async (t) => {
  const gate = Promise.withResolvers<void>()
  const inner = memoryDisk(sparseContent(MIB))
  const slow: Disk = {
    ...inner,
    read: async (offset, lengthBytes) => {
      await gate.promise
      return inner.read(offset, lengthBytes)
    },
  }
  const client = await openNbd(await serveDisk(t, slow))
  const abort = new AbortController()
  const reason = new Error('enough')
  const reads = [client.read(0, 100, abort.signal), client.read(0, MIB, abort.signal)]
  abort.abort(reason)
  for (const read of reads) await assert.rejects(read, reason)
  gate.resolve()
  assert.ok((await client.read(5, 1000)).equals(await inner.read(5, 1000)))
  await client.close()
})

test('closing twice is closing once; what is under way ends in a fault', async (t) => {
  const inner = memoryDisk(Buffer.alloc(4096))
  const stuck: Disk = {
    ...inner,
    read: (_offset, _lengthBytes, signal) =>
      new Promise((_resolve, reject) => signal?.addEventListener('abort', () => reject(signal.reason))),
  }
  const client = await openNbd(await serveDisk(t, stuck))
  const read = client.read(0, 1)
  const closing = Promise.all([client.close(), client.close()])
  await assert.rejects(read, (error) => isFault(error, 'unavailable'))
  await closing
  await assert.rejects(client.read(0, 1), (error) => isFault(error, 'unavailable'))
})

test('an abort while connecting', async (t) => {
  const address = await serveDisk(t, memoryDisk(Buffer.alloc(4096)))
  const reason = new Error('enough')
  const abort = new AbortController()
  const opening = openNbd(address, { signal: abort.signal })
  abort.abort(reason)
  await assert.rejects(opening, reason)
  await assert.rejects(openNbd(address, { signal: abort.signal }), reason)
})
