import type { ConsoleText } from '../host/contract.ts'
import type { CleaningWish, SignedReport } from '../image/cleaning.ts'
import type { Dialect, ImageId, MachineId, ProjectId, RegionId, SnapshotId, TaskId } from '../image/ids.ts'
import type { Image } from '../image/image.ts'
import type { Machine } from '../image/machine.ts'
import type { Region } from '../image/region.ts'
import type { Task, TaskKind, TaskState } from '../image/task.ts'
import type { Caller } from './caller.ts'
import type { Copies, CopyOf, Following } from './copy-contract.ts'
import type { Snapshots } from './snapshot-contract.ts'
import type { ImportFrom, ImportWish, Transfers } from './transfer-contract.ts'
import type {
  Ancestor,
  CaptureWish,
  ImageFilter,
  InProject,
  MachineFilter,
  NewMachine,
  Page,
  Paging,
} from './wishes.ts'

export type * from './wishes.ts'
export type { Caller }

/**
 * What a door needs to check a signature: the secret behind a key, and each nonce once.
 */
export interface Keyring {
  find(
    keyId: string,
  ): Promise<{ readonly secret: string; readonly isActive: boolean; readonly userId: string } | undefined>
  /** False if this key used this nonce before (within its time to live). Atomic, and survives a restart. */
  useNonce(keyId: string, nonce: string, expiresAtMs: number): Promise<boolean>
  /** The caller behind a key that was just verified. */
  caller(
    userId: string,
    door: Dialect,
    request: { requestId: string; sourceIp: string; secureTransport: boolean },
  ): Promise<Caller>
}

/**
 * Every use case of the product, in its own words. Each call checks the caller's right to the action that its door
 * names it by (`ACTIONS` in `actions.ts`), so that no door can forget; each call that changes something leaves one
 * audit record (I9). Faults carry kind, subject, field and reason for the doors' error tables.
 */
