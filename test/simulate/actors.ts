import assert from 'node:assert/strict'
import { PLAIN_CONFIG } from '../../src/image/config.ts'
import { type Fault, type FaultKind, isFault } from '../../src/image/fault.ts'
import type { Digest, DomainId, PackId } from '../../src/image/ids.ts'
import { commitImage } from '../../src/store/capture.ts'
import { composeImage } from '../../src/store/compose.ts'
import { collectGarbage } from '../../src/store/gc.ts'
import { hashOfName, PUBLIC_DOMAIN } from '../../src/store/names.ts'
import { pullImage } from '../../src/store/pull.ts'
import type { RefInput } from '../../src/store/refs.ts'
import type { RegionStore } from '../../src/store/region.ts'
import { byDomain, rewritePacks } from '../../src/store/rewrite.ts'
import { assertHolds, writeChanged, writeDisks } from './disks.ts'
import type { Holder } from './model.ts'
import type { Step } from './schedule.ts'
import { Actor, currentActor } from './turns.ts'
import type { Task, User, World } from './world.ts'

const DOMAIN = 'org-a' as DomainId
type StepOf<Kind extends Step['kind']> = Extract<Step, { readonly kind: Kind }>

/** Does one step as the calling actor. What the store may not answer fails the run. */
export async function act(world: World, step: Step): Promise<void> {
  for (let i = 0; i < step.after; i++) await world.turns.wait('nothing')
  switch (step.kind) {
    case 'capture':
      return capture(world, step)
    case 'recapture':
      return recapture(world, step)
    case 'compose':
      return compose(world, step)
    case 'copy':
      return copy(world, step)
    case 'refer':
      return refer(world, step)
    case 'drop':
      return drop(world, step)
    case 'collect':
      return collect(world, step)
    case 'rewrite':
      return rewrite(world, step)
    case 'read':
      return read(world, step)
    case 'cancel': {
      const task = [...world.tasks][step.pick % Math.max(1, world.tasks.size)]
      world.counters.count('tasks cancelled', task === undefined ? 0 : 1)
      task?.abort.abort(new Error('cancelled'))
      return
    }
    case 'outage':
      world.region(step.region).bucket.outageCalls += step.callCount
      return
    case 'time':
      world.nowMs += step.ms
      world.bucketMs += Math.abs(step.ms)
      return
    case 'crash':
      return crash(world, step.what)
    default:
      step satisfies never
  }
}

/** Runs `body` again while the store is unavailable, which it is for a while only. */
export async function insist<Result>(world: World, body: () => Promise<Result>): Promise<Result> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await body()
    } catch (error) {
      if (!isFault(error, 'unavailable') || attempt === 200) throw error
      world.counters.count('faults met')
      await world.turns.wait('try again')
    }
  }
}

/** Waits a while for something to work with. */
async function pickHolder(world: World, pick: number): Promise<Holder | undefined> {
  for (let i = 0; i < 40; i++) {
    const sure = world.model.sure().filter((holder) => !holder.isDropping)
    if (sure.length > 0) return sure[pick % sure.length]
    await world.turns.wait('for an image')
  }
  return undefined
}

/** Runs a task to its end, through crashes too: `run` is repeated by whoever starts next. */
async function runTask(world: World, task: Task): Promise<void> {
  world.tasks.add(task)
  for (let attempt = 0; ; attempt++) {
    task.actor = currentActor()
    try {
      await task.run()
      break
    } catch (error) {
      const { aborted } = task.abort.signal
      if (aborted && error === task.abort.signal.reason) {
        await insist(world, task.undo)
        break
      }
      if (!isFault(error)) throw error
      world.counters.count(`task met '${error.kind}'`)
      if (error.kind === 'conflict' && task.isTaken) {
        world.counters.count('sessions ended under a writer')
        task.isTaken = false
        task.sessionId = world.newName('s')
      } else if (!isAllowed(error, task)) throw error
      if (attempt >= 6 && world.isBroken) {
        await insist(world, task.undo)
        break
      }
      await world.turns.wait('try again')
    }
  }
  world.tasks.delete(task)
}

