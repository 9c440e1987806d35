import assert from 'node:assert/strict'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import fc from 'fast-check'
import { isFault } from '../image/fault.ts'
import type { Disk, StatusExtent, StatusOf } from './contract.ts'
import { appendStatus, lendDisk } from './extents.ts'
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
import { CHUNK, CHUNK_DONE, encodeBlockStatus, encodeChunk, type Request } from './nbd-protocol.ts'

const MIB = 1024 * 1024
const DEPTH = 'qemu:allocation-depth'
const DIRTY = 'qemu:dirty-bitmap:since'
const BLOCK_BYTES = 4096
const unavailable = (error: unknown) => isFault(error, 'unavailable')
const noContext = (error: unknown) => isFault(error, 'absent') && error.reason === 'no-context'

/** A context whose blocks have these statuses, and 0 behind them. */
function statusOf(blocks: readonly number[]): StatusOf {
  return async (offset, lengthBytes) => {
    const statuses: StatusExtent[] = []
    for (let at = offset; at < offset + lengthBytes; ) {
      const next = Math.min(offset + lengthBytes, (Math.floor(at / BLOCK_BYTES) + 1) * BLOCK_BYTES)
      appendStatus(statuses, next - at, blocks[Math.floor(at / BLOCK_BYTES)] ?? 0, offset)
      at = next
    }
    return statuses
  }
}

function diskWith(content: Buffer, contexts: Readonly<Record<string, StatusOf>>): Disk {
  return { ...memoryDisk(content), contexts: new Map(Object.entries(contexts)) }
}

async function startQemuNbd(t: TestContext, args: readonly string[]): Promise<string> {
  const socketPath = join(await makeFolder(t), 's')
  await startTool(t, 'qemu-nbd', ['-r', '-t', '-e', '8', '-k', socketPath, ...args], socketPath)
  return socketPath
}

test('random contexts: the same statuses and extents through our server and client', async (t) => {
  const blocks = fc.array(fc.nat(3), { minLength: 1, maxLength: 40 })
  await fc.assert(
    fc.asyncProperty(blocks, blocks, fc.nat(), fc.nat(), async (dirty, depth, first, second) => {
      const content = sparseContent(MIB / 4, dirty.length)
      const disk = diskWith(content, { [DIRTY]: statusOf(dirty), [DEPTH]: statusOf(depth) })
      const client = await openNbd(await serveDisk(t, lendDisk(disk)), { contexts: [DEPTH, DIRTY] })
      const from = Math.min(first % content.length, second % content.length)
      const lengthBytes = Math.max(first % content.length, second % content.length) - from
      const asked = { [DIRTY]: statusOf(dirty), [DEPTH]: statusOf(depth) }
      for (const [name, wanted] of Object.entries(asked)) {
        assert.deepEqual(await client.statuses(name, from, lengthBytes), await wanted(from, lengthBytes))
        assert.deepEqual(await client.statuses(name, 0, content.length), await wanted(0, content.length))
      }
      assert.deepEqual(await client.extents(0, content.length), await disk.extents(0, content.length))
      await client.close()
    }),
    { numRuns: 40 },
  )
})

test('a context that the server does not know is absent at opening; of no export, the export is', async (t) => {
  const address = await serveDisk(t, diskWith(Buffer.alloc(MIB), { [DEPTH]: statusOf([]) }))
  await assert.rejects(openNbd(address, { contexts: [DEPTH, DIRTY] }), noContext)
  const qemu = await startQemuNbd(t, ['-f', 'raw', '-x', 'one', '/dev/null'])
  await assert.rejects(openNbd({ socketPath: qemu, exportName: 'one' }, { contexts: [DIRTY] }), noContext)
  await assert.rejects(
    openNbd({ socketPath: qemu, exportName: 'two' }, { contexts: [DIRTY] }),
    (error) => isFault(error, 'absent') && error.reason === undefined,
  )
  const folder = await makeFolder(t)
  const simple = ['-f', '-r', '-U', join(folder, 's'), '--no-sr', 'memory', '1M']
  await startTool(t, 'nbdkit', simple, join(folder, 's'))
  const plain = { socketPath: join(folder, 's'), exportName: '' }
  await assert.rejects(openNbd(plain, { contexts: [DIRTY] }), noContext)
})

