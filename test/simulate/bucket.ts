import { Fault } from '../../src/image/fault.ts'
import type { ObjectStore } from '../../src/objects/contract.ts'
import type { ObjectName } from '../../src/objects/names.ts'
import { Actor, currentActor, type Turns } from './turns.ts'

/** How badly a bucket behaves. Shares are between 0 and 1. */
export interface BucketHabits {
  /** Calls that answer 'unavailable', half of them after they did their work. */
  readonly failShare: number
  /** How long a new name is missing from lists and a removed one still in them, at the longest. */
  readonly listLagMs: number
}

/** A change that was asked for and not answered. */
interface OpenCall {
  readonly actor: Actor
  readonly kind: 'put' | 'remove'
  readonly name: ObjectName
  readonly apply: () => void
  /** What a power cut may do to a change that took effect before its answer. */
  readonly undo: () => void
  isApplied: boolean
}

/**
 * The objects of one simulated region, outside of any process. Each call waits for its turn, takes effect at one moment
 * and may wait again before its answer comes; a process that dies, or a caller that gives up, leaves a put behind that
 * happens never, now, or much later.
 */
export class SimulatedBucket {
  readonly contents = new Map<ObjectName, Buffer>()
  /** When each name last came or went. */
  readonly #listed = new Map<ObjectName, number>()
  /** Names whose put was answered to somebody. */
  readonly #durable = new Set<ObjectName>()
  readonly #openCalls = new Set<OpenCall>()
  readonly #turns: Turns
  readonly #clock: () => number
  readonly #isBroken: () => boolean
  habits: BucketHabits = { failShare: 0, listLagMs: 0 }
  /** While positive, calls fail and count it down. */
  outageCalls = 0
  /** True: no call fails by its habit. */
  isCalm = false
  removedCount = 0
  lateCount = 0

  constructor(turns: Turns, clock: () => number, isBroken: () => boolean) {
    this.#turns = turns
    this.#clock = clock
    this.#isBroken = isBroken
  }

  /** The bucket as one process sees it. */
  objects(): ObjectStore {
    const bucket = this
    return {
      get traits() {
        return { callsMax: 3, listLagMs: bucket.habits.listLagMs }
      },
      put: (name, bytes, signal) => bucket.#put(name, Buffer.from(bytes), signal),
      async get(name, offset, lengthBytes, signal) {
        await bucket.#begin(`get ${name}`, signal)
        const object = bucket.contents.get(name)
        if (object === undefined)
          throw new Fault('absent', `There is no object ${name}.`, { subject: 'store' })
        if (offset + lengthBytes > object.length) {
          throw new Fault('corrupt', `Object ${name} is shorter than it should be.`, { subject: 'store' })
        }
        return Buffer.from(object.subarray(offset, offset + lengthBytes))
      },
      async size(name, signal) {
        await bucket.#begin(`size ${name}`, signal)
        return bucket.contents.get(name)?.length
      },
      list: (prefix, signal) => bucket.#list(prefix, signal),
      remove: (name, signal) => bucket.#remove(name, signal),
    }
  }

  async #begin(what: string, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted()
    await this.#turns.wait(what, signal)
    if (this.#fails()) throw unavailable(what)
  }

