import assert from 'node:assert/strict'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import {
  makeFolder,
  runTool,
  scriptedExport,
  serveScript,
  sparseContent,
  startTool,
} from '../disk/fixture.ts'
import { openNbd } from '../disk/nbd-client.ts'
import { COMMAND, ERRNO, EXPORT_FLAG, encodeError, encodeSimpleReply } from '../disk/nbd-protocol.ts'
import { isFault } from '../image/fault.ts'
import { CheckMedium, unchanging } from './check-medium.ts'
import { NbdMedium } from './nbd-medium.ts'

const MIB = 1024 * 1024
/** Of which block status is asked for at once. */
const STATUS_BYTES = 16 * MIB
/** More than one of those, and no whole number of blocks. */
const SIZE_BYTES = 66 * MIB - 512

/** An overlay as the cleaner has it, over a raw file of `content`. */
async function serveOverlay(t: TestContext, content: Buffer) {
  const folder = await makeFolder(t)
  const [raw, path, socketPath] = [join(folder, 'raw'), join(folder, 'q'), join(folder, 's')]
  await writeSparse(raw, content)
  const options = 'cluster_size=128k,extended_l2=on'
  await runTool('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', options, path, String(content.length)])
  const file = { driver: 'file', filename: path, discard: 'unmap' }
  const backing = { driver: 'raw', file: { driver: 'file', filename: raw, 'read-only': true } }
  const tree = `json:${JSON.stringify({ driver: 'qcow2', discard: 'unmap', file, backing })}`
  await startTool(
    t,
    'qemu-nbd',
    ['-t', '-e', '8', '-A', '--discard=unmap', '-k', socketPath, tree],
    socketPath,
  )
  return { socketPath, exportName: '' }
}

/** Zeroes are holes. */
async function writeSparse(path: string, content: Buffer): Promise<void> {
  const file = await open(path, 'w')
  await file.truncate(content.length)
  for (let at = 0; at < content.length; at += 4096) {
    const block = content.subarray(at, at + 4096)
    if (block.some((byte) => byte !== 0)) await file.write(block, 0, block.length, at)
  }
  await file.close()
}

