import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { test } from 'node:test'
import { isFault } from '../image/fault.ts'
import { BEGUN_MAX, PeerConnection } from './connection.ts'
import { makeIdentity } from './identity.ts'
import { withWorld } from './world.fixture.ts'

const QUESTION = { method: 'GET', path: '/regions', lengthBytesMax: 10_000 } as const

/** Who connects to `url` through it is counted. */
async function withCounter(
  url: string,
  body: (counter: { readonly url: string; readonly all: Socket[]; open(): number }) => Promise<void>,
): Promise<void> {
  const all: Socket[] = []
  const port = Number(new URL(url).port)
  const server = createServer((near) => {
    all.push(near)
    const far = connect(port, '127.0.0.1')
    near.on('error', () => far.destroy()).on('close', () => far.destroy())
    far.on('error', () => near.destroy()).on('close', () => near.destroy())
    near.pipe(far)
    far.pipe(near)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const counted = `https://127.0.0.1:${(server.address() as AddressInfo).port}`
  try {
    await body({ url: counted, all, open: () => all.filter(({ destroyed }) => !destroyed).length })
  } finally {
    for (const socket of all) socket.destroy()
    server.close()
  }
}

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise((resolve) => setTimeout(resolve, 2))
}

test('questions go over the connections that were begun, and the others end with it', () =>
  withWorld(({ peer }) =>
    withCounter(peer.url, async ({ url, all, open }) => {
      const connection = new PeerConnection({ ...peer.place, url }, { begunMs: 60_000 })
      connection.begin()
      const asked = Array.from({ length: BEGUN_MAX - 1 }, () => connection.ask(QUESTION))
      for (const { bytes } of await Promise.all(asked)) assert.match(bytes.toString(), /regions/)
      await until(() => all.length === BEGUN_MAX)
      await connection.ask(QUESTION)
      assert.equal(all.length, BEGUN_MAX)
      connection.close()
      await until(() => open() === 0)
    }),
  ))

test('those that nobody uses are closed, and a question after that has one of its own', () =>
  withWorld(({ peer }) =>
    withCounter(peer.url, async ({ url, all, open }) => {
      const connection = new PeerConnection({ ...peer.place, url }, { begunMs: 300 })
      connection.begin()
      await until(() => all.length > 0 && open() === 0)
      assert.match((await connection.ask(QUESTION)).bytes.toString(), /regions/)
      connection.close()
      await until(() => open() === 0)
    }),
  ))

test('whoever gets a connection that was begun is told what came of it, and nobody else', () =>
  withWorld(async ({ peer }) => {
    const stranger = makeIdentity()
    const denied = new PeerConnection({ ...peer.place, ...stranger })
    denied.begin()
    await assert.rejects(denied.ask(QUESTION), (error) => isFault(error, 'denied'))
    denied.close()
    const wrong = new PeerConnection({ ...peer.place, fingerprint: 'ab'.repeat(32) })
    wrong.begin()
    await assert.rejects(wrong.ask(QUESTION), (error) => isFault(error, 'denied'))
    wrong.close()
    const nobody = new PeerConnection({ ...peer.place, url: 'https://127.0.0.1:1' })
    nobody.begin()
    await assert.rejects(nobody.ask(QUESTION), (error) => isFault(error, 'unavailable'))
    nobody.close()
  }))

test('a connection that is closed while others are being made leaves none behind', () =>
  withWorld(({ peer }) =>
    withCounter(peer.url, async ({ url, all, open }) => {
      const connection = new PeerConnection({ ...peer.place, url })
      connection.begin()
      await until(() => all.length > 0)
      connection.close()
      await until(() => open() === 0)
    }),
  ))