  #fails(): boolean {
    if (this.outageCalls > 0) {
      this.outageCalls--
      return true
    }
    return this.#isBroken() && !this.isCalm && currentActor().random() < this.habits.failShare
  }

  #put(name: ObjectName, bytes: Buffer, signal?: AbortSignal): Promise<'stored' | 'present'> {
    let answer: 'stored' | 'present' = 'present'
    const apply = () => {
      if (this.contents.has(name)) return
      answer = 'stored'
      this.contents.set(name, bytes)
      this.#listed.set(name, this.#clock())
    }
    const undo = () => {
      if (answer === 'stored' && !this.#durable.has(name)) this.contents.delete(name)
    }
    return this.#change({ kind: 'put', name, apply, undo }, signal).then(() => {
      this.#durable.add(name)
      return answer
    })
  }

  #remove(name: ObjectName, signal?: AbortSignal): Promise<void> {
    let removed: Buffer | undefined
    const apply = () => {
      removed = this.contents.get(name)
      if (removed === undefined) return
      this.contents.delete(name)
      this.#durable.delete(name)
      this.removedCount++
      this.#listed.set(name, this.#clock())
    }
    const undo = () => {
      if (removed !== undefined && !this.contents.has(name)) this.contents.set(name, removed)
    }
    return this.#change({ kind: 'remove', name, apply, undo }, signal)
  }

  async #change(
    change: Pick<OpenCall, 'kind' | 'name' | 'apply' | 'undo'>,
    signal?: AbortSignal,
  ): Promise<void> {
    signal?.throwIfAborted()
    const actor = currentActor()
    const what = `${change.kind} ${change.name}`
    const call: OpenCall = { ...change, actor, isApplied: false }
    this.#openCalls.add(call)
    try {
      await this.#turns.wait(what, signal)
      if (this.#fails()) {
        if (actor.random() < 0.5) throw unavailable(what)
        // The work was done, or will be; only the answer was lost.
        this.#leave(call)
        throw unavailable(what)
      }
      call.isApplied = true
      change.apply()
      if (actor.random() < 0.3) await this.#turns.wait(`${what}: answer`, signal)
    } catch (error) {
      if (!(error instanceof Fault)) this.#leave(call)
      throw error
    } finally {
      this.#openCalls.delete(call)
    }
  }

  /** What becomes of a change that nobody waits for any more. */
  #leave(call: OpenCall): void {
    if (call.isApplied) return
    const chance = call.actor.random()
    // A remove that came late could take away what was put anew under the name: no store without versions can
    // tell the two apart, so the ways to a store (see `ObjectStore.remove`) must not let that happen.
    if (chance < 0.6 || call.kind === 'remove') {
      if (chance < 0.3) this.#applyLeft(call)
      return
    }
    this.lateCount++
    const ghost = new Actor(`late ${call.actor.name}`, Math.floor(chance * 2 ** 32), 1)
    this.#turns.start(ghost, async () => {
      await this.#turns.wait(`late put ${call.name}`)
      this.#applyLeft(call)
    })
  }

  #applyLeft(call: OpenCall): void {
    this.#turns.tell(`${call.kind} ${call.name} took effect unseen`)
    call.apply()
  }

  /** The process of the dead actors is gone; with the power gone too, what was not answered may not last. */
  processDied(isPowerCut: boolean): void {
    for (const call of this.#openCalls) {
      if (!call.actor.isDead) continue
      this.#openCalls.delete(call)
      if (!call.isApplied) this.#leave(call)
      else if (isPowerCut && call.actor.random() < 0.5) {
        this.#turns.tell(`${call.kind} ${call.name} did not last`)
        call.undo()
      }
    }
  }

  async *#list(prefix: string, signal?: AbortSignal): AsyncGenerator<ObjectName> {
    // Pages of three names, each from another moment.
    let after = ''
    for (;;) {
      await this.#begin(`list ${prefix}`, signal)
      const page = [...this.#listed.keys()]
        .filter((name) => name.startsWith(prefix) && name > after && this.#isListed(name))
        .sort()
        .slice(0, 3)
      yield* page
      const last = page.at(-1)
      if (last === undefined) return
      after = last
    }
  }

  #isListed(name: ObjectName): boolean {
    const isThere = this.contents.has(name)
    const { listLagMs } = this.habits
    const sinceMs = this.#listed.get(name) ?? 0
    if (listLagMs === 0 || this.#clock() - sinceMs > listLagMs) return isThere
    return currentActor().random() < 0.5 ? isThere : !isThere
  }
}

function unavailable(what: string): Fault {
  return new Fault('unavailable', `The simulated store did not answer: ${what}.`, { subject: 'store' })
}