function isAllowed(error: Fault, task: Task): boolean {
  const allowed: FaultKind[] = /^(copy|recapture|compose)/.test(task.name)
    ? ['unavailable', 'corrupt', 'absent']
    : ['unavailable']
  return allowed.includes(error.kind)
}

async function capture(world: World, step: StepOf<'capture'>): Promise<void> {
  const region = world.region(step.region)
  const holder = world.model.newHolder(region, step.disks)
  const domain = step.isPublic ? PUBLIC_DOMAIN : DOMAIN
  const task: Task = {
    name: 'capture',
    region,
    onCrash: step.onCrash,
    sessionId: world.newName('s'),
    isTaken: false,
    isUndoing: false,
    actor: currentActor(),
    abort: new AbortController(),
    run: () =>
      region.withStore((store) =>
        region.withStore(async (second) => {
          const stores = step.threadCount === 1 ? [store] : [store, second]
          const { sessionId, abort } = task
          const image = await writeDisks(
            stores,
            sessionId,
            domain,
            step.disks,
            `Test ${step.os}`,
            abort.signal,
          )
          const ref = { holder: holder.name, label: { made: 'by capture' } }
          const { digest, content } = await commitImage(store, sessionId, image, {
            ref,
            signal: abort.signal,
          })
          world.model.becomesSure(holder, digest, content)
          world.counters.count('captures done')
        }),
      ),
    undo: () => undo(world, task, holder),
  }
  await runTask(world, task)
}

/** A task that reads from images which nobody keeps for it: once one of them is going, it may find nothing. */
async function runFrom(
  world: World,
  step: StepOf<'recapture' | 'compose'>,
  sources: readonly Holder[],
  holder: Holder,
  work: (
    store: RegionStore,
    task: Task,
    ref: RefInput,
  ) => Promise<{ digest: NonNullable<Holder['digest']>; content: NonNullable<Holder['image']> }>,
): Promise<void> {
  const { region } = holder
  const task: Task = {
    name: step.kind,
    region,
    onCrash: step.onCrash,
    sessionId: world.newName('s'),
    isTaken: false,
    isUndoing: false,
    actor: currentActor(),
    abort: new AbortController(),
    run: async () => {
      try {
        const ref = { holder: holder.name, label: { made: `by ${step.kind}` } }
        const { digest, content } = await region.withStore((store) => work(store, task, ref))
        world.model.becomesSure(holder, digest, content)
        world.counters.count(`${step.kind}s done`)
      } catch (error) {
        if (isFault(error, 'absent')) {
          assert(
            sources.some(({ state, isDropping }) => state !== 'sure' || isDropping),
            'what is there is found',
          )
          task.abort.abort(error)
        }
        throw error
      }
    },
    undo: () => undo(world, task, holder),
  }
  await runTask(world, task)
}

async function recapture(world: World, step: StepOf<'recapture' | 'compose'>): Promise<void> {
  const source = await pickHolder(world, step.pick)
  if (source?.digest === undefined || source.image === undefined) return
  const { region, digest } = source
  const domain = source.image.domain
  const disks = source.disks.map((layout) => ({
    ...layout,
    chunks: layout.chunks.map((content, i) => step.contents[i] ?? content),
  }))
  const holder = world.model.newHolder(region, disks)
  await runFrom(world, step, [source], holder, async (store, task, ref) => {
    const { sessionId, abort } = task
    const image = await writeChanged(store, sessionId, digest, domain, disks, step.contents, abort.signal)
    return commitImage(store, sessionId, image, { ref, signal: abort.signal })
  })
}

async function compose(world: World, step: StepOf<'recapture' | 'compose'>): Promise<void> {
  const first = await pickHolder(world, step.pick)
  const second = await pickHolder(world, step.otherPick)
  if (first?.image === undefined || second?.image === undefined || first.region !== second.region) return
  const { domain } = first.image
  if (second.image.domain !== domain) return
  const sources = [first, second]
  const holder = world.model.newHolder(
    first.region,
    sources.flatMap(({ disks }) => disks.slice(0, 1)),
  )
  await runFrom(world, step, sources, holder, (store, task, ref) =>
    composeImage(
      store,
      task.sessionId,
      {
        domain,
        disks: sources.map(({ digest }) => ({ digest: digest as Digest, diskIndex: 0, bus: 'virtio-blk' })),
        ...{
          config: PLAIN_CONFIG,
          os: { type: 'linux', name: 'composed' },
          parent: null,
          consistency: 'crash',
        },
      },
      ref,
      task.abort.signal,
    ),
  )
}

