import assert from 'node:assert/strict'
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Digest } from '../../src/image/ids.ts'
import { openDirectoryObjects } from '../../src/objects/directory.ts'
import { seededRandom } from '../../src/objects/failing.fixture.ts'
import { assertHolds, captureDisks, type TestDisk } from '../../src/store/disks.fixture.ts'
import { pullImage } from '../../src/store/pull.ts'
import type { RegionStore } from '../../src/store/region.ts'
import { verifyRegion } from '../../src/store/verify.ts'
import { findOrphans } from '../kill/needed.ts'
import { collect } from '../kill/story.ts'
import { type Death, DOMAIN, diskOf, openStore, PACK_BYTES } from './kill-world.ts'

export const NEVER: Death = { atCall: 0, when: 'before', delayMs: 0 }
const CHILD = join(import.meta.dirname, 'kill-child.ts')

/** A process that has loaded everything and waits for its order. */
async function newChild(): Promise<ChildProcess> {
  const child = fork(CHILD, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  await once(child, 'message')
  return child
}

export async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = once(child, 'exit')
  child.kill('SIGKILL')
  await gone
}

/** The draws of a seed, and processes, one of which is always ready before it is needed. */
export class Deaths {
  readonly #random: () => number
  #next = newChild()
  killCount = 0

  constructor(seed: number) {
    this.#random = seededRandom(seed)
  }

  pick(countMax: number): number {
    return Math.floor(this.#random() * countMax)
  }

  draw(callCount: number): Death {
    const when = (['before', 'during', 'after'] as const)[this.pick(3)] ?? 'before'
    return { atCall: 1 + this.pick(callCount), when, delayMs: this.pick(4) }
  }

  async take(): Promise<ChildProcess> {
    const child = await this.#next
    this.#next = newChild()
    return child
  }

  async dispose(): Promise<void> {
    await end(await this.#next)
  }
}

export interface Story {
  readonly folder: string
  readonly digest: Digest
  readonly disks: readonly TestDisk[]
  /** Stored bytes that the target lacks. */
  readonly missingBytes: number
}

/** Two folders: an image in the first, of which the second has so many chunks already. */
export async function withStory(
  deaths: Deaths,
  heldCount: number,
  body: (story: Story) => Promise<void>,
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'copy-kill-'))
  try {
    const source = await openStore(folder, 'source')
    const held = Array.from({ length: heldCount }, (_, i) => 501 + 2 * i)
    const [sessionId, domain] = ['s', DOMAIN]
    if (held.length > 0) {
      const { digest } = await captureDisks({ region: source, sessionId: 'h', domain, disks: [diskOf(held)] })
      const target = await openStore(folder, 'target')
      await pullImage({ source, target, digest, sessionId: 'h' })
      target.close()
    }
    const from = 1 + 2 * deaths.pick(40)
    const fresh = Array.from({ length: 56 + deaths.pick(40) }, (_, i) => from + 2 * i)
    const disks = [diskOf([...held, ...fresh, 0, 0, 2, 4]), diskOf(fresh.slice(0, 9))]
    const { digest, counts } = await captureDisks({ region: source, sessionId, domain, disks })
    source.close()
    await body({ folder, digest, disks, missingBytes: counts.storedBytes })
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

export async function assertWhole(
  target: RegionStore,
  { folder, digest, disks }: Story,
  told: string,
): Promise<void> {
  assert.ok(target.hasImage(digest), `the copy has the digest of its source after ${told}`)
  await assertHolds(target, digest, disks)
  assert.deepEqual(target.listSessions(), [], `no session is left after ${told}`)
  const { problems } = await verifyRegion({ region: target, deep: true })
  assert.deepEqual(problems, [], `a deep check finds nothing after ${told}`)
  await collect(target)
  const objects = await openDirectoryObjects({ folder: join(folder, 'target'), clean: true })
  assert.deepEqual(await findOrphans(objects, [digest]), [], `no orphan is left after ${told}`)
}

/** What was asked of the source's packs in vain, which a kill may cost. `packCount`: so many packs for each. */
export function assertFrugal(
  askedBytes: number,
  story: Story,
  killCount: number,
  packCount: number,
  told: string,
) {
  const allowedBytes = story.missingBytes * 1.02 + 4096 + killCount * packCount * PACK_BYTES
  assert.ok(askedBytes <= allowedBytes, `${askedBytes} of ${allowedBytes} bytes, after ${told}`)
}
