import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtemp } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { verifyAll } from '../../demo/steps.ts'
import type { CopyPlan } from '../../src/image/copy.ts'
import type { ShownImage, ShownTask } from '../../src/wire/native/show.ts'
import { calotype, calotypeFile, calotypeJson } from '../clean/command.ts'
import {
  type Asked,
  api,
  bringIn,
  CHUNK_BYTES,
  exportedSha256,
  type FlowPlace,
  HOME,
  imageOf,
  MIB,
  newDisk,
  newFlowPlace,
  newProject,
  sha256,
  until,
} from './flow-place.ts'

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  await new Promise((resolve) => server.close(resolve))
  assert(address !== null && typeof address === 'object')
  return address.port
}

/** A data directory that no server has seen, and what others know it by. */
async function newIdentity(): Promise<{ readonly data: string; readonly fingerprint: string }> {
  const data = await mkdtemp(join(tmpdir(), 'calo-'))
  const { exitCode, stdout, stderr } = await calotypeFile('peer', 'identity', '--data', data)
  assert.equal(exitCode, 0, stderr)
  const fingerprint = stdout.trim()
  assert.match(fingerprint, /^[0-9a-f]{64}$/)
  return { data, fingerprint }
}

interface Fetched extends Asked {
  readonly tasks: readonly ShownTask[]
}

const copyWords = (image: string, ...more: string[]) => [
  ...['image', 'copy', image, '--from-peer', 'maker', '--region', HOME, ...more],
]

async function fetchImage(taker: FlowPlace, source: ShownImage, to: string, ...more: string[]) {
  const { copies, tasks } = await calotypeJson<Fetched>(
    ...([taker, ...copyWords(source.id, '--to', to, ...more), '--wait'] as const),
  )
  const [task] = tasks
  assert(task !== undefined && copies[0] !== undefined)
  const image = await imageOf(taker, to, copies[0].imageId)
  assert.deepEqual([image.state, image.digest, image.name], ['available', source.digest, source.name])
  return { image, task }
}

/** Answers what the command said; no image is listed of what was refused. */
async function assertRefused(taker: FlowPlace, words: readonly string[], said: RegExp): Promise<string> {
  const { exitCode, stdout, stderr } = await calotype(taker, ...words, '--wait')
  assert.equal(exitCode, 1, stdout)
  assert.match(stderr, said)
  for (const region of ['hk', 'cn-bj2']) {
    const { images } = await api<{ images: ShownImage[] }>(taker, 'GET', '/v1/images', { query: { region } })
    assert.deepEqual(
      images.filter(({ state }) => state !== 'available'),
      [],
    )
  }
  return stderr
}

test('between two servers over HTTPS: the bytes are the same, a second version moves what changed, others are refused', async (t: TestContext) => {
  const [maker, taker] = [await newIdentity(), await newIdentity()]
  const port = await freePort()
  const listening = { peering: { listen: `127.0.0.1:${port}` } }
  const readers = (more: object) => ({
    file: { ...listening, peers: { taker: { fingerprint: taker.fingerprint, ...more } } },
  })
  const source = await newFlowPlace(t, { ...readers({ projects: 'all' }), data: maker.data })
  const known = (fingerprint: string) => ({
    file: { peers: { maker: { fingerprint, url: `https://127.0.0.1:${port}` } } },
  })
  const target = await newFlowPlace(t, { ...known(maker.fingerprint), data: taker.data })

  const disk = newDisk(16 * MIB)
  const first = await bringIn(source, 'first', disk, { tag: 'carried', description: 'Over the line.' })
  disk.fill(9, 7 * CHUNK_BYTES, 8 * CHUNK_BYTES)
  newDisk(2 * CHUNK_BYTES).copy(disk, 50 * CHUNK_BYTES)
  const second = await bringIn(source, 'second', disk)

  const { peers } = await calotypeJson<{
    peers: { name: string; reason: string | null; regions: string[] }[]
  }>(...([target, 'peer', 'list'] as const))
  assert.deepEqual(
    peers.map(({ name, reason }) => [name, reason]),
    [['maker', null]],
  )
  assert.ok(peers[0]?.regions.includes(HOME))

  const plan = await calotypeJson<CopyPlan>(target, ...copyWords(first.id, '--to', 'hk', '--dry-run'))
  const moved = await fetchImage(target, first, 'hk')
  assert.equal(moved.task.output.by, 'pull')
  assert.deepEqual([moved.image.tag, moved.image.description], [first.tag, first.description])
  t.diagnostic(`moved ${moved.task.movedBytes}, planned ${plan.moveBytes}`)
  assert.ok(Math.abs(moved.task.movedBytes - plan.moveBytes) <= plan.moveBytes * 0.02)
  const changed = await fetchImage(target, second, 'hk')
  const said = `moved ${changed.task.movedBytes}, saved ${changed.task.savedBytes}`
  assert.ok(changed.task.movedBytes <= 4 * CHUNK_BYTES, said)
  assert.ok(changed.task.savedBytes >= 14 * MIB, said)
  assert.equal(await exportedSha256(target, 'hk', changed.image.id), sha256(disk))
  await verifyAll(source.server)
  await verifyAll(target.server)

  // What was fetched is an image as any other: it needs no peer any more.
  const shown = await newProject(source, 'shown')
  await source.kill()
  const onward = await calotypeJson<Fetched>(
    ...([target, 'image', 'copy', changed.image.id, '--region', 'hk', '--to', 'cn-bj2', '--wait'] as const),
  )
  assert.equal(await exportedSha256(target, 'cn-bj2', onward.copies[0]?.imageId ?? ''), sha256(disk))
  const words = copyWords(first.id, '--to', 'cn-bj2')
  await assertRefused(target, words, /^calotype: Peer maker does not answer \(ECONNREFUSED\)/)

  const startedWith = async (settings: { readonly file: object }) => {
    await source.kill()
    await source.configure(settings)
    await source.start()
    // It answers its own people before it answers peers.
    await until('the endpoint for peers', () => isListening(port))
  }
  const notLet =
    /^calotype: Peer maker does not let us read that\. Ask whoever runs it to name our certificate/
  const nobody = { taker: { fingerprint: 'a'.repeat(64), projects: 'all' } }
  for (const [settings, said] of [
    // A project, then a region that we may not read; then they know another in our place, or nobody.
    [readers({ projects: [shown] }), /^calotype: Peer maker has no such image|^calotype: There is no image/],
    [readers({ projects: 'all', regions: ['cn-bj2'] }), notLet],
    [{ file: { ...listening, peers: nobody } }, notLet],
  ] as const) {
    await startedWith(settings)
    t.diagnostic(await assertRefused(target, words, said))
  }
  await startedWith(readers({ projects: 'all' }))
  await target.configure(known('b'.repeat(64)))
  await target.restart()
  const other = /^calotype: Peer maker shows another certificate than peers\.maker\.fingerprint says/
  t.diagnostic(await assertRefused(target, words, other))
  await assertRefused(target, [...words, '--from-peer', 'nobody'], /no peer 'nobody'/)
})

async function isListening(port: number): Promise<true | undefined> {
  const socket = connect(port, '127.0.0.1')
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return undefined
  } finally {
    socket.destroy()
  }
}
