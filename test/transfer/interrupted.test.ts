import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { run } from '../disks/programs.ts'
import { HOME, until } from '../e2e/failure-steps.ts'
import { type Chance, seeded } from './chance.ts'
import { startCalotype } from './command-line.ts'
import { startFront } from './front.ts'
import { assertNothingLeft, assertNothingRuns, contentOf } from './left.ts'
import { startOrigin } from './origin.ts'
import {
  type Begun,
  beginImport,
  deleteImage,
  digestOf,
  getTask,
  imported,
  newTransferPlace,
  type TransferPlace,
} from './transfer-place.ts'
import { sendByTus } from './tus.ts'

const MIB = 1024 ** 2
const CHECKPOINT_BYTES = 64 * MIB

/** A disk of noise, as a file of the import folder. */
async function writeNoise(place: TransferPlace, random: Chance, mebibytes: number): Promise<string> {
  const path = join(place.imports, 'noise.raw')
  await writeFile(path, random.bytes(mebibytes * MIB))
  return path
}

/** Its digest, taken from an image that is deleted again, so that what comes afterwards is new to the store. */
async function digestOfNoise(place: TransferPlace): Promise<string> {
  const begun = await beginImport(place, { fileName: 'noise.raw' }, 'wanted')
  const digest = digestOf(await imported(place, begun))
  await deleteImage(place, begun.imageId)
  await assertNothingLeft(place, [])
  return digest
}

async function newNoisePlace(t: TestContext, mebibytes: number) {
  const place = await newTransferPlace(t, { CALOTYPE_CAPTURE_WORKERS: '1' })
  const random = seeded(t)
  assert.deepEqual(await contentOf(place), [])
  const path = await writeNoise(place, random, mebibytes)
  return { place, random, path, wanted: await digestOfNoise(place) }
}

async function assertIsWanted(place: TransferPlace, begun: Begun, wanted: string): Promise<void> {
  assert.equal(digestOf(await imported(place, begun)), wanted)
  await assertNothingRuns(place)
  await deleteImage(place, begun.imageId)
  await assertNothingLeft(place, [])
}

/** True once the task is in that step and has done so much of it; false where it ended unmet. */
async function isMetIn(
  place: TransferPlace,
  { taskId }: Begun,
  step: string,
  doneBytes = 1,
): Promise<boolean> {
  const task = await until(`${taskId} in ${step}`, async () => {
    const now = await getTask(place, taskId)
    return now.endedAtMs !== null || (now.step?.startsWith(step) && now.doneBytes >= doneBytes)
      ? now
      : undefined
  })
  return task.endedAtMs === null
}

/** An import in the middle of that step. On a machine that is faster than the look, another one. */
async function meetIn(
  place: TransferPlace,
  from: Parameters<typeof beginImport>[1],
  step: string,
): Promise<Begun> {
  for (let i = 0; i < 10; i++) {
    const begun = await beginImport(place, from, step)
    if (await isMetIn(place, begun, step)) return begun
    await imported(place, begun)
    await deleteImage(place, begun.imageId)
    await assertNothingLeft(place, [])
  }
  assert.fail(`no import was met in the middle of ${step}`)
}

/** What of an upload is durable. */
async function offsetOf(url: string): Promise<number> {
  const answer = await fetch(url, { method: 'HEAD', headers: { 'tus-resumable': '1.0.0' } })
  assert.equal(answer.status, 200)
  return Number(answer.headers.get('upload-offset'))
}

test('an upload goes on after every death of the server, and sends no more again than what was not kept', async (t) => {
  const { place, random, path, wanted } = await newNoisePlace(t, 40)
  const front = await startFront(place)
  t.after(() => front.close())
  let killAt = Number.POSITIVE_INFINITY
  let restarted: Promise<void> | undefined
  front.onBytes = ({ toServerBytes }) => {
    if (toServerBytes < killAt) return
    killAt = Number.POSITIVE_INFINITY
    restarted = place.killAndRestart()
    return restarted
  }
  const made = await place.server.native.call<{ location: string }>('POST', '/v1/uploads', {
    body: { region: HOME, name: 'noise', lengthBytes: 40 * MIB },
  })
  const url = new URL(made.location, front.endpoint).href
  let acknowledgedBytes = 0
  const send = (chunkSize: number) =>
    sendByTus(front, path, 'noise', {
      uploadUrl: url,
      chunkSize,
      onChunkComplete: (_chunk, acceptedBytes) => {
        acknowledgedBytes = acceptedBytes
      },
    })
  const places: string[] = []
  for (let i = 0; i < 10; i++) {
    // Of a part that is the whole rest, nothing is kept before its end or a checkpoint: of those there is one in three.
    const chunkSize = i % 3 === 2 ? Number.POSITIVE_INFINITY : MIB + 4097
    const more = 1 + random(4 * MIB)
    killAt = front.passed.toServerBytes + more
    restarted = undefined
    await assert.rejects(send(chunkSize))
    assert.ok(restarted !== undefined, 'it was the death of the server that ended it')
    await restarted
    const offset = await offsetOf(url)
    places.push(`${more}: ${offset}`)
    assert.ok(
      offset >= acknowledgedBytes && offset <= acknowledgedBytes + MIB + 4097,
      `${offset}, ${acknowledgedBytes}`,
    )
    acknowledgedBytes = offset
  }
  t.diagnostic(`killed behind bytes, and kept: ${places.join(', ')}`)
  assert.ok(acknowledgedBytes < 40 * MIB)
  const restBytes = 40 * MIB - acknowledgedBytes
  const before = front.passed.toServerBytes
  const sent = await send(5 * MIB + 1)
  const sentBytes = front.passed.toServerBytes - before
  assert.ok(sentBytes < restBytes + MIB, `${sentBytes} bytes were sent for the last ${restBytes}`)
  await assertIsWanted(place, sent, wanted)
})