test('qemu-nbd tells a dirty bitmap and the layer of each run', async (t) => {
  const folder = await makeFolder(t)
  const [base, overlay] = [join(folder, 'base'), join(folder, 'overlay')]
  await runTool('qemu-img', ['create', '-q', '-f', 'qcow2', base, '8M'])
  await runTool('qemu-io', ['-f', 'qcow2', '-c', 'write -P 1 0 1M', '-c', 'write -P 1 4M 1M', base])
  await runTool('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', overlay])
  await runTool('qemu-io', ['-f', 'qcow2', '-c', 'write -P 2 1M 512k', overlay])
  await runTool('qemu-img', ['bitmap', '--add', '-g', '65536', overlay, 'since'])
  await runTool('qemu-io', ['-f', 'qcow2', '-c', 'write -P 3 4M 64k', '-c', 'write -z 6M 100k', overlay])
  const socketPath = await startQemuNbd(t, ['-f', 'qcow2', '-A', '-B', 'since', overlay])
  const client = await openNbd({ socketPath, exportName: '' }, { contexts: [DIRTY, DEPTH] })
  const KIB = 1024
  const plain = (statuses: readonly StatusExtent[]) =>
    statuses.map((run) => [run.offset / KIB, run.lengthBytes / KIB, run.status])
  assert.deepEqual(plain(await client.statuses(DIRTY, 0, client.sizeBytes)), [
    [0, 4096, 0],
    [4096, 64, 1],
    [4160, 1984, 0],
    [6144, 128, 1],
    [6272, 1920, 0],
  ])
  assert.deepEqual(plain(await client.statuses(DEPTH, 0, client.sizeBytes)), [
    [0, 1024, 2],
    [1024, 512, 1],
    [1536, 2560, 0],
    [4096, 64, 1],
    [4160, 960, 2],
    [5120, 1024, 0],
    [6144, 128, 1],
    [6272, 1920, 0],
  ])
  // From the middle of one run to the middle of another.
  assert.deepEqual(plain(await client.statuses(DIRTY, 4128 * KIB, 2048 * KIB)), [
    [4128, 32, 1],
    [4160, 1984, 0],
    [6144, 32, 1],
  ])
  assert.equal((await client.extents(0, client.sizeBytes)).length > 2, true)
  await client.close()
})

test('nbdinfo lists the contexts of our server and maps each', async (t) => {
  const disk = diskWith(sparseContent(MIB), { [DIRTY]: statusOf([0, 1, 1, 0, 1]), [DEPTH]: statusOf([2, 1]) })
  const { socketPath } = await serveDisk(t, disk)
  const uri = `nbd+unix:///?socket=${socketPath}`
  const info = JSON.parse(await runTool('nbdinfo', ['--json', uri]))
  assert.deepEqual(info.exports[0].contexts, ['base:allocation', DIRTY, DEPTH])
  for (const [name, wanted] of disk.contexts ?? []) {
    const said = JSON.parse(await runTool('nbdinfo', [`--map=${name}`, '--json', uri]))
    assert.deepEqual(
      said.map((run: { offset: number; length: number; type: number }) => ({
        offset: run.offset,
        lengthBytes: run.length,
        status: run.type,
      })),
      await wanted(0, MIB),
    )
  }
})

/** A chunk of block status that is not the last. */
const part = (request: Request, id: number, lengthBytes: number, state = 1) =>
  encodeBlockStatus(request.cookie, id, [{ lengthBytes, state }], 0)
const last = (request: Request) =>
  encodeChunk({ flags: CHUNK_DONE, type: CHUNK.none, cookie: request.cookie }, 0)
const both = [
  { id: 7, name: 'base:allocation' },
  { id: 9, name: DIRTY },
]

