import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { isFault } from '../../src/image/fault.ts'
import type { Digest } from '../../src/image/ids.ts'
import { type CallKind, FaultyObjects, type Trouble } from '../../src/objects/failing.fixture.ts'
import { MemoryObjects } from '../../src/objects/memory.ts'
import { assertHolds, type TestDisk } from '../../src/store/disks.fixture.ts'
import type { RegionStore } from '../../src/store/region.ts'
import { verifyRegion } from '../../src/store/verify.ts'
import { findOrphans } from '../kill/needed.ts'
import { type Command, collect, disksOf, openRegion, run } from '../kill/story.ts'

/** 'vanished': the call never ends, the process does, and nothing of the call was done. */
type BadDay = Exclude<Trouble, 'flipped'> | 'vanished'

const ALL: readonly CallKind[] = ['put', 'get', 'size', 'list', 'remove']
const FITTING: Record<BadDay, readonly CallKind[]> = {
  unavailable: ALL,
  lost: ALL,
  full: ['put'],
  truncated: ['get'],
  stale: ['list'],
  hanging: ALL,
  vanished: ALL,
}

interface Held {
  readonly region: number
  readonly holder: string
  readonly digest: Digest
  readonly disks: readonly TestDisk[]
}

/** Two regions whose object stores can be given trouble, and what has to be in them. */
class Place {
  readonly #folder: string
  readonly #inner = [new MemoryObjects(), new MemoryObjects()] as const
  readonly #held: Held[] = []
  #faulty = this.#inner.map((objects) => new FaultyObjects(objects))
  #regions: readonly [RegionStore, RegionStore] | undefined
  #count = 0

  constructor(folder: string) {
    this.#folder = folder
  }

