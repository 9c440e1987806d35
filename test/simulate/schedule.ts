import fc from 'fast-check'
import type { BucketHabits } from './bucket.ts'
import type { Layout } from './model.ts'

/** What an actor does. `after`: for so many turns it does nothing. `pick` chooses among what there is at that moment. */
export type Step = { readonly after: number } & (
  | {
      readonly kind: 'capture'
      readonly region: number
      readonly isPublic: boolean
      readonly disks: readonly Layout[]
      readonly os: number
      readonly threadCount: number
      readonly onCrash: 'resume' | 'abort' | 'forget'
    }
  | {
      readonly kind: 'recapture' | 'compose'
      readonly pick: number
      readonly otherPick: number
      readonly contents: readonly number[]
      readonly onCrash: 'resume' | 'abort' | 'forget'
    }
  | {
      readonly kind: 'copy'
      readonly pick: number
      readonly isHeld: boolean
      readonly onCrash: 'resume' | 'abort' | 'forget'
    }
  | { readonly kind: 'refer'; readonly pick: number }
  | { readonly kind: 'drop'; readonly pick: number }
  | {
      readonly kind: 'collect'
      readonly region: number
      readonly graceMs: number
      readonly takesLive: boolean
      readonly isDryRun: boolean
      readonly repackBelow: number
    }
  | { readonly kind: 'rewrite'; readonly region: number; readonly pick: number }
  | { readonly kind: 'read'; readonly pick: number }
  | { readonly kind: 'cancel'; readonly pick: number }
  | { readonly kind: 'outage'; readonly region: number; readonly callCount: number }
  | { readonly kind: 'time'; readonly ms: number }
  | { readonly kind: 'crash'; readonly what: 'crash' | 'power' | 'index' }
)

export interface ActorPlan {
  readonly seed: number
  readonly burst: number
  readonly steps: readonly Step[]
}

/** One run of the simulation. */
export interface Schedule {
  readonly seed: number
  readonly packBytes: number
  readonly isEncrypting: boolean
  readonly hasPowerCut: boolean
  readonly habits: BucketHabits
  /** Done one after the other before the actors begin. */
  readonly prelude: readonly Step[]
  readonly actors: readonly ActorPlan[]
}

const seed = fc.noShrink(fc.integer())
const pick = fc.nat({ max: 20 })
const region = fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.constant(1) })
const onCrash = fc.constantFrom('resume' as const, 'abort' as const, 'forget' as const)
const isSeldom = fc.nat({ max: 3 }).map((value) => value === 3)

const disk: fc.Arbitrary<Layout> = fc.record({
  // Few contents, so that everybody meets what others wrote.
  chunks: fc.array(fc.nat({ max: 6 }), { minLength: 1, maxLength: 4 }),
  isShort: isSeldom,
})

const steps = {
  capture: fc.record({
    kind: fc.constant('capture' as const),
    after: fc.constant(0),
    region,
    isPublic: isSeldom,
    disks: fc.array(disk, { minLength: 1, maxLength: 2 }),
    os: fc.nat({ max: 1 }),
    threadCount: fc.integer({ min: 1, max: 2 }),
    onCrash,
  }),
  // What changed since an image that may go at any moment: `contents` are put over its first chunks.
  recapture: fc.record({
    kind: fc.constantFrom('recapture' as const, 'compose' as const),
    after: fc.nat({ max: 20 }),
    pick,
    otherPick: pick,
    contents: fc.array(fc.nat({ max: 6 }), { maxLength: 3 }),
    onCrash,
  }),
  copy: fc.record({
    kind: fc.constant('copy' as const),
    after: fc.constant(0),
    pick,
    isHeld: fc.boolean(),
    onCrash,
  }),
  refer: fc.record({ kind: fc.constant('refer' as const), after: fc.nat({ max: 20 }), pick }),
  drop: fc.record({ kind: fc.constant('drop' as const), after: fc.nat({ max: 20 }), pick }),
  collect: fc.record({
    kind: fc.constant('collect' as const),
    after: fc.nat({ max: 20 }),
    region,
    graceMs: fc.constantFrom(0, 0, 500, 50_000),
    takesLive: isSeldom,
    isDryRun: fc.nat({ max: 7 }).map((value) => value === 7),
    repackBelow: fc.constantFrom(0.6, 0.99),
  }),
  rewrite: fc.record({ kind: fc.constant('rewrite' as const), after: fc.nat({ max: 20 }), region, pick }),
  read: fc.record({ kind: fc.constant('read' as const), after: fc.nat({ max: 20 }), pick }),
  cancel: fc.record({ kind: fc.constant('cancel' as const), after: fc.nat({ max: 60 }), pick }),
  outage: fc.record({
    kind: fc.constant('outage' as const),
    after: fc.nat({ max: 60 }),
    region,
    callCount: fc.integer({ min: 1, max: 6 }),
  }),
  time: fc.record({
    kind: fc.constant('time' as const),
    after: fc.nat({ max: 40 }),
    ms: fc.constantFrom(400, 60_000, -30_000),
  }),
  crash: fc.record({
    kind: fc.constant('crash' as const),
    after: fc.nat({ max: 150 }),
    what: fc.constantFrom('crash' as const, 'crash' as const, 'power' as const, 'index' as const),
  }),
}

const work: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: steps.capture },
  { weight: 3, arbitrary: steps.recapture },
  { weight: 2, arbitrary: steps.copy },
  { weight: 1, arbitrary: steps.refer },
  { weight: 4, arbitrary: steps.drop },
  { weight: 6, arbitrary: steps.collect },
  { weight: 1, arbitrary: steps.rewrite },
  { weight: 2, arbitrary: steps.read },
  { weight: 1, arbitrary: steps.cancel },
  { weight: 1, arbitrary: steps.time },
)

const trouble: fc.Arbitrary<Step> = fc.oneof(
  { weight: 2, arbitrary: steps.outage },
  { weight: 3, arbitrary: steps.crash },
)

const burst = fc.constantFrom(1, 1, 4, 20)

const actor = (step: fc.Arbitrary<Step>, maxLength: number): fc.Arbitrary<ActorPlan> =>
  fc.record({ seed, burst, steps: fc.array(step, { minLength: 1, maxLength }) })

export const schedules: fc.Arbitrary<Schedule> = fc
  .record({
    seed,
    packBytes: fc.constantFrom(65, 150, 250, 100_000),
    isEncrypting: isSeldom,
    habits: fc.record({
      failShare: fc.constantFrom(0, 0, 0, 0.05),
      listLagMs: fc.constantFrom(0, 0, 0, 1000),
    }),
    prelude: fc.array(
      fc.oneof(
        { weight: 3, arbitrary: steps.capture },
        { weight: 1, arbitrary: steps.drop },
        { weight: 1, arbitrary: steps.collect },
      ),
      { maxLength: 4 },
    ),
    workers: fc.array(actor(work, 3), { minLength: 2, maxLength: 5 }),
    troubles: fc.array(actor(trouble, 2), { maxLength: 1 }),
  })
  .map(({ workers, troubles, ...rest }) => {
    const actors = [...workers, ...troubles]
    const hasPowerCut = actors.some(({ steps }) =>
      steps.some((step) => step.kind === 'crash' && step.what === 'power'),
    )
    return { ...rest, actors, hasPowerCut }
  })
