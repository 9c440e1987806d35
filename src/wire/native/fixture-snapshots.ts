import type { App, Caller, Page, Paging } from '../../app/contract.ts'
import type { Fault } from '../../image/fault.ts'
import { newId, type SnapshotId, type SnapshotPolicyId, type TaskId } from '../../image/ids.ts'
import type { Snapshot, SnapshotPolicy } from '../../image/snapshot.ts'
import type { Task, TaskKind } from '../../image/task.ts'
import { fakePolicy, fakeSnapshot, NOW_MS } from './fixture-nouns.ts'

interface FakeParts {
  called(name: string, caller: Caller, input: unknown): Promise<void>
  begin(kind: TaskKind, parts?: Partial<Task>): TaskId
  absent(subject: 'snapshot' | 'snapshot-policy'): Fault
  page<Item>(items: readonly Item[], paging: Paging): Page<Item>
}

/** The snapshots and policies of an App in memory. */
export function createFakeSnapshots({ called, begin, absent, page }: FakeParts) {
  const snapshots = new Map<SnapshotId, Snapshot>()
  const policies = new Map<SnapshotPolicyId, SnapshotPolicy>()

  const getPolicy = (id: SnapshotPolicyId) => {
    const policy = policies.get(id)
    if (policy === undefined) throw absent('snapshot-policy')
    return policy
  }

  /** A snapshot that is being made by the task. */
  function add(parts: Partial<Snapshot>, taskId: TaskId): SnapshotId {
    const snapshot = fakeSnapshot({ ...parts, state: { at: 'creating', taskId }, progressPermille: 0 })
    snapshots.set(snapshot.id, snapshot)
    return snapshot.id
  }

  const app: Pick<App, 'snapshots' | 'snapshotPolicies'> = {
    snapshots: {
      async create(caller, input) {
        await called('snapshots.create', caller, input)
        const { name, machineId, regionId } = input
        const snapshotId = newId('snapshot')
        const taskId = begin('create-snapshot', { snapshotId })
        add({ id: snapshotId, name, machineId, regionId }, taskId)
        return { snapshotId, taskId }
      },
      async list(caller, filter, paging) {
        await called('snapshots.list', caller, filter)
        const found = [...snapshots.values()].filter(
          (one) => one.regionId === filter.regionId && (filter.ids?.includes(one.id) ?? true),
        )
        return page(found, paging)
      },
      async remove(caller, input) {
        await called('snapshots.remove', caller, input)
        for (const id of input.snapshotIds) if (!snapshots.delete(id)) throw absent('snapshot')
      },
      async reset(caller, input) {
        await called('snapshots.reset', caller, input)
        if (!snapshots.has(input.snapshotId)) throw absent('snapshot')
        return { taskId: begin('reset-disk') }
      },
    },
    snapshotPolicies: {
      async create(caller, input) {
        await called('snapshotPolicies.create', caller, input)
        const { projectId: _projectId, ...rest } = input
        const policy = fakePolicy(rest)
        policies.set(policy.id, policy)
        return { policyId: policy.id }
      },
      async list(caller, filter, paging) {
        await called('snapshotPolicies.list', caller, filter)
        const found = [...policies.values()]
          .filter((one) => one.regionId === filter.regionId && (filter.ids?.includes(one.id) ?? true))
          .map((one) => ({ ...one, nextDueAtMs: one.isEnabled ? NOW_MS + 1000 : undefined }))
        return page(found, paging)
      },
      async change(caller, input) {
        await called('snapshotPolicies.change', caller, input)
        const { policyId, projectId: _projectId, ...changes } = input
        policies.set(policyId, { ...getPolicy(policyId), ...changes })
      },
      async remove(caller, input) {
        await called('snapshotPolicies.remove', caller, input)
        getPolicy(input.policyId)
        policies.delete(input.policyId)
      },
    },
  }
  return { app, snapshots, policies, add }
}
