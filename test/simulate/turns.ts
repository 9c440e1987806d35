import assert from 'node:assert/strict'
import { AsyncLocalStorage } from 'node:async_hooks'

/**
 * Who goes next. Code under test waits at calls of the simulated object store, at `setImmediate` and in pauses; all of
 * these are held here, and one at a time goes on. When the one that goes is chosen by the seed alone, a run can be
 * repeated exactly. Whoever simulates imports
 * `builtins.ts` before any module of the store.
 */

const realImmediate = globalThis.setImmediate
const acting = new AsyncLocalStorage<Actor>()
let turnsNow: Turns | undefined

globalThis.setImmediate = ((body: (...values: unknown[]) => void, ...values: unknown[]) => {
  if (turnsNow === undefined || acting.getStore() === undefined) return realImmediate(body, ...values)
  void turnsNow.wait('turn').then(() => body(...values))
  return undefined
}) as unknown as typeof setImmediate

/** A small generator of numbers in [0, 1) that a seed decides. */
export function randomOf(seed: number): () => number {
  let state = seed | 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** Somebody who does one thing after the other, beside the others. */
export class Actor {
  readonly name: string
  readonly random: () => number
  readonly #burst: number
  #left = 0
  #priority = 0
  isDead = false

  /**
   * Each waiting call has a priority at random, and the highest one goes next: so a call of low priority stands still
   * while the others do much. An actor keeps its priority for `burst` calls. It does not depend on the other actors, so
   * that a schedule stays much the same when the shrinker takes one away.
   */
  constructor(name: string, seed: number, burst: number) {
    this.name = name
    this.random = randomOf(seed)
    this.#burst = burst
  }

  nextPriority(): number {
    if (this.#left === 0) {
      this.#left = this.#burst
      this.#priority = this.random()
    }
    this.#left--
    return this.#priority
  }
}

interface Waiting {
  readonly actor: Actor
  readonly what: string
  readonly priority: number
  readonly resume: () => void
}

export function currentActor(): Actor {
  const actor = acting.getStore()
  assert(actor !== undefined, 'only actors act in a simulation')
  return actor
}

export class Turns {
  #waiting: Waiting[] = []
  #runningCount = 0
  #failure: { readonly error: unknown } | undefined
  stepCount = 0
  /** What happened, if it is to be told. */
  readonly trace: string[] | undefined

  constructor(trace: string[] | undefined) {
    this.trace = trace
  }

  tell(what: string): void {
    this.trace?.push(`${this.stepCount} ${acting.getStore()?.name ?? '-'}: ${what}`)
  }

  /** Begins `body` as `actor`; what it throws fails the run. */
  start(actor: Actor, body: () => Promise<void>): void {
    this.#runningCount++
    acting.run(actor, () => {
      this.tell('begins')
      void this.wait('begin')
        .then(body)
        .then(
          () => this.tell('ends'),
          (error: unknown) => {
            this.tell(`fails: ${error}`)
            this.#failure ??= { error }
          },
        )
        .finally(() => {
          if (!actor.isDead) this.#runningCount--
        })
    })
  }

  /** Resolves when it is the caller's turn. Rejects with the signal's reason when that aborts first. */
  wait(what: string, signal?: AbortSignal): Promise<void> {
    const actor = currentActor()
    // What a dead process still has on its stack goes nowhere.
    if (actor.isDead) return new Promise(() => {})
    return new Promise((resolve, reject) => {
      const onAbort = () => {
        if (actor.isDead) return
        this.#waiting = this.#waiting.filter((one) => one !== waiting)
        reject(signal?.reason)
      }
      const resume = () => {
        signal?.removeEventListener('abort', onAbort)
        resolve()
      }
      const waiting: Waiting = { actor, what, priority: actor.nextPriority(), resume }
      this.#waiting.push(waiting)
      signal?.addEventListener('abort', onAbort, { once: true })
    })
  }

  /** The actors stop where they are, for ever. */
  kill(actors: Iterable<Actor>): void {
    for (const actor of actors) {
      if (actor.isDead) continue
      actor.isDead = true
      this.#runningCount--
    }
    this.#waiting = this.#waiting.filter((one) => !one.actor.isDead)
  }

  get isQuiet(): boolean {
    return this.#runningCount === 0
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure.error
  }

  /** Lets one after the other go on until nobody is left. `afterStep` runs while everybody stands still. */
  async run(afterStep: () => void, stepCountMax: number): Promise<void> {
    assert(turnsNow === undefined, 'one simulation at a time')
    turnsNow = this
    try {
      await settled()
      while (!this.isQuiet) {
        let next: Waiting | undefined
        for (const one of this.#waiting) if (next === undefined || one.priority > next.priority) next = one
        this.#throwFailure()
        assert(next !== undefined, 'every actor waits for something that never comes')
        const chosen = next
        this.#waiting = this.#waiting.filter((one) => one !== chosen)
        this.stepCount++
        assert(this.stepCount < stepCountMax, 'the simulation comes to an end')
        this.trace?.push(`${this.stepCount} ${chosen.actor.name}: ${chosen.what}`)
        chosen.resume()
        await settled()
        this.#throwFailure()
        afterStep()
      }
    } finally {
      turnsNow = undefined
    }
  }
}

/** Resolves when everything that could go on without a turn has done so. */
function settled(): Promise<void> {
  return new Promise((resolve) => realImmediate(resolve))
}
