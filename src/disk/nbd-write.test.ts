import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { isFault } from '../image/fault.ts'
import {
  makeFolder,
  runTool,
  scriptedExport,
  serveDisk,
  serveScript,
  sparseContent,
  startTool,
} from './fixture.ts'
import { memoryDisk } from './memory-disk.ts'
import { openNbd } from './nbd-client.ts'
import { COMMAND, ERRNO, EXPORT_FLAG, encodeError, encodeSimpleReply, type Request } from './nbd-protocol.ts'

const MIB = 1024 * 1024
const GIB = 1024 * MIB

test('zeroes longer than one request: holes, in pieces of a GiB', async (t) => {
  const folder = await makeFolder(t)
  const [path, socketPath] = [join(folder, 'q'), join(folder, 's')]
  await runTool('qemu-img', ['create', '-q', '-f', 'qcow2', path, '10G'])
  await startTool(t, 'qemu-nbd', ['--discard=unmap', '-t', '-f', 'qcow2', '-k', socketPath, path], socketPath)
  const client = await openNbd({ socketPath, exportName: '' })
  const content = sparseContent(3 * MIB, 5)
  await client.write(9 * GIB, content)
  await client.zero(MIB, 9 * GIB)
  await client.flush()
  const extents = await client.extents(0, client.sizeBytes)
  assert.deepEqual(
    extents.filter(({ holds }) => holds === 'data').map(({ offset }) => offset >= 9 * GIB + MIB),
    [true],
  )
  assert.ok((await client.read(9 * GIB, MIB)).every((byte) => byte === 0))
  assert.ok((await client.read(9 * GIB + MIB, 2 * MIB)).equals(content.subarray(MIB)))
  await client.close()
})

test('an export that may only be read is a fault to write to, and goes on', async (t) => {
  const client = await openNbd(await serveDisk(t, memoryDisk(sparseContent(MIB))))
  const isReadOnly = (error: unknown) => isFault(error, 'unavailable') && error.reason === 'read-only'
  await assert.rejects(client.write(0, Buffer.alloc(512)), isReadOnly)
  await assert.rejects(client.zero(0, 512), isReadOnly)
  await assert.rejects(client.trim(0, 512), isReadOnly)
  assert.equal((await client.read(0, 512)).length, 512)
  await client.close()
})

test('a server that has no command for zeroes', async (t) => {
  const address = await serveScript(
    t,
    scriptedExport({ flags: EXPORT_FLAG.hasFlags }, async () => {}),
  )
  const client = await openNbd(address)
  const hasNone = (error: unknown) => isFault(error, 'unavailable') && error.reason === 'no-command'
  await assert.rejects(client.zero(0, 512), hasNone)
  await assert.rejects(client.trim(0, 512), hasNone)
  await client.close()
})

const WRITABLE = EXPORT_FLAG.hasFlags | EXPORT_FLAG.sendWriteZeroes | EXPORT_FLAG.sendFlush

for (const errno of [ERRNO.ENOSPC, ERRNO.EIO, ERRNO.EPERM]) {
  test(`a server that answers writes with error ${errno}`, async (t) => {
    const answer = async (
      request: Request,
      link: { take(bytes: number): Promise<Buffer>; send(pieces: Buffer[]): void },
    ) => {
      if (request.command === COMMAND.write) await link.take(request.lengthBytes)
      link.send([encodeError(request.cookie, errno, 'no')])
    }
    const client = await openNbd(await serveScript(t, scriptedExport({ flags: WRITABLE }, answer)))
    const kind = errno === ERRNO.ENOSPC ? 'full' : 'unavailable'
    await assert.rejects(client.write(0, Buffer.alloc(512)), (error) => isFault(error, kind))
    await assert.rejects(client.zero(0, 512), (error) => isFault(error, kind))
    await assert.rejects(client.flush(), (error) => isFault(error, kind))
    await assert.rejects(client.read(0, 512), (error) => isFault(error, 'unavailable'))
    await client.close()
  })
}

test('a server that goes away with writes under way: all of them are faults', async (t) => {
  let count = 0
  const address = await serveScript(
    t,
    scriptedExport({ flags: WRITABLE }, async (request, link) => {
      if (request.command === COMMAND.write) await link.take(request.lengthBytes)
      if (++count === 3) link.end(new Error('gone'))
      else if (count < 3) await link.flush(encodeSimpleReply(request.cookie, 0))
    }),
  )
  const client = await openNbd(address)
  const writes = Array.from({ length: 6 }, (_, index) => client.write(index * 512, Buffer.alloc(512, index)))
  const outcomes = await Promise.allSettled(writes)
  assert.deepEqual(
    outcomes.map(({ status }) => status),
    ['fulfilled', 'fulfilled', 'rejected', 'rejected', 'rejected', 'rejected'],
  )
  for (const outcome of outcomes) {
    if (outcome.status === 'rejected') assert.ok(isFault(outcome.reason, 'unavailable'))
  }
  await assert.rejects(client.zero(0, 512), (error) => isFault(error, 'unavailable'))
})

test('a socket handed down to a process that may not connect itself', async (t) => {
  const folder = await makeFolder(t)
  const content = sparseContent(MIB, 8)
  const { socketPath } = await serveDisk(t, memoryDisk(content))
  const script = join(folder, 'child.ts')
  const module = (path: string) => JSON.stringify(new URL(path, import.meta.url).href)
  await writeFile(
    script,
    `import { openNbd } from ${module('./nbd-client.ts')}
const client = await openNbd({ fileDescriptor: 3, exportName: '' })
process.stdout.write(await client.read(0, client.sizeBytes))
await client.close()`,
  )
  const socket = connect({ path: socketPath })
  // Not a byte of the greeting may be taken here.
  socket.pause()
  await once(socket, 'connect')
  const rights = [
    '--permission',
    `--allow-fs-read=${join(import.meta.dirname, '../..')}/*`,
    `--allow-fs-read=${script}`,
  ]
  const child = spawn(process.execPath, [...rights, script], { stdio: ['ignore', 'pipe', 'pipe', socket] })
  socket.destroy()
  const said: Buffer[] = []
  child.stdout?.on('data', (bytes) => said.push(bytes))
  let complaint = ''
  child.stderr?.on('data', (text) => {
    complaint += text
  })
  const [code] = await once(child, 'close')
  assert.equal(code, 0, complaint)
  assert.ok(Buffer.concat(said).equals(content))
})
