import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { test } from 'node:test'
import { isFault } from '../../image/fault.ts'
import { makeIdentity } from '../../peers/identity.ts'
import { startPeerEndpoint } from './peer-endpoint.ts'
import type { PeerThreadData } from './peer-thread.ts'

const answers = {
  image: () => Promise.reject(new Error('nobody asks')),
  mayRead: async () => true,
}
const listen = { host: '127.0.0.1', port: 0 }
const dying = new URL('./peer-endpoint-thread.fixture.ts', import.meta.url)

test('an endpoint that ends is started again at the same address, as often as it takes', async () => {
  const startCount = new Int32Array(new SharedArrayBuffer(4))
  const records: Record<string, unknown>[] = []
  let up = Promise.withResolvers<void>()
  const endpoint = await startPeerEndpoint(
    { listen, startCount } as unknown as PeerThreadData,
    answers,
    (record) => {
      records.push(record)
      if (record.message === 'the endpoint for peers is up again') up.resolve()
    },
    { entry: dying, againMs: 1 },
  )
  const ask = async () => (await fetch(endpoint.url, { headers: { connection: 'close' } })).text()
  assert.equal(await ask(), 'seen')
  await up.promise
  assert.equal(startCount[0], 3)
  up = Promise.withResolvers()
  assert.equal(await ask(), 'seen')
  await up.promise
  assert.equal(startCount[0], 4)
  await endpoint.close()
  assert.equal(records.filter(({ level }) => level === 'error').length, 4)
  assert.equal(records.filter(({ message }) => /cannot be started again yet/.test(String(message))).length, 1)
  await assert.rejects(ask())
  // Closed on purpose it stays so.
  assert.equal(startCount[0], 4)
})

test('one that finds its address taken at the start is not tried again', async () => {
  const other = createServer().listen(0, '127.0.0.1')
  await once(other, 'listening')
  const { port } = other.address() as { port: number }
  const place = { places: [], identity: makeIdentity(), readers: new Map() }
  try {
    await assert.rejects(
      startPeerEndpoint({ ...place, listen: { ...listen, port } }, answers, () => {}),
      (error) => isFault(error, 'invalid') && error.field === 'peering.listen',
    )
  } finally {
    other.close()
  }
  const endpoint = await startPeerEndpoint({ ...place, listen }, answers, () => {})
  await endpoint.close()
})