function randomOf(seed: number) {
  let state = seed
  return (below: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

test('random reads, writes and zeroes are those of memory; a check of the same finds nothing to do', async (t) => {
  const model = Buffer.alloc(SIZE_BYTES)
  sparseContent(4 * MIB, 3).copy(model, MIB)
  sparseContent(2 * MIB, 4).copy(model, 63 * MIB)
  const client = await openNbd(await serveOverlay(t, model))
  const medium = new NbdMedium(client, STATUS_BYTES)
  const seed = Math.floor(Math.random() * 2 ** 32)
  t.diagnostic(`seed ${seed}`)
  const random = randomOf(seed)
  const somewhere = () => {
    const lengthBytes = random(3) === 0 ? random(2 * MIB) : random(6000)
    const near = random(2) === 0 ? random(5 * MIB) : 62 * MIB + random(4 * MIB)
    return { offset: Math.min(near, SIZE_BYTES - lengthBytes), lengthBytes }
  }
  for (let step = 0; step < 1500; step++) {
    const { offset, lengthBytes } = somewhere()
    const end = offset + lengthBytes
    switch (random(4)) {
      case 0: {
        const bytes = Buffer.alloc(lengthBytes, random(256))
        await medium.write(offset, bytes)
        bytes.copy(model, offset)
        bytes.fill(0xee)
        break
      }
      case 1:
        await medium.zero(offset, lengthBytes)
        model.fill(0, offset, end)
        break
      case 2: {
        let at = offset
        for await (const run of medium.dataRuns(offset, lengthBytes)) {
          assert.ok(run.lengthBytes > 0 && run.offset >= at && run.offset + run.lengthBytes <= end)
          assert.ok(
            model.subarray(at, run.offset).every((byte) => byte === 0),
            `a run is missing before ${run.offset}`,
          )
          at = run.offset + run.lengthBytes
        }
        assert.ok(
          model.subarray(at, end).every((byte) => byte === 0),
          `a run is missing after ${at}`,
        )
        break
      }
      default: {
        const bytes = await medium.read(offset, lengthBytes)
        assert.ok(bytes.equals(model.subarray(offset, end)), `step ${step}: ${lengthBytes} at ${offset}`)
        // Fresh bytes: who changes them changes nothing else.
        bytes.fill(0xdd)
      }
    }
  }
  await medium.flush()
  assert.ok((await client.read(0, SIZE_BYTES)).equals(model))
  await medium.zero(0, 3 * MIB)
  await medium.zero(60 * MIB, SIZE_BYTES - 60 * MIB)
  await medium.flush()
  medium.forget()
  const check = new CheckMedium(medium)
  await check.zero(0, 3 * MIB)
  await check.zero(60 * MIB, SIZE_BYTES - 60 * MIB)
  await check.write(4 * MIB, model.subarray(4 * MIB, 7 * MIB))
  assert.equal(check.differenceCount, 0)
  const extents = await client.extents(0, SIZE_BYTES)
  assert.deepEqual(extents[0]?.holds, 'zero')
  assert.ok((extents[0]?.lengthBytes ?? 0) >= 3 * MIB)
  await client.close()
})

test('changes side by side are all done, whatever is asked meanwhile', async (t) => {
  const stepBytes = 48 * 1024
  const count = 600
  const model = Buffer.alloc(SIZE_BYTES)
  sparseContent(count * stepBytes, 5).copy(model)
  const client = await openNbd(await serveOverlay(t, model))
  const medium = new NbdMedium(client, 2 * MIB)
  const seed = Math.floor(Math.random() * 2 ** 32)
  t.diagnostic(`seed ${seed}`)
  const random = randomOf(seed)
  const work = Array.from({ length: count }, async (_, index) => {
    const offset = index * stepBytes + random(9000)
    const lengthBytes = 1 + random(30_000)
    const how = random(4)
    if (how === 0) {
      const bytes = Buffer.alloc(lengthBytes, 1 + random(255))
      bytes.copy(model, offset)
      await medium.write(offset, bytes)
    } else if (how === 1) {
      const bytes = Buffer.from(model.subarray(offset, offset + lengthBytes))
      assert.ok((await medium.read(offset, lengthBytes)).equals(bytes))
    } else {
      const had = model.subarray(offset, offset + lengthBytes).some((byte) => byte !== 0)
      model.fill(0, offset, offset + lengthBytes)
      const heldBytes = await medium.zero(offset, lengthBytes)
      assert.ok(heldBytes <= lengthBytes && (!had || heldBytes > 0))
      assert.equal(await medium.zero(offset, lengthBytes), 0)
    }
  })
  await Promise.all(work)
  for (let at = 0; at < count * stepBytes; at += 7001)
    assert.ok((await medium.read(at, 7001)).equals(model.subarray(at, at + 7001)), `at ${at}`)
  await medium.flush()
  assert.ok((await client.read(0, SIZE_BYTES)).equals(model))
  await client.close()
})

test('block status is asked for once, and anew only of a disk that was forgotten', async (t) => {
  const content = Buffer.alloc(SIZE_BYTES)
  content.fill(7, 0, 8192)
  content.fill(7, 20 * MIB, 20 * MIB + 8192)
  const client = await openNbd(await serveOverlay(t, content))
  const asked: number[] = []
  const extents = client.extents.bind(client)
  client.extents = (offset, lengthBytes) => {
    asked.push(offset / STATUS_BYTES)
    return extents(offset, lengthBytes)
  }
  const medium = new NbdMedium(client, STATUS_BYTES)
  const zeroed = await Promise.all([
    medium.zero(4096, SIZE_BYTES - 4096),
    medium.zero(0, 4096),
    medium.zero(30 * MIB, MIB),
  ])
  assert.deepEqual(zeroed, [4096 + 8192, 4096, 0])
  await medium.write(40 * MIB, Buffer.alloc(100, 1))
  assert.equal(await medium.zero(0, SIZE_BYTES), 4096)
  assert.deepEqual(asked.sort(), [0, 1, 2, 3, 4])
  await medium.flush()
  medium.forget()
  const check = new CheckMedium(medium)
  await check.zero(0, SIZE_BYTES)
  assert.equal(check.differenceCount, 0)
  assert.deepEqual(asked.slice(5).sort(), [0, 1, 2, 3, 4])
  await client.close()
})

test('a check counts what would change, and changes nothing', async (t) => {
  const content = sparseContent(MIB, 2)
  content.fill(7, 0, 8192)
  const client = await openNbd(await serveOverlay(t, content))
  const medium = new NbdMedium(client)
  const check = new CheckMedium(medium)
  await check.zero(100, 10)
  await check.write(0, Buffer.alloc(10, 7))
  await check.write(0, Buffer.alloc(10, 8))
  assert.equal(check.differenceCount, 2)
  await unchanging(medium).zero(0, MIB)
  await unchanging(medium).write(0, Buffer.alloc(9))
  await medium.flush()
  assert.ok((await client.read(0, MIB)).equals(content))
  await client.close()
})

test('what is zero already is not asked for; neighbours are zeroed together', async (t) => {
  const flags = EXPORT_FLAG.hasFlags | EXPORT_FLAG.sendWriteZeroes
  const asked: [number, number, number][] = []
  const address = await serveScript(
    t,
    // No block status: everything may be data.
    scriptedExport(
      { flags, sizeBytes: MIB },
      async ({ command, cookie, offset, lengthBytes }, link) => {
        asked.push([command, offset, lengthBytes])
        link.send([encodeSimpleReply(cookie, 0)])
      },
      [],
    ),
  )
  const client = await openNbd(address)
  const medium = new NbdMedium(client)
  for (let at = 0; at < 64 * 1024; at += 4096) await medium.zero(at, 4096)
  await medium.zero(0, 64 * 1024)
  await medium.flush()
  assert.deepEqual(asked, [[COMMAND.writeZeroes, 0, 64 * 1024]])
  await client.close()
})

test('a change that fails fails the next call, and the flush', async (t) => {
  const flags = EXPORT_FLAG.hasFlags | EXPORT_FLAG.sendWriteZeroes
  const address = await serveScript(
    t,
    scriptedExport(
      { flags, sizeBytes: MIB },
      async ({ command, cookie, lengthBytes }, link) => {
        if (command === COMMAND.write) await link.take(lengthBytes)
        link.send([encodeError(cookie, ERRNO.ENOSPC, 'full')])
      },
      [],
    ),
  )
  const medium = new NbdMedium(await openNbd(address))
  await medium.write(0, Buffer.alloc(512))
  await assert.rejects(medium.flush(), (error) => isFault(error, 'full'))
  await assert.rejects(medium.write(0, Buffer.alloc(512)), (error) => isFault(error, 'full'))
  await assert.rejects(medium.read(4096, 1), (error) => isFault(error, 'full'))
})

test('a zero that goes on from the last one waits for a write under way in its range', async (t) => {
  const flags = EXPORT_FLAG.hasFlags | EXPORT_FLAG.sendWriteZeroes
  const events: string[] = []
  const written = Promise.withResolvers<void>()
  const address = await serveScript(
    t,
    scriptedExport(
      { flags, sizeBytes: MIB },
      async ({ command, cookie, offset, lengthBytes }, link) => {
        if (offset < MIB / 2) events.push(`${command} ${offset} ${lengthBytes}`)
        if (command === COMMAND.write) {
          await link.take(lengthBytes)
          written.promise.then(() => {
            events.push('written')
            link.send([encodeSimpleReply(cookie, 0)])
          })
        } else link.send([encodeSimpleReply(cookie, 0)])
      },
      [],
    ),
  )
  const client = await openNbd(address)
  const medium = new NbdMedium(client)
  await medium.zero(0, 4096)
  await medium.write(4096, Buffer.alloc(4096, 7))
  const zeroed = medium.zero(4096, 4096).then(() => medium.flush())
  // Each comes after whatever was sent before: who does not wait has sent it by then.
  for (let count = 0; count < 3; count++) await client.zero(MIB - 512, 512)
  written.resolve()
  await zeroed
  const [write, zero] = [`${COMMAND.write} 4096 4096`, `${COMMAND.writeZeroes} 0 8192`]
  assert.deepEqual(events, [write, 'written', zero])
  await client.close()
})
