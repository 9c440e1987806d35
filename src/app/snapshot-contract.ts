import type { WantedConsistency } from '../image/consistency.ts'
import type { DiskId, MachineId, RegionId, SnapshotId, SnapshotPolicyId, TaskId } from '../image/ids.ts'
import type { Snapshot, SnapshotPolicy } from '../image/snapshot.ts'
import type { Caller } from './caller.ts'
import type { InProject, NewSnapshotPolicy, Page, Paging, SnapshotFilter } from './wishes.ts'

/** The part of `App` that is about what disks held at some moment. */
export interface Snapshots {
  readonly snapshots: {
    /**
     * Of one disk of a machine that is running or stopped. Faults as of `images.capture`; for `disk` 'data' of a machine
     * with none 'absent' 'disk', with several 'invalid' 'disk' reason 'several-disks'; 'full' 'snapshot'.
     */
    create(
      caller: Caller,
      input: InProject & {
        readonly regionId: RegionId
        readonly machineId: MachineId
        readonly disk: 'system' | 'data' | { readonly id: DiskId }
        readonly name: string
        readonly description?: string | undefined
        readonly consistency?: WantedConsistency | undefined
      },
    ): Promise<{ readonly snapshotId: SnapshotId; readonly taskId: TaskId }>
    list(caller: Caller, filter: SnapshotFilter, paging: Paging): Promise<Page<Snapshot>>
    /**
     * All or none; one being made is cancelled. Fault 'conflict' 'snapshot' reason 'linked' for one that belongs to an
     * image. Unknown ids: Fault 'absent' 'snapshot', or left out with `ignoreUnknown`.
     */
    remove(
      caller: Caller,
      input: InProject & {
        readonly regionId: RegionId
        readonly snapshotIds: readonly SnapshotId[]
        readonly ignoreUnknown?: boolean
      },
    ): Promise<void>
    /**
     * Gives the disk that the snapshot is of the snapshot's content again; what it held since is lost. The machine must
     * be stopped (Fault 'conflict' 'machine'), or running where `stopFirst`; it is stopped afterwards. Faults: 'absent'
     * 'snapshot', 'absent' 'machine' where it is gone, 'conflict' 'snapshot' unless available.
     */
    reset(
      caller: Caller,
      input: InProject & {
        readonly regionId: RegionId
        readonly snapshotId: SnapshotId
        readonly stopFirst: boolean
      },
    ): Promise<{ readonly taskId: TaskId }>
  }
  readonly snapshotPolicies: {
    /** Fault 'invalid' for a cron or time zone that cannot be read, 'absent' 'machine', 'full' 'snapshot-policy'. */
    create(
      caller: Caller,
      input: InProject & NewSnapshotPolicy & { readonly regionId: RegionId },
    ): Promise<{ readonly policyId: SnapshotPolicyId }>
    list(
      caller: Caller,
      filter: InProject & { readonly regionId: RegionId; readonly ids?: readonly SnapshotPolicyId[] },
      paging: Paging,
    ): Promise<Page<SnapshotPolicy & { readonly nextDueAtMs: number | undefined }>>
    /** What is absent stays. Fault 'absent' 'snapshot-policy'; else as `create`. */
    change(
      caller: Caller,
      input: InProject &
        Partial<NewSnapshotPolicy> & { readonly regionId: RegionId; readonly policyId: SnapshotPolicyId },
    ): Promise<void>
    /** Its snapshots stay. Fault 'absent' 'snapshot-policy'. */
    remove(
      caller: Caller,
      input: InProject & { readonly regionId: RegionId; readonly policyId: SnapshotPolicyId },
    ): Promise<void>
  }
}
