import assert from 'node:assert/strict'
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { Digest } from '../../src/image/ids.ts'
import { openDirectoryObjects } from '../../src/objects/directory.ts'
import { seededRandom } from '../../src/objects/failing.fixture.ts'
import { assertHolds, type TestDisk } from '../../src/store/disks.fixture.ts'
import type { RegionStore } from '../../src/store/region.ts'
import { verifyRegion } from '../../src/store/verify.ts'
import type { Order } from './child.ts'
import { findOrphans } from './needed.ts'
import { type Command, collect, disksOf, openRegion, run } from './story.ts'

const KILL_COUNT = 200
const LANE_COUNT = 2
const KINDS = [
  ...(['capture', 'collect', 'copy', 'rewrite', 'capture', 'collect', 'copy'] as const),
  ...(['capture', 'rewrite', 'collect', 'drop', 'collect', 'refer', 'rewrite', 'rebuild'] as const),
]
/** More images would only make each look at them longer. */
const HELD_MAX = 5
const CHILD = join(import.meta.dirname, 'child.ts')

/** A process that has loaded everything and waits for its order. */
async function newChild(): Promise<ChildProcess> {
  const child = fork(CHILD, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  await once(child, 'message')
  return child
}

interface Held {
  readonly region: number
  readonly holder: string
  readonly digest: Digest
  readonly disks: readonly TestDisk[]
}

/** Two regions in a folder, what has to be in them, and the processes that die over them. */
class Lane {
  readonly #folder: string
  readonly #random: () => number
  readonly #held: Held[] = []
  #next = newChild()
  #count = 0
  /** Calls that each kind of command made when it was last done whole. */
  readonly #callCounts = new Map<Command['kind'], number>()
  readonly kills = new Map<Command['kind'], number>()

  constructor(folder: string, seed: number) {
    this.#folder = folder
    this.#random = seededRandom(seed)
  }

  get killCount(): number {
    return [...this.kills.values()].reduce((sum, count) => sum + count, 0)
  }

  async dispose(): Promise<void> {
    ;(await this.#next).kill('SIGKILL')
  }

  #pick(countMax: number): number {
    return Math.floor(this.#random() * countMax)
  }

  #heldIn(region: number): Held[] {
    return this.#held.filter((held) => held.region === region)
  }

  /** What comes next: images come and go, so that packs are shared, thin out and are repacked. */
  #command(): Command {
    const id = `${++this.#count}`
    const region = this.#pick(3) === 0 ? 1 : 0
    const [first] = this.#heldIn(0)
    const kind = KINDS[this.#count % KINDS.length] ?? 'capture'
    if (kind === 'copy' && first !== undefined) {
      return { kind, sessionId: `s${id}`, holder: `h${id}`, digest: first.digest }
    }
    if (kind === 'refer' && first !== undefined) {
      return { kind, region: 0, holder: `h${id}`, digest: first.digest }
    }
    const last = this.#held.at(-1)
    if (kind === 'drop' && last !== undefined) return { kind, region: last.region, holder: last.holder }
    if (kind === 'collect' || kind === 'rebuild') return { kind, region }
    if (kind === 'rewrite') return { kind, region, sessionId: `repair-${id}` }
    const isPublic = this.#pick(4) === 0
    const disk = () => Array.from({ length: 2 + this.#pick(6) }, () => this.#pick(24))
    return {
      kind: 'capture',
      region,
      sessionId: `s${id}`,
      holder: `h${id}`,
      isPublic,
      disks: [disk(), disk()],
    }
  }

  async #open(): Promise<readonly [RegionStore, RegionStore]> {
    const open = async (number: number) => {
      const folder = join(this.#folder, `region${number}`)
      const objects = await openDirectoryObjects({ folder, clean: true })
      return openRegion(objects, join(this.#folder, `index${number}.sqlite`), number)
    }
    return [await open(0), await open(1)]
  }

  /** One command whose process dies in its middle, then what a server does that is started again. */
  async round(): Promise<void> {
    const command = this.#command()
    const child = await this.#next
    this.#next = newChild()
    const known = this.#callCounts.get(command.kind) ?? 40
    const order: Order = {
      folder: this.#folder,
      command,
      dieAt: 1 + this.#pick(known),
      isAfter: this.#pick(2) === 0,
    }
    const told = `round ${this.#count}: ${JSON.stringify(order)}`
    child.once('message', (callCount: number) => this.#callCounts.set(command.kind, callCount))
    child.send(order)
    const [code, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null]
    assert(signal === 'SIGKILL' || code === 0, `the command fails by itself in ${told}`)
    if (signal === 'SIGKILL') this.kills.set(command.kind, (this.kills.get(command.kind) ?? 0) + 1)

    const regions = await this.#open()
    try {
      await this.#assertWhole(regions, command, told)
      await this.#clearUp(regions, command)
      const digest = await run(regions, command)
      this.#note(command, digest)
      await this.#assertClean(regions, told)
      // Without a collection: so the next command finds garbage.
      while (this.#held.length > HELD_MAX) {
        const held = this.#held.splice(this.#pick(this.#held.length), 1)[0]
        if (held !== undefined) await regions[held.region]?.dropRef(held.holder)
      }
    } finally {
      for (const region of regions) region.close()
    }
  }

  /** Sessions that no task takes up again end; every other time that of the command does as well. */
  async #clearUp(regions: readonly RegionStore[], command: Command): Promise<void> {
    const isResuming = this.#pick(2) === 0
    for (const [number, region] of regions.entries()) {
      for (const { id } of region.listSessions()) {
        const isOwn = 'sessionId' in command && command.sessionId === id
        if (!isOwn || !isResuming) await region.abortSession(id)
      }
      const isTarget = ('region' in command ? command.region : 1) === number
      if (!isResuming && isTarget && 'holder' in command) await region.dropRef(command.holder)
    }
  }

  #note(command: Command, digest: Digest | undefined): void {
    if (command.kind === 'drop') {
      const at = this.#held.findIndex((held) => held.holder === command.holder)
      if (at >= 0) this.#held.splice(at, 1)
    }
    if (digest === undefined || !('holder' in command)) return
    const region = command.kind === 'copy' ? 1 : command.region
    const disks =
      command.kind === 'capture'
        ? disksOf(command.disks)
        : this.#held.find((held) => held.digest === digest)?.disks
    assert(disks !== undefined)
    this.#held.push({ region, holder: command.holder, digest, disks })
  }

  /** Every image that somebody refers to is as it was. */
  async #assertWhole(regions: readonly RegionStore[], command: Command, told: string): Promise<void> {
    for (const { region, holder, digest, disks } of this.#held) {
      if (command.kind === 'drop' && command.holder === holder) continue
      const store = regions[region]
      assert(store !== undefined)
      assert(store.journal.findRef(holder) !== undefined, `${holder} still refers after ${told}`)
      await assertHolds(store, digest, disks)
    }
  }

  async #assertClean(regions: readonly RegionStore[], told: string): Promise<void> {
    for (const [number, region] of regions.entries()) {
      await collect(region)
      const digests = new Set(this.#heldIn(number).map((held) => held.digest))
      assert.deepEqual(await findOrphans(region.objects, digests), [], `no orphan is left after ${told}`)
      assert.deepEqual(region.listSessions(), [])
      const { problems } = await verifyRegion({ region, deep: true })
      assert.deepEqual(problems, [], `a deep check finds nothing after ${told}`)
    }
    const none: Command = { kind: 'collect', region: 0 }
    await this.#assertWhole(regions, none, told)
  }
}

test(`${KILL_COUNT} times a process is killed in the middle of its work, and what comes after puts it right`, async (t) => {
  const seed = Math.floor(Math.random() * 2 ** 31)
  t.diagnostic(`seed ${seed}`)
  const kills = new Map<string, number>()
  await Promise.all(
    Array.from({ length: LANE_COUNT }, async (_, i) => {
      const folder = await mkdtemp(join(tmpdir(), 'kill-'))
      const lane = new Lane(folder, seed + i)
      try {
        while (lane.killCount < KILL_COUNT / LANE_COUNT) await lane.round()
      } catch (error) {
        throw new Error(`seed ${seed}, lane ${i}`, { cause: error })
      } finally {
        await lane.dispose()
        await rm(folder, { recursive: true, force: true })
      }
      for (const [kind, count] of lane.kills) kills.set(kind, (kills.get(kind) ?? 0) + count)
    }),
  )
  t.diagnostic(`killed during: ${JSON.stringify(Object.fromEntries(kills))}`)
  for (const kind of ['capture', 'copy', 'collect', 'rewrite']) assert((kills.get(kind) ?? 0) > 10, kind)
})
