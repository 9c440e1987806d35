import type { TaskId } from '../image/ids.ts'
import type { Task } from '../image/task.ts'
import type { FakeApp } from '../wire/native/fixture.ts'
import { NOW_MS } from '../wire/native/fixture-nouns.ts'

export const DONE: Partial<Task> = { state: { at: 'done' }, endedAtMs: NOW_MS + 8000 }

export const failed = (reason: string): Partial<Task> => ({
  ...{ state: { at: 'failed', kind: 'unavailable', reason }, endedAtMs: NOW_MS + 8000 },
})

export const running = (step: string, parts: Partial<Task> = {}): Partial<Task> => ({
  ...{ state: { at: 'running', step }, ...parts },
})

/**
 * Copies that go on as they are told: at each wait for a batch its copies take their region's next step, and a copy by itself
 * likewise; a batch ends when they have.
 */
export function scriptCopies(
  fake: FakeApp,
  steps: Readonly<Record<string, readonly Partial<Task>[]>>,
  onWait: (count: number) => void | Promise<void> = () => {},
): void {
  const { tasks, app } = fake
  const at = new Map<TaskId, number>()
  const advance = (task: Task): Task => {
    const index = at.get(task.id) ?? 0
    at.set(task.id, index + 1)
    const next: Task = { ...task, ...(task.endedAtMs === undefined ? steps[task.regionId]?.[index] : {}) }
    tasks.set(next.id, next)
    return next
  }
  const childrenOf = (id: TaskId) => [...tasks.values()].filter(({ parentId }) => parentId === id)
  const { list } = app.tasks
  let waitCount = 0
  app.tasks.list = async (caller, filter, paging) => {
    if (filter.parentId === undefined) return list(caller, filter, paging)
    const items = childrenOf(filter.parentId)
    return { total: items.length, items: items.slice(paging.offset, paging.offset + paging.limit) }
  }
  app.tasks.wait = async (caller, id, _waitMs) => {
    await onWait(++waitCount)
    const task = await app.tasks.get(caller, id)
    if (task.kind === 'plan-copy') tasks.set(id, { ...task, ...DONE })
    else if (task.kind !== 'copy-batch') advance(task)
    else {
      const children = childrenOf(id).map(advance)
      const isWell = children.every(({ state }) => state.at === 'done')
      if (children.every(({ endedAtMs }) => endedAtMs !== undefined))
        tasks.set(id, { ...task, ...(isWell ? DONE : failed('1 of 2 copies failed.')) })
    }
    return app.tasks.get(caller, id)
  }
}
