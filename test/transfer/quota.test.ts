import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { type IncomingMessage, request } from 'node:http'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { waitForTask } from '../../demo/steps.ts'
import { ServerRefusal } from '../../src/cli/failure.ts'
import type { ShownUpload } from '../../src/wire/native/show-transfers.ts'
import { run } from '../disks/programs.ts'
import { HOME } from '../e2e/failure-steps.ts'
import { type Chance, seeded } from './chance.ts'
import { assertNothingLeft, assertNothingRuns, contentOf, uploadsOf } from './left.ts'
import {
  type Begun,
  beginImport,
  chargedBytes,
  deleteImage,
  getImage,
  imported,
  newTransferPlace,
  type TransferPlace,
} from './transfer-place.ts'
import { sendByTus } from './tus.ts'

const MIB = 1024 ** 2
const SECTOR_BYTES = 512

interface Made {
  readonly uploadId: string
  readonly location: string
}

const create = ({ server }: TransferPlace, name: string, lengthBytes?: number): Promise<Made> =>
  server.native.call<Made>('POST', '/v1/uploads', { body: { region: HOME, name, lengthBytes } })

async function setQuota({ server }: TransferPlace, quotaBytes: number | 'none'): Promise<void> {
  const { projects } = await server.native.call<{ projects: { id: string; isDefault: boolean }[] }>(
    'GET',
    '/v1/projects',
  )
  const { id } = projects.find(({ isDefault }) => isDefault) ?? { id: '' }
  await server.native.call('PUT', `/v1/projects/${id}/quota`, { body: { quotaBytes } })
}

interface Answer {
  readonly status: number
  readonly headers: IncomingMessage['headers']
}

/** A part that is sent as the test wants; `answer` is undefined where the connection broke. */
function openPart({ server }: TransferPlace, path: string, headers: Record<string, string | number>) {
  const outgoing = request(new URL(path, server.endpoint), {
    method: 'PATCH',
    headers: {
      'tus-resumable': '1.0.0',
      'content-type': 'application/offset+octet-stream',
      'upload-offset': 0,
      ...headers,
    },
    agent: false,
  })
  const answer = new Promise<Answer | undefined>((resolve) => {
    outgoing.on('error', () => resolve(undefined))
    outgoing.on('response', (response) => {
      response.resume()
      resolve({ status: response.statusCode ?? 0, headers: response.headers })
    })
  })
  return { outgoing, answer }
}

/** All of an upload in one part; what a broken line or a server with its hands full has left is sent again. */
async function sendAll(
  place: TransferPlace,
  { location }: Made,
  bytes: Buffer,
  more: Record<string, string | number>,
): Promise<Answer> {
  for (let offset = 0; ; ) {
    const rest = bytes.subarray(offset)
    const size = 'transfer-encoding' in more ? {} : { 'content-length': rest.length }
    const { outgoing, answer } = openPart(place, location, { ...more, ...size, 'upload-offset': offset })
    outgoing.end(rest)
    const told = await answer
    if (told !== undefined && ![409, 423, 503].includes(told.status)) return told
    await delay(20)
    const head = await fetch(new URL(location, place.server.endpoint), {
      method: 'HEAD',
      headers: { 'tus-resumable': '1.0.0' },
    })
    // The answer was lost, not what it answered.
    if (head.headers.has('calotype-image-id'))
      return { status: 204, headers: Object.fromEntries(head.headers) }
    offset = Number(head.headers.get('upload-offset'))
  }
}

/** What became of one upload. */
type Outcome = { readonly is: 'sent'; readonly lengthBytes: number; readonly imageId: string } | 'refused'

async function upload(place: TransferPlace, random: Chance, index: number): Promise<Outcome> {
  const bytes = random.bytes(SECTOR_BYTES * (1 + random(1500)))
  const { length: lengthBytes } = bytes
  // Every fifth tells its length with the part alone, and every tenth not even the part's.
  const isDeferred = index % 5 === 4
  const made = await create(place, `upload ${index}`, isDeferred ? undefined : lengthBytes).catch(
    (error: unknown) => {
      assert.ok(error instanceof ServerRefusal && error.kind === 'full', String(error))
      return undefined
    },
  )
  if (made === undefined) return 'refused'
  const told = isDeferred ? { 'upload-length': lengthBytes } : {}
  const size = index % 10 === 9 ? { 'transfer-encoding': 'chunked' } : {}
  const { status, headers } = await sendAll(place, made, bytes, { ...told, ...size })
  const imageId = headers['calotype-image-id']
  if (status === 204 && typeof imageId === 'string') return { is: 'sent', lengthBytes, imageId }
  assert.equal(status, 413, `upload ${index}`)
  await place.server.native.call('DELETE', `/v1/uploads/${made.uploadId}`, { query: { region: HOME } })
  return 'refused'
}

test('200 uploads at once never get more than the quota', async (t) => {
  const place = await newTransferPlace(t)
  const random = seeded(t)
  const quotaBytes = 7 * MIB + 3 * SECTOR_BYTES
  await setQuota(place, quotaBytes)
  let isOver = false
  let chargedMax = 0
  const watching = (async () => {
    while (!isOver) {
      chargedMax = Math.max(chargedMax, await chargedBytes(place))
      await delay(20)
    }
  })()
  const outcomes = await Promise.all(
    Array.from({ length: 200 }, (_value, index) => upload(place, random, index)),
  ).finally(() => {
    isOver = true
  })
  await watching
  await assertNothingRuns(place)
  const sent = outcomes.filter((outcome) => outcome !== 'refused')
  const sentBytes = sent.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0)
  t.diagnostic(`${sent.length} of 200 came in, ${sentBytes} of ${quotaBytes} bytes; charged ${chargedMax}`)
  assert.ok(sentBytes <= quotaBytes && chargedMax <= quotaBytes)
  assert.ok(sent.length < 200 && sentBytes > quotaBytes * 0.8)
  assert.equal(await chargedBytes(place), sentBytes)
  for (const { imageId, lengthBytes } of sent) {
    const image = await getImage(place, imageId)
    assert.deepEqual([image.state, image.dataBytes], ['available', lengthBytes], image.reason ?? '')
    await deleteImage(place, imageId)
  }
  await assertNothingLeft(place, [])
})

