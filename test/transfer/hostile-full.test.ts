import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { waitForTask } from '../../demo/steps.ts'
import { HOME, inside } from '../e2e/failure-steps.ts'
import type { PlaceOptions } from '../e2e/harness.ts'
import { assertHoldsAsBefore, heldAfterHarmless, newHostilePlace } from './hostile-place.ts'
import { createUpload, findUpload, sendPart } from './hostile-ways.ts'
import { beginImport, collectNow, deleteImage, getImage, imported } from './transfer-place.ts'

const MIB = 1024 ** 2
const STORE_MEBIBYTES = 24
const TOO_MANY_MEBIBYTES = 64

/** A store of that size, in a mount namespace of the server's own. */
const withSmallStore: NonNullable<PlaceOptions['wrapper']> = (data) => {
  const mount = `mkdir -p "$1" && mount -t tmpfs -o size=${STORE_MEBIBYTES}m tmpfs "$1" && shift && exec "$@"`
  const namespaces = process.getuid?.() === 0 ? '-m' : '-rm'
  return ['unshare', namespaces, 'sh', '-c', mount, 'sh', join(data, `regions/${HOME}/objects`)]
}

/** Bytes that nothing can pack, as many as are asked for, of a length that nobody tells. */
function endless(mebibytes: number): ReadableStream<Uint8Array> {
  let sent = 0
  return new ReadableStream({
    pull(controller) {
      controller.enqueue(new Uint8Array(randomBytes(MIB)))
      if (++sent === mebibytes) controller.close()
    },
  })
}

test('a store that is full refuses what comes, keeps nothing of it, and takes the next file', async (t) => {
  const place = await newHostilePlace(t, {}, { wrapper: withSmallStore })
  const { server } = place
  const before = await heldAfterHarmless(place)

  await t.test('a length that has no room is refused before the first byte', async () => {
    const asked = createUpload(place, 'told', TOO_MANY_MEBIBYTES * MIB)
    await assert.rejects(asked, { kind: 'full', message: /room|space/ })
  })

  await t.test('an upload of a length that nobody told', async () => {
    const url = await createUpload(place, 'untold', undefined)
    const sent = await sendPart(url, 0, endless(TOO_MANY_MEBIBYTES))
    assert(sent.is === 'refused')
    assert.deepEqual([sent.kind, sent.status], ['full', 413], sent.reason)
    assert.match(sent.reason, /room|space/)
    const { uploadId } = await findUpload(place, 'untold')
    await server.native.call('DELETE', `/v1/uploads/${uploadId}`, { query: { region: HOME } })
    await assertHoldsAsBefore(place, before)
  })

  await t.test('a file from an address that does not tell its length', async () => {
    const origin = createServer((_request, response) => {
      response.on('error', () => {})
      const more = (left: number) => {
        if (left === 0) response.end()
        else response.write(randomBytes(MIB), () => more(left - 1))
      }
      more(TOO_MANY_MEBIBYTES)
    })
    await new Promise<void>((resolve) => origin.listen(0, '127.0.0.1', resolve))
    try {
      const url = `http://127.0.0.1:${(origin.address() as AddressInfo).port}/disk.raw`
      const { imageId, taskId } = await beginImport(place, { url }, 'untold-too')
      const task = await waitForTask(server, taskId)
      assert.deepEqual([task.state, task.faultKind], ['failed', 'full'], task.reason ?? '')
      assert.match(task.reason ?? '', /room|space/)
      assert.equal((await getImage(place, imageId)).state, 'failed')
      await deleteImage(place, imageId)
    } finally {
      origin.closeAllConnections()
      origin.close()
    }
    await assertHoldsAsBefore(place, before)
  })

  await t.test('a file while others fill the store to the last byte', async () => {
    const ballast = inside(place, `regions/${HOME}/objects/ballast`)
    const bytes = randomBytes(8 * MIB)
    const url = await createUpload(place, 'crowded-out', bytes.length)
    assert.equal((await sendPart(url, 0, bytes.subarray(0, 2 * MIB))).is, 'kept')
    await fill(ballast)
    const refused = await sendPart(url, 2 * MIB, bytes.subarray(2 * MIB))
    assert(refused.is === 'refused')
    assert.equal(refused.kind, 'full', refused.reason)
    // What was kept is not sent again, once there is room.
    await rm(ballast)
    const begun = await sendPart(url, 2 * MIB, bytes.subarray(2 * MIB))
    assert(begun.is === 'begun', JSON.stringify(begun))
    const image = await imported(place, begun)
    assert.equal(sha256(await download(image.id)), sha256(bytes))
    await deleteImage(place, image.id)
    await collectNow(place)
    await assertHoldsAsBefore(place, before)
  })

  async function download(imageId: string): Promise<Buffer> {
    const body = { region: HOME, format: 'raw' }
    const link = await server.native.call<{ path: string }>('POST', `/v1/images/${imageId}/exports`, { body })
    return Buffer.from(await (await fetch(new URL(link.path, server.endpoint))).arrayBuffer())
  }
})

const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')

/** Until there is no room for a byte more. */
async function fill(path: string): Promise<void> {
  const isFull = await writeFile(path, Buffer.alloc(STORE_MEBIBYTES * MIB, 1)).then(
    () => false,
    () => true,
  )
  assert.ok(isFull)
}
