import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'
import { isFault } from '../../src/image/fault.ts'
import type { Digest } from '../../src/image/ids.ts'
import { openPeerSource } from '../../src/peers/client.ts'
import { fingerprintOf, makeIdentity } from '../../src/peers/identity.ts'
import { pullImage } from '../../src/store/pull.ts'
import type { RegionStore } from '../../src/store/region.ts'
import type { ReadOnlyRegion } from '../../src/store/source.ts'
import { assertFrugal, assertWhole, Deaths, end, NEVER, withStory } from './kill-deaths.ts'
import { type Death, type Order, openStore, RANGE_BYTES, REGION, SESSION, type Word } from './kill-world.ts'

const KILL_COUNT = 25
const KILLS_EACH_MAX = 5
const [OURS, THEIRS] = [makeIdentity(), makeIdentity()]

/** Another installation in a process of its own, which may be dead. */
class Peer {
  readonly #deaths: Deaths
  readonly #folder: string
  #child: ChildProcess | undefined
  url = ''

  constructor(deaths: Deaths, folder: string) {
    this.#deaths = deaths
    this.#folder = folder
  }

  /** On the port that it had before. False if it dies before it listens. */
  async start(death: Death): Promise<boolean> {
    const child = await this.#deaths.take()
    this.#child = child
    const port = this.url === '' ? 0 : Number(new URL(this.url).port)
    const fingerprint = fingerprintOf(OURS.certificate)
    child.send({
      is: 'serve',
      folder: this.#folder,
      port,
      death,
      identity: THEIRS,
      fingerprint,
    } satisfies Order)
    const [word] = (await Promise.race([
      once(child, 'message'),
      once(child, 'exit').then(() => [{ is: 'done', callCount: 0 }]),
    ])) as [Word]
    if (word.is !== 'listening') return false
    this.url = word.url
    return true
  }

  async stop(): Promise<void> {
    if (this.#child !== undefined) await end(this.#child)
  }
}

test(`the source's process is killed ${KILL_COUNT} times while it is read over HTTPS; the copies come out whole`, async (t) => {
  const seed = Math.floor(Math.random() * 2 ** 31)
  t.diagnostic(`seed ${seed}`)
  const deaths = new Deaths(seed)
  let storyCount = 0
  let midCount = 0
  try {
    while (deaths.killCount < KILL_COUNT) {
      // A stranger's chunks are none of ours, whatever is in them.
      await withStory(deaths, 0, async (story) => {
        const { folder, digest } = story
        const peer = new Peer(deaths, folder)
        const killsMax = 1 + deaths.pick(KILLS_EACH_MAX)
        const orders: Death[] = []
        const target = await openStore(folder, 'target')
        let askedBytes = 0
        let killCount = 0
        try {
          for (let isDone = false; !isDone; ) {
            const death = killCount >= killsMax ? NEVER : deaths.draw(60)
            const before = askedBytes
            orders.push(death)
            isDone =
              (await peer.start(death)) &&
              (await pullOnce(peer.url, target, digest, (bytes) => {
                askedBytes += bytes
              }).catch((error: unknown) => {
                assert(
                  isFault(error, 'unavailable'),
                  new Error(`seed ${seed}: ${JSON.stringify(orders)}`, { cause: error }),
                )
                return false
              }))
            if (!isDone) killCount++
            if (!isDone && askedBytes > before) midCount++
            // A death may come too late, or still be on its way.
            await peer.stop()
          }
          deaths.killCount += killCount
          const told = `seed ${seed}, story ${++storyCount}: ${JSON.stringify(orders)}`
          await assertWhole(target, story, told)
          assertFrugal(askedBytes, story, killCount, 1, told)
        } finally {
          target.close()
          await peer.stop()
        }
      })
    }
  } finally {
    await deaths.dispose()
  }
  t.diagnostic(`${deaths.killCount} kills in ${storyCount} copies, ${midCount} once bytes were read`)
  assert.ok(midCount > 0)
})

async function pullOnce(
  url: string,
  target: RegionStore,
  digest: Digest,
  onAsked: (lengthBytes: number) => void,
): Promise<true> {
  const place = { name: 'mars', url, fingerprint: fingerprintOf(THEIRS.certificate), ...OURS }
  const peer = await openPeerSource(place, REGION, target, digest, new AbortController().signal)
  const { objects } = peer
  const source: ReadOnlyRegion = {
    ...peer,
    objects: {
      ...objects,
      get(name, offset, lengthBytes, signal) {
        if (name.startsWith('packs/')) onAsked(lengthBytes)
        return objects.get(name, offset, lengthBytes, signal)
      },
    },
  }
  try {
    const ref = { holder: SESSION, label: {} }
    await pullImage({
      source,
      target,
      digest,
      sessionId: SESSION,
      ref,
      limits: { rangeBytesMax: RANGE_BYTES },
    })
    return true
  } finally {
    peer.close()
  }
}