test('an upload that is deleted while it comes leaves nothing, wherever it was', async (t) => {
  const place = await newTransferPlace(t)
  const random = seeded(t)
  const before = await contentOf(place)
  const lengthBytes = 66 * MIB
  const bytes = random.bytes(lengthBytes)
  const places = [0, 1, 511, 262_144, MIB - 1, MIB, MIB + 1, 64 * MIB, 64 * MIB + 1, lengthBytes - 1]
  places.push(...Array.from({ length: 6 }, () => random(lengthBytes)), lengthBytes, lengthBytes)
  const told: string[] = []
  const remove = async (at: number, index: number) => {
    const made = await create(place, `upload ${index}`, lengthBytes)
    const { outgoing, answer } = openPart(place, made.location, { 'content-length': lengthBytes })
    await new Promise<void>((resolve) => outgoing.write(bytes.subarray(0, at), () => resolve()))
    if (at === lengthBytes) outgoing.end()
    // The last one of all is whole before it is deleted.
    if (index === places.length - 1) await answer
    const path = index % 2 === 0 ? made.location : `/v1/uploads/${made.uploadId}`
    const gone =
      index % 2 === 0
        ? await fetch(new URL(path, place.server.endpoint), {
            method: 'DELETE',
            headers: { 'tus-resumable': '1.0.0' },
          }).then(({ status }) => status)
        : await place.server.native
            .call('DELETE', path, { query: { region: HOME } })
            .then(() => 204)
            .catch((error: unknown) => {
              assert.ok(error instanceof ServerRefusal, String(error))
              return error.status
            })
    const sent = await answer
    outgoing.destroy()
    told.push(`${at}: ${gone}/${sent?.status}`)
    if (gone === 204) {
      const head = await fetch(new URL(made.location, place.server.endpoint), {
        method: 'HEAD',
        headers: { 'tus-resumable': '1.0.0' },
      })
      assert.equal(head.status, 404)
      return
    }
    // All of it had come before: it is an image's by now, and goes with that.
    assert.deepEqual([at, gone, sent?.status], [lengthBytes, 409, 204])
    await deleteImage(place, String(sent?.headers['calotype-image-id']))
  }
  for (let first = 0; first < places.length; first += 6) {
    const some = places.slice(first, first + 6)
    await Promise.all(some.map((at, index) => remove(at, first + index)))
  }
  t.diagnostic(told.join(', '))
  await assertNothingLeft(place, before)
})

test('an import that fails is charged nothing, whatever it fails for', async (t) => {
  const place = await newTransferPlace(t)
  const random = seeded(t)
  const before = await contentOf(place)
  const raw = join(place.imports, 'noise.raw')
  await writeFile(raw, random.bytes(6 * MIB))
  await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, `${raw}.qcow2`])
  await writeFile(`${raw}.text`, 'What compresses well. '.repeat((24 * MIB) / 22))
  await run('truncate', ['-s', String(24 * MIB), `${raw}.text`])
  const zipped = ['convert', '-c', '-f', 'raw', '-O', 'qcow2', `${raw}.text`, `${raw}.text.qcow2`]
  await run('qemu-img', zipped)
  await run('zstd', ['-q', `${raw}.text`])
  await run('zstd', ['-q', raw])
  await run('truncate', ['-s', String(3 * MIB), `${raw}.zst`])
  await setQuota(place, 8 * MIB)
  const wrong = { checksum: `sha256:${'0'.repeat(64)}` }
  for (const [fileName, wish, kind, reason] of [
    ['noise.raw', wrong, 'invalid', /sha256/],
    ['noise.raw.qcow2', { format: 'vmdk' }, 'invalid', /qcow2/],
    ['noise.raw.zst', {}, 'invalid', /damaged|packed|cut/i],
    // Small as a file, and more than the quota as a disk.
    ['noise.raw.text.qcow2', {}, 'full', /quota/],
    ['noise.raw.text.zst', {}, 'full', /quota/],
  ] as const) {
    const ways = [
      () => beginImport(place, { fileName }, fileName, wish),
      () => sendByTus(place.server, join(place.imports, fileName), fileName, { metadata: plain(wish) }),
    ]
    for (const begin of ways) {
      const begun: Begun = await begin()
      const task = await waitForTask(place.server, begun.taskId)
      assert.deepEqual([task.state, task.faultKind], ['failed', kind], `${fileName}: ${task.reason}`)
      assert.match(task.reason ?? '', reason, fileName)
      assert.equal((await getImage(place, begun.imageId)).state, 'failed')
      await assertNothingLeft(place, before)
    }
  }
  // And what is not begun at all.
  await assert.rejects(create(place, 'too large', 8 * MIB + 1), { kind: 'full' })
  assert.deepEqual(
    (await uploadsOf(place)).filter(({ state }: ShownUpload) => state === 'receiving'),
    [],
  )
  // Room for all of it again.
  const last = await sendByTus(place.server, raw, 'noise')
  assert.equal((await imported(place, last)).dataBytes, 6 * MIB)
})

const plain = (wish: object): Record<string, string> =>
  Object.fromEntries(Object.entries(wish).map(([key, value]) => [key, String(value)]))