async function undo(world: World, task: Task, holder: Holder): Promise<void> {
  task.isUndoing = true
  await task.region.withStore(async (store) => {
    await store.abortSession(task.sessionId)
    world.model.becomesUnsure(holder)
    await store.dropRef(holder.name)
    world.model.becomesGone(holder)
    world.counters.count('tasks undone')
  })
}

async function copy(world: World, step: StepOf<'copy'>): Promise<void> {
  const source = await pickHolder(world, step.pick)
  if (source === undefined) return
  const from = source.region
  const to = world.region(1 - from.number)
  const holder = world.model.newHolder(to, source.disks)
  const { digest } = source
  assert(digest !== undefined)
  if (step.isHeld) source.useCount++
  const task: Task = {
    name: 'copy',
    region: to,
    onCrash: step.onCrash,
    sessionId: world.newName('s'),
    isTaken: false,
    isUndoing: false,
    actor: currentActor(),
    abort: new AbortController(),
    run: async () => {
      const ref = { holder: holder.name, label: { made: 'by copy' } }
      const { sessionId, abort } = task
      try {
        const { image } = await from.withStore((source) =>
          to.withStore((target) =>
            pullImage({ source, target, digest, sessionId, ref, signal: abort.signal }),
          ),
        )
        world.model.becomesSure(holder, digest, image)
        world.counters.count('copies done')
      } catch (error) {
        // Without a source there is nothing to wait for.
        if (source.state !== 'sure' && isFault(error, 'absent')) abort.abort(error)
        if (isFault(error, 'absent')) assert(source.state !== 'sure' || !step.isHeld, 'the source is there')
        throw error
      }
    },
    undo: () => undo(world, task, holder),
  }
  await runTask(world, task)
  if (step.isHeld) source.useCount = Math.max(0, source.useCount - 1)
}

async function refer(world: World, step: StepOf<'refer'>): Promise<void> {
  const source = await pickHolder(world, step.pick)
  if (source === undefined) return
  const { region, digest, image } = source
  assert(digest !== undefined && image !== undefined)
  const holder = world.model.newHolder(region, source.disks)
  try {
    await insist(world, () =>
      region.withStore((store) =>
        store.setRef({ holder: holder.name, digests: [digest], label: { made: 'by ref' } }),
      ),
    )
    world.model.becomesSure(holder, digest, image)
    world.counters.count('refs made')
  } catch (error) {
    if (!isFault(error, 'absent')) throw error
    assert(source.state !== 'sure', 'a ref to an image that can be read is made')
    world.counters.count('refs that came too late')
  }
}

async function drop(world: World, step: StepOf<'drop'>): Promise<void> {
  const holder = await pickHolder(world, step.pick)
  if (holder === undefined) return
  holder.isDropping = true
  // The row of an image goes only after the tasks that read from it.
  for (let i = 0; holder.useCount > 0; i++) {
    if (i === 200) {
      holder.isDropping = false
      return
    }
    await world.turns.wait('until nobody reads')
  }
  if (holder.state === 'sure') await dropHolder(world, holder)
}

export async function dropHolder(world: World, holder: Holder): Promise<void> {
  world.model.becomesUnsure(holder)
  await insist(world, () => holder.region.withStore((store) => store.dropRef(holder.name)))
  world.model.becomesGone(holder)
  world.counters.count('refs dropped')
}

async function collect(world: World, step: StepOf<'collect'>): Promise<void> {
  const region = world.region(step.region)
  const dead = world.deadSessions[step.region] as Set<string>
  if (step.takesLive) {
    const task = [...world.tasks].find((one) => one.region === region && one.actor !== currentActor())
    if (task !== undefined) {
      task.isTaken = true
      dead.add(task.sessionId)
    }
  }
  const deadSessions = [...dead]
  try {
    const collectOnce = () =>
      region.withStore((store) =>
        collectGarbage({
          region: store,
          graceMs: step.graceMs,
          isDryRun: step.isDryRun,
          repackBelow: step.repackBelow,
          deadSessions,
        }),
      )
    const report = await (step.takesLive ? collectOnce() : insist(world, collectOnce))
    if (!step.isDryRun) for (const id of deadSessions) dead.delete(id)
    world.tellItems(report.items)
    world.counters.count('collections done')
    world.counters.count('objects removed', report.removedCount)
    for (const { step, what } of report.items) world.counters.count(`collected: ${step} ${what}`)
  } catch (error) {
    if (!isFault(error, 'unavailable')) throw error
    world.counters.count('collections broken off')
  }
}