test('the command line sends a file on over the deaths of the server, and after its own', async (t) => {
  const { place, random, path, wanted } = await newNoisePlace(t, 40)
  const front = await startFront(place)
  t.after(() => front.close())
  const words = [
    'image',
    'import',
    path,
    '--name',
    'noise',
    '--region',
    HOME,
    '--part-size',
    '3MiB',
    '--json',
  ]
  const told = [...words, '--data', place.data, '--endpoint', front.endpoint.origin]
  const killAt = MIB + random(15 * MIB)
  const stopAt = 20 * MIB + random(10 * MIB)
  t.diagnostic(`the server killed at ${killAt}, the client stopped at ${stopAt}`)
  let killed: Promise<void> | undefined
  let isStopped = false
  front.onBytes = ({ toServerBytes }) => {
    if (toServerBytes >= killAt) killed ??= place.killAndRestart()
    if (toServerBytes >= stopAt && !isStopped) isStopped = first.process.kill('SIGINT')
    return killed
  }
  const first = startCalotype(place, told)
  const { exitCode, stderr } = await first.ended
  assert.notEqual(exitCode, 0)
  assert.match(stderr, /run the same command again/)
  front.onBytes = () => {}
  const before = front.passed.toServerBytes
  const last = await startCalotype(place, told).ended
  assert.equal(last.exitCode, 0, last.stderr)
  assert.match(last.stderr, /Going on with upload/)
  assert.ok(
    front.passed.toServerBytes - before < 40 * MIB - (stopAt - killAt - 2 * 3 * MIB),
    'what came is not sent again',
  )
  await assertIsWanted(place, JSON.parse(last.stdout) as Begun, wanted)
})

test('a fetch goes on behind its last checkpoint, and asks for nothing twice that was kept', async (t) => {
  const { place, random, wanted } = await newNoisePlace(t, 160)
  const origin = await startOrigin(place.imports)
  t.after(() => origin.close())
  const haltAt = 130 * MIB + random(20 * MIB)
  const released = Promise.withResolvers<void>()
  origin.beforeBytes = (offset) => (offset >= haltAt ? released.promise : undefined)
  const begun = await beginImport(place, { url: origin.url('noise.raw') }, 'fetched')
  // The origin has sent more than the second checkpoint, and then stands still.
  assert.ok(await isMetIn(place, begun, 'fetch', 2 * CHECKPOINT_BYTES))
  await until('the origin to stand still', async () => origin.sentBytes() >= haltAt || undefined)
  await place.killAndRestart()
  origin.beforeBytes = () => {}
  released.resolve()
  await assertIsWanted(place, begun, wanted)
  const [first, second, ...others] = origin.ranges
  assert.deepEqual([first, others], ['', []])
  const from = Number(/^bytes=(\d+)-$/.exec(second ?? '')?.[1] ?? Number.NaN)
  assert.ok(from >= 2 * CHECKPOINT_BYTES && from <= haltAt, `it went on from ${second}`)
  const more = origin.sentBytes() - 160 * MIB
  t.diagnostic(`${more} bytes were served twice`)
  assert.ok(more <= CHECKPOINT_BYTES, `${more} bytes were served twice`)
})

test('an import is the same image whichever of its steps the server dies in', async (t) => {
  const { place, path, wanted } = await newNoisePlace(t, 128)
  await run('zstd', ['-q', '-1', path])
  await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', path, `${path}.qcow2`])
  for (const [fileName, step] of [
    ['noise.raw.zst', 'unpack'],
    ['noise.raw.qcow2', 'read'],
    ['noise.raw', 'read'],
  ] as const) {
    const begun = await meetIn(place, { fileName }, step)
    await place.killAndRestart()
    await assertIsWanted(place, begun, wanted)
  }
})

test('an import that is given up in the middle of a step leaves nothing', async (t) => {
  const { place, path } = await newNoisePlace(t, 128)
  const origin = await startOrigin(place.imports)
  t.after(() => origin.close())
  await run('zstd', ['-q', '-1', path])
  await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', path, `${path}.qcow2`])
  const never = Promise.withResolvers<void>()
  t.after(() => never.resolve())
  origin.beforeBytes = (offset) => (offset >= 70 * MIB ? never.promise : undefined)
  for (const [from, step, hasToDie] of [
    [{ fileName: 'noise.raw.zst' }, 'unpack', false],
    [{ fileName: 'noise.raw.qcow2' }, 'read', true],
    [{ url: origin.url('noise.raw') }, 'fetch', true],
    [{ url: origin.url('noise.raw') }, 'fetch', false],
  ] as const) {
    const begun = await meetIn(place, from, step)
    if (hasToDie) await place.killAndRestart()
    await deleteImage(place, begun.imageId)
    await assertNothingLeft(place, [])
  }
})
