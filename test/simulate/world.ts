import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { Fault, isFault } from '../../src/image/fault.ts'
import type { DomainId } from '../../src/image/ids.ts'
import type { ObjectName } from '../../src/objects/names.ts'
import { COMMITTED, CONDEMNED, IndexDatabase } from '../../src/store/database.ts'
import type { GcItem } from '../../src/store/gc.ts'
import { Journal } from '../../src/store/journal.ts'
import { LocalWrapper } from '../../src/store/keys.ts'
import { RegionStore } from '../../src/store/region.ts'
import { SimulatedBucket } from './bucket.ts'
import { INDEX_PREFIX } from './builtins.ts'
import type { Counters } from './counters.ts'
import { Model } from './model.ts'
import type { ActorPlan, Schedule } from './schedule.ts'
import { type Actor, currentActor, randomOf, Turns } from './turns.ts'

const PAUSES_MAX = 60
/** As a collection condemns packs, pages and signatures. */
const CONDEMN = `UPDATE object SET state = ${CONDEMNED}, sinceMs = ? WHERE number = ? AND state = ${COMMITTED}
  AND (name GLOB 'packs/*' OR name GLOB 'pages/*' OR name GLOB 'signatures/*')
  AND NOT EXISTS (SELECT 1 FROM sessionObject s WHERE s.object = number)
  AND NOT EXISTS (SELECT 1 FROM imageObject b WHERE b.object = number)`
let indexCount = 0
const regionOf = new WeakMap<IndexDatabase, SimulatedRegion>()
const regionOfJournal = new WeakMap<Journal, SimulatedRegion>()

// Every transaction of every index passes here, so that a power cut can take the last ones back.
const { transaction } = IndexDatabase.prototype
IndexDatabase.prototype.transaction = function <Result>(
  this: IndexDatabase,
  body: () => Result,
  isDurable = false,
): Result {
  const result = transaction.call(this, body, isDurable) as Result
  regionOf.get(this)?.transacted(isDurable)
  return result
}

// Two answers of the journal are dangers that one wants to have happened.
const { pin, intend } = Journal.prototype
Journal.prototype.pin = function (this: Journal, ...values: Parameters<typeof pin>) {
  const region = regionOfJournal.get(this)
  region?.comeBetween(values[1])
  const isPinned = pin.apply(this, values)
  if (!isPinned) region?.world.counters.count('pins that came too late')
  return isPinned
}
Journal.prototype.intend = function (this: Journal, ...values: Parameters<typeof intend>) {
  const region = regionOfJournal.get(this)
  const isCondemned = region?.isCondemned(values[1]) === true
  const object = intend.apply(this, values)
  if (isCondemned) region?.world.counters.count('condemned objects written again')
  if (object === undefined) region?.world.counters.count('objects wanted while they were removed')
  return object
}

/** One region: its objects, its index, and the stores that the process has open on them. */
export class SimulatedRegion {
  readonly number: number
  readonly world: World
  readonly bucket: SimulatedBucket
  /** Our own look at the index; as long as it is open, the index lives in memory. */
  index: DatabaseSync
  /** Whether a lost index was made anew, of objects that were there. */
  wasRemade = false
  #indexPath: string
  readonly #open = new Set<RegionStore>()
  #idle: RegionStore[] = []
  /** The index after its last durable transaction and after each one since. */
  #snapshots: Uint8Array[] = []
  readonly #pauses = new WeakMap<Actor, number>()

  constructor(world: World, number: number) {
    this.world = world
    this.number = number
    this.bucket = new SimulatedBucket(
      world.turns,
      () => world.bucketMs,
      () => world.isBroken,
    )
    this.#indexPath = newIndexPath()
    this.index = new DatabaseSync(this.#indexPath)
  }

  /** A store for the calling actor alone, as a thread has one; given back it serves the next. */
  async withStore<Result>(body: (store: RegionStore) => Promise<Result>): Promise<Result> {
    const store = this.#idle.pop() ?? (await this.#openStore())
    try {
      return await body(store)
    } finally {
      this.#idle.push(store)
    }
  }

  async #openStore(): Promise<RegionStore> {
    const { world } = this
    const { schedule } = world
    const fill = (bytes: Uint8Array) => {
      for (let i = 0; i < bytes.length; i++) bytes[i] = Math.floor(world.random() * 256)
    }
    const store = new RegionStore({
      objects: this.bucket.objects(),
      indexPath: this.#indexPath,
      packBytes: schedule.packBytes,
      cacheBytes: 0,
      wrapper: new LocalWrapper(new Uint8Array(32).fill(10 + this.number), fill),
      secretsOf: secretsOf,
      isEncrypting: schedule.isEncrypting,
      fillRandom: fill,
      clock: () => world.nowMs,
      pause: (_, signal) => this.#pause(signal),
    })
    regionOf.set(store.database, this)
    regionOfJournal.set(store.journal, this)
    this.#open.add(store)
    if (store.database.getMeta('complete') === undefined) {
      assert(this.#open.size === 1, 'only the first to open finds the index unfinished')
      this.wasRemade ||= this.bucket.contents.size > 0
      await store.rebuildIndex()
    }
    return store
  }

  /** A pause in which the others do something; who has waited for too long is told what he would be told in the end. */
  async #pause(signal?: AbortSignal): Promise<void> {
    const actor = currentActor()
    const count = (this.#pauses.get(actor) ?? 0) + 1
    this.#pauses.set(actor, count % PAUSES_MAX)
    if (count === PAUSES_MAX) {
      this.world.counters.count('writers that waited for a removal in vain')
      throw new Fault('unavailable', 'The simulation has waited long enough.', { subject: 'store' })
    }
    await this.world.turns.wait('pause', signal)
  }

  /** Opens the store as a new process does before it works. */
  async prepare(): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      // A rebuild makes too many calls for a store that always fails some.
      this.bucket.isCalm = attempt >= 3
      try {
        await this.withStore(async () => {})
        this.bucket.isCalm = false
        return
      } catch (error) {
        for (const store of this.#open) store.close()
        this.#open.clear()
        if (!isFault(error, 'unavailable')) throw error
      }
    }
  }