async function rewrite(world: World, step: StepOf<'rewrite'>): Promise<void> {
  await world.region(step.region).withStore(async (store) => {
    const packs = store.journal.listCommitted('packs/').map(({ name }) => hashOfName(name) as PackId)
    const chosen = packs.filter((_, i) => (i + step.pick) % 2 === 0)
    for (const some of byDomain(store, chosen).values()) {
      const sessionId = world.newName('repair-')
      try {
        const report = await rewritePacks({ region: store, packs: some, sessionId })
        assert.deepEqual(report.lost, [], 'no chunk is bad')
        world.counters.count('rewrites: packs moved', report.movedPacks.length)
        for (const { why } of report.skipped) world.counters.count(`rewrites: ${why}`)
      } catch (error) {
        if (!isFault(error, 'unavailable')) throw error
        await insist(world, () => store.abortSession(sessionId))
      }
    }
  })
}

async function read(world: World, step: StepOf<'read'>): Promise<void> {
  const holder = await pickHolder(world, step.pick)
  if (holder === undefined || holder.image === undefined) return
  const { image } = holder
  holder.useCount++
  await insist(world, () => holder.region.withStore((store) => assertHolds(store, image, holder.disks)))
  holder.useCount = Math.max(0, holder.useCount - 1)
  world.counters.count('images read meanwhile')
}

async function crash(world: World, what: 'crash' | 'power' | 'index'): Promise<void> {
  world.counters.count(`process died: ${what}`)
  world.processDies(what)
  // Nobody makes a lost index anew before the list tells what there is: no bucket lags that long.
  if (what === 'index') world.bucketMs += 10_000
  // What comes next may be interrupted by another crash.
  const actor = new Actor('start', Math.floor(world.random() * 2 ** 32), 4)
  world.start(actor, () => recover(world))
}

/** What a new process does first: it opens the stores, ends what nobody owns, takes up the tasks and the users again. */
async function recover(world: World): Promise<void> {
  const interrupted = [...world.tasks]
  for (const region of world.regions) {
    await region.prepare()
    const owned = new Set(
      interrupted
        .filter((task) => task.region === region && task.onCrash !== 'forget')
        .map((task) => task.sessionId),
    )
    const dead = world.deadSessions[region.number] as Set<string>
    dead.clear()
    for (const { id } of await region.withStore(async (store) => store.listSessions())) {
      if (owned.has(id)) continue
      if (/^(gc|repair|erase)-/.test(id)) {
        await insist(world, () => region.withStore((store) => store.abortSession(id)))
      } else dead.add(id)
    }
  }
  for (const task of interrupted) {
    if (task.onCrash === 'forget') {
      world.tasks.delete(task)
      continue
    }
    const actor = new Actor(`${task.actor.name}'`, Math.floor(world.random() * 2 ** 32), 4)
    world.start(actor, async () => {
      world.counters.count(`after a crash: ${task.onCrash}`)
      if (task.onCrash === 'resume' && !task.isUndoing) return runTask(world, task)
      await insist(world, task.undo)
      world.tasks.delete(task)
    })
  }
  for (const user of world.users) startUser(world, user)
}

/** Begins what is left of an actor's steps. */
export function startUser(world: World, user: User): void {
  const { name, plan } = user
  const actor = new Actor(name, plan.seed + user.nextStep, plan.burst)
  const body = async () => {
    for (;;) {
      const step = plan.steps[user.nextStep]
      if (step === undefined) return
      user.nextStep++
      await act(world, step)
    }
  }
  // Who makes the trouble is not of the process.
  if (user.isOutside) world.turns.start(actor, body)
  else world.start(actor, body)
}