export interface App extends Transfers, Following, Snapshots {
  readonly regions: {
    list(caller: Caller): Promise<readonly Region[]>
    /** The region and zone that is meant when nothing is said. */
    default(): { readonly regionId: RegionId; readonly zone: string }
    /** Fault 'absent' 'region'. No permission needed: doors parse with it. */
    get(id: string): Region
  }
  readonly projects: {
    list(caller: Caller): Promise<
      readonly {
        id: ProjectId
        name: string
        isDefault: boolean
        createdAtMs: number
        memberCount: number
        /** Null or absent: any number of bytes. */
        quotaBytes?: number | null
        chargedBytes?: number
      }[]
    >
    create(caller: Caller, name: string): Promise<{ readonly projectId: ProjectId }>
    /**
     * How many bytes may be charged to a project from now on, null for any number. It may be less than what is charged:
     * then nothing is added until it fits again. Fault 'absent' 'project'.
     */
    setQuota(
      caller: Caller,
      projectId: ProjectId,
      quotaBytes: number | null,
    ): Promise<{ readonly chargedBytes: number }>
  }
  readonly users: {
    /** A user with an access key and no rights at all. The secret is shown this once. */
    create(caller: Caller, name: string): Promise<{ keyId: string; secret: string }>
    /** Adds or replaces a policy document of the account. */
    putPolicy(caller: Caller, name: string, document: unknown): Promise<void>
    /** Gives the user a policy, everywhere or in one project. */
    attach(caller: Caller, userName: string, policyName: string, projectId?: ProjectId): Promise<void>
  }
  readonly images: {
    /**
     * From a machine that is running or stopped (Fault 'conflict' 'machine' otherwise), with its labels. Returns at once;
     * the image is listed from then on as 'creating'. `disks` 'system' takes the first disk alone. Fault 'full' 'project' reason
     * 'quota' if the project's quota is used up; whether this image fits in is known, and said, once its task has looked.
     */
    capture(
      caller: Caller,
      input: CaptureWish,
    ): Promise<{
      readonly imageId: ImageId
      readonly taskId: TaskId
      /** In the order of `linkedDiskIds`. */
      readonly snapshotIds: readonly SnapshotId[]
    }>
    /**
     * What `capture` would do, on paper; the report (`CaptureReport`) is the task's output. Nothing is made; a running
     * guest stands still for milliseconds. What would be refused is among the report's blockers; only an unknown machine
     * or a missing right is a fault.
     */
    plan(caller: Caller, input: CaptureWish): Promise<{ readonly taskId: TaskId }>
    /**
     * From snapshots of disks of one machine, each disk at most once, its system disk among them; no byte is moved. Consistency
     * above 'crash' only if one capture made all of them. Faults:
     * 'absent' 'snapshot'; 'conflict' 'snapshot' for one that is not available; 'invalid' 'snapshot' with reason
     * 'disk-twice', 'several-machines' (also where `machineId` is another one), 'no-system-disk', 'disk-missing' (`disks`
     * 'all' and one of the machine's disks is not named, or the machine is gone), 'not-system' (`disks` 'system' and a data disk is named, or one
     * of `systemSnapshotIds` is of a data disk), 'not-data' (one of `dataSnapshotIds` is of the system disk).
     */
    compose(
      caller: Caller,
      input: InProject & {
        readonly regionId: RegionId
        readonly snapshotIds: readonly SnapshotId[]
        /** Those of `snapshotIds` that the caller says are of a system disk, or of data disks. */
        readonly systemSnapshotIds?: readonly SnapshotId[] | undefined
        readonly dataSnapshotIds?: readonly SnapshotId[] | undefined
        readonly machineId?: MachineId | undefined
        readonly disks?: 'system' | 'all' | undefined
        readonly name?: string | undefined
        readonly description?: string | undefined
        readonly tag?: string | undefined
        /** As of `capture`; bytes are then read after all. */
        readonly clean?: CleaningWish | undefined
      },
    ): Promise<{ readonly imageId: ImageId; readonly taskId: TaskId }>
    /**
     * A new custom image from an available one of the project or of the operator, without users' private data; the source stays
     * as it is and is the new one's parent. Faults: 'absent' 'image'; 'conflict' 'image' if it is not available; 'full'. What
     * cannot be cleaned fails the task (Fault 'conflict' 'volume').
     */
    clean(
      caller: Caller,
      input: InProject & {
        readonly regionId: RegionId
        readonly imageId: ImageId
        readonly clean: CleaningWish
        /** Absent: the source's name with '-clean' behind it. */
        readonly name?: string | undefined
        readonly description?: string | undefined
        readonly tag?: string | undefined
      },
    ): Promise<{ readonly imageId: ImageId; readonly taskId: TaskId }>
    /** What `clean` would take out: the task's output is `{ cleaning: CleaningReport | null, blockers: string[] }`. Nothing is made. */
    planClean(
      caller: Caller,
      input: InProject & {
        readonly regionId: RegionId
        readonly imageId: ImageId
        readonly clean: CleaningWish
      },
    ): Promise<{ readonly taskId: TaskId }>
    /**
     * The signed report of the cleaning that made the image, or the image it was copied from. Faults: 'absent' 'image', reason
     * 'no-report' for one that was never cleaned; 'conflict' 'image' if it is not available; 'corrupt' if it is damaged.
     */
    report(
      caller: Caller,
      where: InProject & { readonly regionId: RegionId; readonly imageId: ImageId },
    ): Promise<SignedReport>
    copy: Copies['copy']
    planCopy: Copies['planCopy']
    cancelCopy: Copies['cancelCopy']
    /**
     * From a file: inspected before anything opens it, then read into chunks. Faults, at once: 'invalid' 'file' or 'name' or
     * 'request' reasons 'address', 'url'; 'absent' 'file' for no such file in the import folder; 'full'. What the file is
     * refused for is the task's failure, 'invalid' 'file' with a reason of `RefusalReason`.
     */
    import(
      caller: Caller,
      input: ImportWish & { readonly from: ImportFrom },
    ): Promise<{ readonly imageId: ImageId; readonly taskId: TaskId }>
    /** The project's own images and the operator's base images of the region. Unknown ids are left out. */
    list(caller: Caller, filter: ImageFilter, paging: Paging): Promise<Page<Image>>
    /** Fault 'absent' 'image'. */
    get(
      caller: Caller,
      where: InProject & { readonly regionId: RegionId; readonly imageId: ImageId },
    ): Promise<Image>
    copyProgress: Copies['copyProgress']
    /**
     * What the image was made from, and that in turn, nearest first: by its digest, with the name where an image or
     * snapshot that the project may see has it, and the id where that is an image of the region. Fault 'absent' 'image'.
     */
    lineage(
      caller: Caller,
      where: InProject & { readonly regionId: RegionId; readonly imageId: ImageId },
    ): Promise<readonly Ancestor[]>
    /**
     * Takes images off the lists, all or none, with the snapshots that belong to them; one being made is cancelled. Faults: 'absent' 'image';
     * 'invalid' 'image' reason 'not-custom' for a base image through a cloud's door.
     */
    remove(
      caller: Caller,
      input: InProject & { readonly regionId: RegionId; readonly imageIds: readonly ImageId[] },
    ): Promise<void>
  }
  readonly machines: {
    /** Machines are listed at once as 'creating'. Fault 'absent' 'image', 'conflict' 'image' if not available. */
    create(
      caller: Caller,
      input: NewMachine,
    ): Promise<{ readonly machineIds: readonly MachineId[]; readonly taskIds: readonly TaskId[] }>
    list(caller: Caller, filter: MachineFilter, paging: Paging): Promise<Page<Machine>>
    /** All or none; Fault 'absent' 'machine', 'conflict' 'machine' unless stopped. */
    start(caller: Caller, input: MachineBatch): Promise<void>
    /** 'graceful' presses the power button first, 'power' pulls the plug. Fault 'conflict' unless running. */
    stop(caller: Caller, input: MachineBatch & { readonly how: 'graceful' | 'power' }): Promise<void>
    /** Gone from lists at once. With `stoppedOnly` a running machine is Fault 'conflict' 'machine'. */
    remove(caller: Caller, input: MachineBatch & { readonly stoppedOnly: boolean }): Promise<void>
    /** As `Host.readConsole`: a piece of bounded length, which may start later than asked. */
    readConsole(
      caller: Caller,
      where: InProject & { regionId: RegionId; machineId: MachineId; fromByte: number },
    ): Promise<ConsoleText>
    writeConsole(
      caller: Caller,
      where: InProject & { regionId: RegionId; machineId: MachineId; bytes: Uint8Array },
    ): Promise<void>
  }
  readonly tasks: {
    list(
      caller: Caller,
      filter: InProject & {
        readonly kind?: TaskKind
        /** None: any. */
        readonly states?: readonly TaskState['at'][]
        readonly parentId?: TaskId
        readonly live?: boolean
      },
      paging: Paging,
    ): Promise<Page<Task>>
    get(caller: Caller, id: TaskId): Promise<Task>
    /** Waits until the task has ended or changed, at most `waitMs`; answers it as it then is. */
    wait(caller: Caller, id: TaskId, waitMs: number): Promise<Task>
    cancel(caller: Caller, id: TaskId): Promise<void>
    /**
     * Holds a copy, lets it go on, or changes its place in the line; of a batch all that have not ended. Fault 'conflict'
     * 'task' for one that has ended, is of another kind, or is (not) paused already.
     */
    change(
      caller: Caller,
      id: TaskId,
      change: { readonly paused?: boolean | undefined; readonly priority?: number | undefined },
    ): Promise<void>
    /**
     * Begins anew what failed or was cancelled of a copy or a batch, with the same images; the rest stays as it is. Returns the
     * tasks that do it now: one, or a new batch with its copies. Fault 'conflict' 'task' for one that has not ended, or of which
     * nothing failed; 'conflict' 'image' where the image that failed was deleted.
     */
    retry(
      caller: Caller,
      id: TaskId,
    ): Promise<{ readonly taskId: TaskId; readonly copies: readonly CopyOf[] }>
    /** Checks every pack, map and image of a region, or of all; the report is the task's output. */
    verify(
      caller: Caller,
      input: { readonly regionIds: readonly RegionId[]; readonly deep: boolean },
    ): Promise<{ readonly taskIds: readonly TaskId[] }>
  }
  readonly store: {
    /**
     * Removes what nobody needs from the regions' stores; the report is each task's output. `graceMs` absent: as the
     * settings say. Fault 'conflict' 'task' if a region is collected already.
     */
    collect(
      caller: Caller,
      input: {
        readonly regionIds: readonly RegionId[]
        readonly isDryRun: boolean
        readonly graceMs?: number | undefined
      },
    ): Promise<{ readonly taskIds: readonly TaskId[] }>
    /**
     * Reads again what the regions store, `all` of it or what was not read lately, and mends what is damaged from other
     * regions. Fault 'conflict' 'task' if a region is scrubbed already.
     */
    scrub(
      caller: Caller,
      input: {
        readonly regionIds: readonly RegionId[]
        readonly bytesPerSecond?: number | undefined
        readonly all: boolean
        readonly repair: boolean
      },
    ): Promise<{ readonly taskIds: readonly TaskId[] }>
    /**
     * Of one project; or of all, if none is named and the caller's right reaches beyond one.
     */
    usage(
      caller: Caller,
      input: InProject & { readonly regionIds: readonly RegionId[] },
      signal: AbortSignal,
    ): Promise<StoreUsage>
  }
}