  /**
   * Between a look and its pin nobody waits, but another thread may run: now and then a collection condemns the object
   * there, if nobody holds or binds it.
   */
  comeBetween(number: number): void {
    const { world, index } = this
    if (!world.isBroken || world.random() > 0.5) return
    const { changes } = index.prepare(CONDEMN).run(world.nowMs, number)
    if (changes === 1) this.transacted(false)
  }

  isCondemned(name: ObjectName): boolean {
    return this.index.prepare('SELECT state FROM object WHERE name = ?').get(name)?.state === CONDEMNED
  }

  transacted(isDurable: boolean): void {
    if (!this.world.schedule.hasPowerCut) return
    if (isDurable) this.#snapshots = []
    this.#snapshots.push(this.index.serialize())
  }

  /** The process is gone, and perhaps more. */
  processDied(what: 'crash' | 'power' | 'index'): void {
    for (const store of this.#open) store.close()
    this.#open.clear()
    this.#idle = []
    this.bucket.processDied(what === 'power')
    if (what === 'index') this.#replaceIndex(undefined)
    if (what === 'power' && this.#snapshots.length > 0) {
      const kept = Math.floor(this.world.random() * this.#snapshots.length)
      this.world.counters.count('transactions taken back', this.#snapshots.length - 1 - kept)
      this.#replaceIndex(this.#snapshots[kept])
    }
  }

  #replaceIndex(snapshot: Uint8Array | undefined): void {
    this.index.close()
    this.#indexPath = newIndexPath()
    this.index = new DatabaseSync(this.#indexPath)
    this.#snapshots = []
    if (snapshot === undefined) return
    const before = new DatabaseSync(':memory:')
    before.deserialize(snapshot)
    before.exec(`VACUUM INTO '${this.#indexPath}'`)
    before.close()
    this.#snapshots = [this.index.serialize()]
  }

  close(): void {
    for (const store of this.#open) store.close()
    this.index.close()
  }
}

function newIndexPath(): string {
  return `${INDEX_PREFIX}${++indexCount}?vfs=memdb`
}

function secretsOf(domain: DomainId) {
  const at = domain.length
  return { idKey: new Uint8Array(32).fill(at), dataKey: new Uint8Array(32).fill(at + 100) }
}

/** Work that outlives a crash, as the rows of tasks do. */
export interface Task {
  readonly name: string
  readonly onCrash: 'resume' | 'abort' | 'forget'
  readonly region: SimulatedRegion
  readonly run: () => Promise<void>
  readonly undo: () => Promise<void>
  sessionId: string
  /** A collection has ended its session behind its back. */
  isTaken: boolean
  /** Its undo has begun, and is gone on with after a crash. */
  isUndoing: boolean
  actor: Actor
  abort: AbortController
}

/** Somebody with a list of things to do, which he goes on with after the process was started again. */
export interface User {
  readonly name: string
  readonly plan: ActorPlan
  /** Not of the process, so that its death is not his. */
  readonly isOutside: boolean
  nextStep: number
}

/** Everything there is in one run of the simulation. */
export class World {
  readonly schedule: Schedule
  readonly turns: Turns
  readonly regions: readonly SimulatedRegion[]
  readonly model: Model
  readonly counters: Counters
  readonly random: () => number
  readonly tasks = new Set<Task>()
  /** Those of the process. */
  readonly users: User[] = []
  /** Sessions that no task owns any more, by region. */
  readonly deadSessions: Set<string>[] = [new Set(), new Set()]
  readonly #actors = new Set<Actor>()
  nowMs = 1_000_000
  /** The buckets' own time, which nobody sets back. */
  bucketMs = 0
  /** False from when the world has to come to rest. */
  isBroken = true
  #idCount = 0

  constructor(schedule: Schedule, counters: Counters, trace: string[] | undefined) {
    this.schedule = schedule
    this.counters = counters
    this.turns = new Turns(trace)
    this.random = randomOf(schedule.seed)
    this.regions = [new SimulatedRegion(this, 0), new SimulatedRegion(this, 1)]
    this.model = new Model(this)
    for (const region of this.regions) region.bucket.habits = schedule.habits
  }

  region(number: number): SimulatedRegion {
    const region = this.regions[number]
    assert(region !== undefined)
    return region
  }

  newName(kind: string): string {
    return `${kind}${++this.#idCount}`
  }

  /** Begins something that dies with the process. */
  start(actor: Actor, body: () => Promise<void>): void {
    this.#actors.add(actor)
    this.turns.start(actor, async () => {
      await body()
      this.#actors.delete(actor)
    })
  }

  /** Ends the process with all that it was doing. */
  processDies(what: 'crash' | 'power' | 'index'): void {
    this.turns.kill(this.#actors)
    this.#actors.clear()
    for (const region of this.regions) region.processDied(what)
    this.model.processDied()
  }

  /** What a collection did, for the trace. */
  tellItems(items: readonly GcItem[]): void {
    for (const { step, what, name, why } of items) this.turns.tell(`${step} ${what} ${name}: ${why}`)
  }

  close(): void {
    for (const region of this.regions) region.close()
  }
}