  async open(): Promise<void> {
    this.close()
    this.#faulty = this.#inner.map((objects) => new FaultyObjects(objects))
    const open = (number: 0 | 1) =>
      openRegion(this.#faulty[number] as FaultyObjects, join(this.#folder, `index${number}.sqlite`), number)
    this.#regions = [await open(0), await open(1)]
  }

  close(): void {
    for (const region of this.#regions ?? []) region.close()
    this.#regions = undefined
  }

  get #both(): readonly [RegionStore, RegionStore] {
    assert(this.#regions !== undefined)
    return this.#regions
  }

  /** Something to do: two images in region 0 that share chunks, one of them dropped, then a command of this kind. */
  async #prepare(kind: Command['kind']): Promise<Command> {
    const id = ++this.#count
    const capture = (name: string, disks: readonly (readonly number[])[]): Command => {
      return {
        kind: 'capture',
        region: 0,
        sessionId: `s${id}${name}`,
        holder: `h${id}${name}`,
        isPublic: false,
        disks,
      }
    }
    for (const { region, holder } of this.#held.splice(0)) await this.#both[region]?.dropRef(holder)
    const shared = 1 + (id % 40)
    await this.#do(capture('a', [[shared, 50, 51 + (id % 7)]]))
    const gone = capture('b', [[shared, 60 + (id % 5), 61, 62, 63]])
    await this.#do(gone)
    const [kept] = this.#held
    assert(kept !== undefined)
    const last = this.#held.pop()
    if (last !== undefined) await this.#both[0].dropRef(last.holder)
    for (const faulty of this.#faulty) faulty.settle()
    switch (kind) {
      case 'capture':
        return capture('c', [
          [shared, 61, 70 + (id % 9)],
          [0, 50],
        ])
      case 'copy':
        return { kind, sessionId: `s${id}d`, holder: `h${id}d`, digest: kept.digest }
      case 'refer':
        return { kind, region: 0, holder: `h${id}e`, digest: kept.digest }
      case 'drop':
        return { kind, region: 0, holder: kept.holder }
      case 'rewrite':
        return { kind, region: 0, sessionId: `repair-${id}` }
      default:
        return { kind, region: 0 }
    }
  }

  async #do(command: Command): Promise<void> {
    const digest = await run(this.#both, command)
    if (command.kind === 'drop') {
      this.#held.splice(
        this.#held.findIndex((held) => held.holder === command.holder),
        1,
      )
    }
    if (digest === undefined || !('holder' in command)) return
    const region = command.kind === 'copy' ? 1 : command.region
    const known = this.#held.find((held) => held.digest === digest)?.disks
    const disks = command.kind === 'capture' ? disksOf(command.disks) : known
    assert(disks !== undefined)
    this.#held.push({ region, holder: command.holder, digest, disks })
  }

  /** One command on a bad day, and again on a good one. False: it did not come so far as to meet the trouble. */
  async trial(kind: Command['kind'], badDay: BadDay, nth: number, where: number): Promise<boolean> {
    const command = await this.#prepare(kind)
    const faulty = this.#faulty[where] as FaultyObjects
    const isLeft = badDay === 'vanished' || badDay === 'hanging'
    // Old lists: what was put and removed since the preparation began.
    let fittingCount = 0
    faulty.plan = ({ kind }) => {
      if (!FITTING[badDay].includes(kind) || fittingCount++ !== nth) return undefined
      return isLeft ? 'hanging' : badDay
    }
    const stop = new AbortController()
    let isDone = false
    const outcome = run(this.#both, command, stop.signal).then(
      () => undefined,
      (error: unknown) => error,
    )
    void outcome.then(() => {
      isDone = true
    })
    const told = `${kind}, ${badDay} at call ${nth} of region ${where}`
    const met = () => faulty.troubles.length > 0
    if (isLeft) while (!isDone && !met()) await new Promise(setImmediate)
    if (badDay === 'vanished' && met()) await this.open()
    else {
      if (badDay === 'hanging' && met()) stop.abort(new Error('stopped'))
      const error = await outcome
      faulty.plan = undefined
      const isExpected = error === undefined || isFault(error) || error === stop.signal.reason
      assert(isExpected, `${told} ends in ${error}`)
      if (isFault(error))
        assert(['unavailable', 'full', 'corrupt'].includes(error.kind), `${told}: ${error.kind}`)
      await this.open()
    }
    if (kind !== 'rebuild') await this.#assertWhole(command, told)
    // A collection must see by itself that the index does not know everything.
    else if (badDay === 'stale') await collect(this.#both[0])
    await this.#clearUp(command, nth)
    await this.#do(command)
    await this.#assertClean(command, told)
    return met()
  }

  async #clearUp(command: Command, nth: number): Promise<void> {
    for (const region of this.#both) {
      for (const { id } of region.listSessions()) {
        const isOwn = 'sessionId' in command && command.sessionId === id
        if (!isOwn || nth % 2 === 0) await region.abortSession(id)
      }
    }
  }

  async #assertWhole(command: Command | undefined, told: string): Promise<void> {
    for (const { region, holder, digest, disks } of this.#held) {
      if (command?.kind === 'drop' && command.holder === holder) continue
      const store = this.#both[region]
      assert(store?.journal.findRef(holder) !== undefined, `${holder} still refers after ${told}`)
      await assertHolds(store, digest, disks)
    }
  }

  async #assertClean(command: Command, told: string): Promise<void> {
    for (const [number, region] of this.#both.entries()) {
      await collect(region)
      const digests = this.#held.filter((held) => held.region === number).map((held) => held.digest)
      assert.deepEqual(await findOrphans(region.objects, digests), [], `no orphan is left after ${told}`)
      assert.deepEqual(region.listSessions(), [], told)
      assert.deepEqual((await verifyRegion({ region, deep: true })).problems, [], told)
    }
    await this.#assertWhole(undefined, `${told}, and ${command.kind} again`)
  }
}

const BAD_DAYS = Object.keys(FITTING) as BadDay[]

for (const kind of ['capture', 'copy', 'refer', 'drop', 'collect', 'rewrite', 'rebuild'] as const) {
  test(`${kind}: whatever befalls whichever call of the store, nothing is damaged and it succeeds when done again`, async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'bad-days-'))
    const place = new Place(folder)
    try {
      await place.open()
      let metCount = 0
      for (const badDay of BAD_DAYS) {
        // A copy also reads from a region that has bad days.
        for (const where of kind === 'copy' ? [0, 1] : [0]) {
          for (let nth = 0; await place.trial(kind, badDay, nth, where); nth++) metCount++
        }
      }
      t.diagnostic(`${metCount} calls met trouble`)
      assert(metCount >= 4)
    } finally {
      place.close()
      await rm(folder, { recursive: true, force: true })
    }
  })
}
