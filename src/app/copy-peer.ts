import type { Rows } from '../catalog/contract.ts'
import { Fault, isFault } from '../image/fault.ts'
import type { ProjectId, RegionId } from '../image/ids.ts'
import type { Task } from '../image/task.ts'
import { type CopyInput, copyInputOf, type OldCopyInput } from '../tasks/copy-words.ts'
import type { Caller } from './contract.ts'
import { copyTasks } from './copy-retry.ts'
import type { Guard } from './guard.ts'

/**
 * A peer lets the whole installation read; who of us may is said by policies that speak of `peer/NAME`. Asked for each
 * region that is copied into. Faults as of `Guard.admit`, the resource named.
 */
export async function admitPeer(
  guard: Guard,
  caller: Caller,
  peer: string | undefined,
  target: { readonly projectId: ProjectId | undefined; readonly regionIds: readonly RegionId[] },
): Promise<void> {
  if (peer === undefined) return
  const resource = `peer/${peer}`
  for (const regionId of target.regionIds) {
    const { projectId } = target
    await guard.admit(caller, 'images.copy', { regionId, projectId, resource }).catch((error: unknown) => {
      if (!isFault(error, 'denied')) throw error
      const { subject, reason, field, message } = error
      throw new Fault('denied', `${message} What is asked for is the resource '${resource}'.`, {
        ...{ subject, cause: error },
        ...(reason === undefined ? {} : { reason }),
        ...(field === undefined ? {} : { field }),
      })
    })
  }
}

/** The peers that a copy or a batch copies from, and into which regions. */
export async function peersOf(rows: Rows, task: Task): Promise<ReadonlyMap<string, readonly RegionId[]>> {
  const tasks = await copyTasks(rows, task).select('task.input').execute()
  const peers = new Map<string, RegionId[]>()
  for (const { input } of tasks) {
    const { source, targetRegionId } = copyInputOf(JSON.parse(input) as CopyInput | OldCopyInput)
    if (source.is === 'peer') peers.set(source.peer, [...(peers.get(source.peer) ?? []), targetRegionId])
  }
  return peers
}
