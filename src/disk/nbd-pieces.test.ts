import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { Fault, isFault } from '../image/fault.ts'
import type { Disk, Piece } from './contract.ts'
import { lendDisk } from './extents.ts'
import { makeFolder, runTool, serveDisk, sparseContent } from './fixture.ts'
import { memoryDisk } from './memory-disk.ts'
import { openNbd } from './nbd-client.ts'
import { serveNbd } from './nbd-server.ts'
import { diskSuite } from './suite.ts'

const MIB = 1024 * 1024
const STEP_BYTES = 96 * 1024

/** A disk that answers with shared pieces: at once, or of every third step later, as one that has not all at hand. */
function piecesDisk(content: Buffer): Disk {
  const inner = memoryDisk(content, STEP_BYTES)
  const cut = (offset: number, lengthBytes: number): Piece[] => {
    const pieces: Piece[] = []
    const end = offset + lengthBytes
    for (let at = offset; at < end; ) {
      const next = Math.min(end, (Math.floor(at / STEP_BYTES) + 1) * STEP_BYTES)
      const bytes = content.subarray(at, next)
      pieces.push({ lengthBytes: next - at, bytes: bytes.every((byte) => byte === 0) ? undefined : bytes })
      at = next
    }
    return pieces
  }
  return {
    ...inner,
    read: () => Promise.reject(new Error('the pieces are asked for')),
    pieces(offset, lengthBytes, signal) {
      if (Math.floor(offset / STEP_BYTES) % 3 !== 0) return cut(offset, lengthBytes)
      return new Promise((resolve) => setImmediate(resolve)).then(() => {
        signal?.throwIfAborted()
        return cut(offset, lengthBytes)
      })
    },
  }
}

diskSuite('a disk in pieces behind our server', async (t, content) =>
  openNbd(await serveDisk(t, lendDisk(piecesDisk(content)))),
)

test('pieces: nbdcopy and qemu-img find equal bytes, whole, sparse, and with many requests at once', async (t) => {
  const content = sparseContent(12 * MIB, 2)
  content.fill(0, 3 * MIB, 7 * MIB)
  const folder = await makeFolder(t)
  await writeFile(join(folder, 'raw'), content)
  const { socketPath } = await serveDisk(t, piecesDisk(content))
  const uri = `nbd+unix:///?socket=${socketPath}`
  const ways = [
    [],
    ['--no-extents', '--connections=4', '--requests=64'],
    ['--request-size=4096', '--no-extents'],
    ['--request-size=33554432', '--no-extents'],
  ]
  for (const [index, way] of ways.entries()) {
    await runTool('nbdcopy', [...way, uri, join(folder, `copy-${index}`)])
    assert.ok((await readFile(join(folder, `copy-${index}`))).equals(content), way.join(' '))
  }
  const said = await runTool('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', uri, join(folder, 'raw')])
  assert.match(said, /identical/)
})

test('pieces: a read that throws or rejects is EIO, and the connection lives', async (t) => {
  const content = sparseContent(MIB)
  const inner = piecesDisk(content)
  const failing: Disk = {
    ...inner,
    pieces(offset, lengthBytes, signal) {
      if (offset === 4096) throw new Fault('corrupt', 'Chunk 5 is broken.')
      if (offset === 8192) return Promise.reject(new Error('a bug'))
      return inner.pieces?.(offset, lengthBytes, signal) ?? []
    },
  }
  const socketPath = join(await makeFolder(t), 's')
  const reported: unknown[] = []
  const report = (error: unknown) => void reported.push(error)
  const server = await serveNbd({ listen: { socketPath }, resolve: async () => failing, report })
  t.after(() => server.close())
  const client = await openNbd({ socketPath, exportName: '' })
  for (const offset of [4096, 8192]) {
    await assert.rejects(
      client.read(offset, 4096),
      (error) => isFault(error, 'unavailable') && error.reason === 'EIO',
    )
  }
  assert.ok((await client.read(STEP_BYTES, 4096)).equals(content.subarray(STEP_BYTES, STEP_BYTES + 4096)))
  assert.deepEqual(reported.map(String), ['Fault: Chunk 5 is broken.', 'Error: a bug'])
  await client.close()
})
