import type { ReplicationFilter, ReplicationRule } from '../image/copy.ts'
import type { TaskEvent, Webhook } from '../image/event.ts'
import type { ImageId, ProjectId, RegionId, TaskId } from '../image/ids.ts'
import type { TaskKind } from '../image/task.ts'
import type { Caller } from './caller.ts'
import type { InProject, Page, Paging } from './wishes.ts'

/** What is copied whereto. `regionId` and `imageId` are the source's; with `peer` they are that installation's own words. */
export interface CopyWish extends InProject {
  readonly regionId: RegionId
  readonly imageId: ImageId
  /** The name of another installation in the settings: the image is fetched from there. */
  readonly peer?: string | undefined
  readonly targetProjectId?: ProjectId | undefined
  /** 1 to 100, each once. */
  readonly targetRegionIds: readonly RegionId[]
  readonly name?: string | undefined
  readonly description?: string | undefined
  readonly tag?: string | undefined
  /** Into another project: with that project's own keys, so that the two share nothing. Absent: as the settings say. */
  readonly rekey?: boolean | undefined
  /** 0 to 9; 5 if absent. */
  readonly priority?: number | undefined
  /** All copies are to be done within so long; refused where that cannot be. */
  readonly withinMs?: number | undefined
  /** Of each copy. */
  readonly bytesPerSecond?: number | undefined
}

/** One target of a copy. */
export interface CopyOf {
  readonly regionId: RegionId
  readonly imageId: ImageId
  readonly taskId: TaskId
}

export interface Copies {
  /**
   * Copies an available custom image to other regions or another project. Every target is checked before the
   * first is accepted; from then on each goes its own way. A cloud's door that repeats a request with the same parameters while
   * the first still runs gets the same answer (`copies.repeatMinutes`). Faults: 'absent' 'image'; 'invalid' 'image' reason
   * 'not-custom'; 'conflict' 'image' if it is not available; 'corrupt' 'image' reason 'damaged' where its region is seen or known not
   * to have it whole; 'invalid' 'image' reason 'same-place' where target region and project are the source's own; 'full' 'image' for the number of images in the target, 'full' 'project' reason 'quota' for its
   * bytes; 'full' 'store' reason 'room'; 'conflict' 'image' reason 'deadline', which says what the estimate is; 'absent' 'peer',
   * 'denied' 'peer', 'unavailable' 'peer'.
   */
  copy(
    caller: Caller,
    wish: CopyWish,
  ): Promise<{
    /** The batch, or the one copy. */
    readonly taskId: TaskId
    readonly copies: readonly CopyOf[]
  }>
  /** What `copy` would do; the task's output is a `CopyPlan`. What would be refused is among its blockers; nothing is made. */
  planCopy(caller: Caller, wish: CopyWish): Promise<{ readonly taskId: TaskId }>
  /**
   * Ends the copy that makes an image and takes the image off the lists, as WUYING's CancelCopyImage. Faults: 'absent' 'image';
   * 'invalid' 'image' reason 'not-a-copy'; 'conflict' 'image' if it is made already.
   */
  cancelCopy(
    caller: Caller,
    where: InProject & { readonly regionId: RegionId; readonly imageId: ImageId },
  ): Promise<void>
  /**
   * How far a copy is: parts of 1 000; 1 000 is available. Fault 'absent' 'image'; 'invalid' 'image' reason 'not-a-copy'; a failed
   * copy is Fault 'conflict' 'image' with its reason in the message.
   */
  copyProgress(
    caller: Caller,
    where: InProject & { readonly regionId: RegionId; readonly imageId: ImageId },
  ): Promise<number>
}

export interface NewWebhook {
  readonly name: string
  /** http or https; judged by the guard of imports now and at every message. */
  readonly url: string
  /** What messages are signed with, 16 to 256 printable characters; one is made if absent. Shown this once. */
  readonly secret?: string | undefined
  readonly kinds: readonly TaskKind[]
  readonly endsOnly: boolean
}

/** Following what tasks do, and what begins of itself. */
export interface Following {
  readonly events: {
    /**
     * Of the project's tasks, in their order, behind `afterId` (absent: from now on): at once if there are any, else when there
     * are or `waitMs` is over. `lastId` is where to go on. Fault 'conflict' 'event' reason 'gone' where events behind
     * `afterId` are no longer kept: look at the tasks, and follow from now on.
     */
    list(
      caller: Caller,
      filter: InProject & {
        readonly afterId?: number | undefined
        readonly taskId?: TaskId | undefined
        readonly kinds?: readonly TaskKind[] | undefined
      },
      options: { readonly limit: number; readonly waitMs: number; readonly signal: AbortSignal },
    ): Promise<{ readonly events: readonly TaskEvent[]; readonly lastId: number }>
  }
  readonly webhooks: {
    /** Fault 'invalid' 'request' reasons 'url', 'address'; 'full' 'webhook'. */
    create(
      caller: Caller,
      input: InProject & NewWebhook,
    ): Promise<{ readonly id: string; readonly secret: string }>
    list(caller: Caller, filter: InProject, paging: Paging): Promise<Page<Webhook>>
    /** Enabled again it goes on with what comes from now on. Fault 'absent' 'webhook'. */
    change(
      caller: Caller,
      input: InProject & { readonly id: string; readonly isEnabled: boolean },
    ): Promise<void>
    remove(caller: Caller, input: InProject & { readonly id: string }): Promise<void>
  }
  readonly replication: {
    /**
     * From now on every new image of the region that fits is copied. The caller's right to copy is checked at every end, now and
     * for each copy. Faults as `copy`; 'invalid' for a filter that says nothing at all is none: it means every image.
     */
    create(
      caller: Caller,
      input: InProject & {
        readonly regionId: RegionId
        readonly name: string
        readonly filter: ReplicationFilter
        readonly targetProjectId?: ProjectId | undefined
        readonly targetRegionIds: readonly RegionId[]
        readonly keepCount?: number | undefined
      },
    ): Promise<{ readonly id: string }>
    list(
      caller: Caller,
      filter: InProject & { readonly regionId: RegionId },
      paging: Paging,
    ): Promise<Page<ReplicationRule>>
    /** Fault 'absent' 'replication-rule'. */
    get(caller: Caller, where: InProject & { readonly id: string }): Promise<ReplicationRule>
    /** Enabled again it copies what becomes available from now on. Fault 'absent' 'replication-rule'. */
    change(
      caller: Caller,
      input: InProject & { readonly id: string; readonly isEnabled: boolean },
    ): Promise<void>
    /** Its copies stay. Fault 'absent' 'replication-rule'. */
    remove(caller: Caller, input: InProject & { readonly id: string }): Promise<void>
  }
  readonly peers: {
    /** The other installations of the settings, and whether they answer. */
    list(caller: Caller): Promise<
      readonly {
        readonly name: string
        readonly url: string
        readonly regions: readonly string[]
        /** Why it cannot be asked now; undefined if it can. */
        readonly reason: string | undefined
      }[]
    >
  }
}
