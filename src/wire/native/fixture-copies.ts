import type { App, Caller } from '../../app/contract.ts'
import type { CopyPlan } from '../../image/copy.ts'
import { Fault } from '../../image/fault.ts'
import { type ImageId, newId, type RegionId, type TaskId } from '../../image/ids.ts'
import type { Image } from '../../image/image.ts'
import type { Task, TaskKind } from '../../image/task.ts'
import { fakeImage } from './fixture-nouns.ts'

/** What copies and peers tell; a test may change any of it. */
export interface CopiesTold {
  /** What the next plan of a copy finds. */
  planned: CopyPlan
  peers: Awaited<ReturnType<App['peers']['list']>>
}

interface FakeParts {
  called(name: string, caller: Caller, input: unknown): Promise<void>
  begin(kind: TaskKind, parts?: Partial<Task>): TaskId
  readonly images: Map<ImageId, Image>
  readonly tasks: Map<TaskId, Task>
}

const GIB = 1024 ** 3

const PLANNED: CopyPlan = {
  targets: [
    {
      ...{ regionId: 'hk' as RegionId, way: 'pull', moveBytes: 64 * 1024 ** 2, savedBytes: 2 * GIB },
      ...{ chargedBytes: 3 * GIB, freeBytes: 50 * GIB, estimateMs: 3000, blockers: [] },
    },
  ],
  moveBytes: 64 * 1024 ** 2,
  estimateMs: 3000,
  isPossible: true,
}

const hasEnded = ({ endedAtMs }: Task) => endedAtMs !== undefined

/** The copies of an App in memory, and what is done to their tasks. */
export function createFakeCopies({ called, begin, images, tasks }: FakeParts) {
  const told: CopiesTold = {
    planned: PLANNED,
    peers: [
      { name: 'branch', url: 'https://branch.example.com:8371', regions: ['paris'], reason: undefined },
      { name: 'attic', url: 'https://attic.example.com:8371', regions: [], reason: 'It does not answer.' },
    ],
  }
  const getTask = (id: TaskId): Task => {
    const task = tasks.get(id)
    if (task === undefined)
      throw new Fault('absent', 'There is no such task. List them.', { subject: 'task' })
    return task
  }
  const conflict = (message: string) => new Fault('conflict', message, { subject: 'task' })
  const childrenOf = (id: TaskId) => [...tasks.values()].filter(({ parentId }) => parentId === id)
  const copyOf = (task: Task) => ({
    ...{ regionId: task.regionId, imageId: task.imageId ?? newId('image'), taskId: task.id },
  })

  function change(task: Task, { paused, priority = task.priority }: Parameters<App['tasks']['change']>[2]) {
    const isPaused = task.state.at === 'paused'
    const state =
      paused === undefined || paused === isPaused
        ? task.state
        : paused
          ? ({ at: 'paused' } as const)
          : ({ at: 'queued' } as const)
    tasks.set(task.id, { ...task, state, priority })
  }

  const app: {
    readonly images: Pick<App['images'], 'copy' | 'planCopy' | 'cancelCopy' | 'copyProgress'>
    readonly tasks: Pick<App['tasks'], 'change' | 'retry'>
    readonly peers: App['peers']
  } = {
    images: {
      async copy(caller, input) {
        await called('images.copy', caller, input)
        const { priority = 5 } = input
        const taskId = begin('copy-batch', { priority })
        const copies = input.targetRegionIds.map((regionId) => {
          const imageId = newId('image')
          const copyId = begin('copy-image', { imageId, parentId: taskId, regionId, priority })
          const state = { at: 'creating', taskId: copyId } as const
          images.set(imageId, fakeImage({ id: imageId, regionId, state, origin: 'copy' }))
          return { regionId, imageId, taskId: copyId }
        })
        return { taskId, copies }
      },
      async planCopy(caller, input) {
        await called('images.planCopy', caller, input)
        return { taskId: begin('plan-copy', { output: { ...told.planned } }) }
      },
      async cancelCopy() {
        throw new Fault('invalid', 'Not asked for by this door.')
      },
      async copyProgress() {
        throw new Fault('invalid', 'Not asked for by this door.')
      },
    },
    tasks: {
      async change(caller, id, wish) {
        await called('tasks.change', caller, { id, ...wish })
        const task = getTask(id)
        const isCopy = task.kind === 'copy-image' || task.kind === 'copy-batch'
        if (hasEnded(task) || !isCopy) throw conflict('It is no copy that is still to be done.')
        if (wish.paused !== undefined && (task.state.at === 'paused') === wish.paused)
          throw conflict(wish.paused ? 'It is paused already.' : 'It is not paused.')
        // A batch waits for its copies: they are held, it is not.
        const { paused, ...rest } = wish
        change(task, task.kind === 'copy-batch' ? rest : { ...rest, paused })
        for (const child of childrenOf(id)) if (!hasEnded(child)) change(child, wish)
      },
      async retry(caller, id) {
        await called('tasks.retry', caller, { id })
        const task = getTask(id)
        if (!hasEnded(task)) throw conflict('It has not ended.')
        const all = task.kind === 'copy-batch' ? childrenOf(id) : [task]
        const failed = all.filter(({ state }) => state.at === 'failed' || state.at === 'cancelled')
        if (failed.length === 0) throw conflict('Nothing of it failed.')
        const parentId = task.kind === 'copy-batch' ? begin('copy-batch') : undefined
        const copies = failed.map((one) => {
          const taskId = begin('copy-image', { parentId, imageId: one.imageId, regionId: one.regionId })
          return { ...copyOf(one), taskId }
        })
        return { taskId: parentId ?? copies[0]?.taskId ?? id, copies }
      },
    },
    peers: {
      async list(caller) {
        await called('peers.list', caller, undefined)
        return told.peers
      },
    },
  }
  return { app, told }
}