/** What images take in their regions' stores. Bytes of stored chunks, each distinct one counted once. */
export interface ImageUsage {
  readonly id: ImageId
  readonly name: string
  readonly projectId: ProjectId
  readonly regionId: RegionId
  readonly logicalBytes: number
  readonly dataBytes: number
  readonly storedBytes: number
  /** Of the stored bytes, those that no other image of the region names, and the rest. */
  readonly uniqueBytes: number
  readonly sharedBytes: number
}

export interface ProjectUsage {
  readonly id: ProjectId
  readonly name: string
  /** Sums over its images in the regions asked for. */
  readonly imageCount: number
  readonly logicalBytes: number
  readonly dataBytes: number
  readonly uniqueBytes: number
  readonly sharedBytes: number
  /** In all regions: what counts against the quota. */
  readonly chargedBytes: number
  readonly quotaBytes: number | null
}

export interface StoreUsage {
  readonly images: readonly ImageUsage[]
  readonly projects: readonly ProjectUsage[]
  /** Only for those with a right beyond one project: a region holds what all projects store. */
  readonly regions: readonly {
    readonly id: RegionId
    readonly packBytes: number
    readonly liveBytes: number
    readonly reclaimableBytes: number
    readonly condemnedBytes: number
  }[]
}

export interface MachineBatch extends InProject {
  readonly regionId: RegionId
  readonly machineIds: readonly MachineId[]
}