/** Each answers a block status of 65536 at 0, wrongly. */
const answers: Record<string, (request: Request) => Buffer[]> = {
  'the other context alone': (request) => [part(request, 7, 65536), last(request)],
  'one context twice': (request) => [part(request, 9, 65536), part(request, 9, 65536), last(request)],
  'the other context twice': (request) => [
    part(request, 7, 65536),
    part(request, 7, 65536),
    part(request, 9, 65536),
    last(request),
  ],
  'a context that nobody agreed on': (request) => [
    part(request, 9, 65536),
    part(request, 8, 65536),
    last(request),
  ],
  'an empty run': (request) => [part(request, 9, 0), last(request)],
  'no runs': (request) => [encodeBlockStatus(request.cookie, 9, [], 0), last(request)],
  'half a run': (request) => [
    encodeChunk(
      { flags: CHUNK_DONE, type: CHUNK.blockStatus, cookie: request.cookie },
      17,
      Buffer.from([0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0]),
    ),
  ],
  'a list beyond reason for the other context': (request) => [
    encodeChunk(
      { flags: 0, type: CHUNK.blockStatus, cookie: request.cookie },
      0xfffffff4,
      Buffer.from([0, 0, 0, 7]),
    ),
  ],
}
for (const [name, answer] of Object.entries(answers)) {
  test(`a server that answers two contexts with ${name} is a fault`, async (t) => {
    const script = scriptedExport({}, async (request, link) => link.send(answer(request)), both)
    const client = await openNbd(await serveScript(t, script), { contexts: [DIRTY] })
    await assert.rejects(client.statuses(DIRTY, 0, 65536), unavailable)
    await client.close()
  })
}

test('contexts that cannot be told apart are a fault, and those that nobody asked for are let be', async (t) => {
  for (const contexts of [
    [
      { id: 7, name: 'base:allocation' },
      { id: 7, name: DIRTY },
    ],
    [
      { id: 7, name: DIRTY },
      { id: 8, name: DIRTY },
    ],
  ])
    await assert.rejects(
      openNbd(
        await serveScript(
          t,
          scriptedExport({}, async () => {}, contexts),
        ),
        { contexts: [DIRTY] },
      ),
      unavailable,
    )
  const more = [...both, { id: 11, name: DEPTH }]
  const address = await serveScript(
    t,
    scriptedExport({}, async () => {}, more),
  )
  await (await openNbd(address, { contexts: [DIRTY] })).close()
})

test('answers of different lengths, in any order: longer ones are cut, shorter ones continued', async (t) => {
  let count = 0
  const script = scriptedExport(
    {},
    async (request, link) => {
      count++
      link.send([
        part(request, 9, count === 1 ? 4096 : 0xfffff000, count),
        part(request, 7, 1),
        last(request),
      ])
    },
    both,
  )
  const client = await openNbd(await serveScript(t, script), { contexts: [DIRTY] })
  assert.deepEqual(await client.statuses(DIRTY, 0, 65536), [
    { offset: 0, lengthBytes: 4096, status: 1 },
    { offset: 4096, lengthBytes: 61440, status: 2 },
  ])
  assert.deepEqual(await client.statuses(DIRTY, 100, 0), [])
  await assert.rejects(client.statuses(DEPTH, 0, 1), assert.AssertionError)
  await assert.rejects(client.statuses(DIRTY, 65536, 1), assert.AssertionError)
  await client.close()
})

test('a disk in too many pieces is a fault that says so', async (t) => {
  const size = { sizeBytes: 2 ** 40 }
  const runs = Array.from({ length: 128 * 1024 }, (_, index) => ({ lengthBytes: 512, state: index % 2 }))
  const script = scriptedExport(
    size,
    async (request, link) => link.flush(encodeBlockStatus(request.cookie, 9, runs)),
    both,
  )
  const client = await openNbd(await serveScript(t, script), { contexts: [DIRTY] })
  await assert.rejects(
    client.statuses(DIRTY, 0, 2 ** 40),
    (error) => isFault(error, 'unavailable') && error.reason === 'too-many-runs',
  )
  assert.equal((await client.statuses(DIRTY, 0, 512 * MIB)).length, 1024 * 1024)
  await client.close()
})
