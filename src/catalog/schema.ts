import type { Generated } from 'kysely'

/**
 * The rows, as SQLite and Postgres keep them: times are milliseconds since 1970, flags are 0 or 1, lists and
 * objects are JSON text. The catalog knows images, machines and tasks; it never knows chunks.
 */
export interface Schema {
  account: { id: string; name: string; createdAtMs: number }
  project: {
    id: string
    accountId: string
    name: string
    isDefault: number
    createdAtMs: number
    /** How many bytes may be charged to the project (I7); null for any number. */
    quotaBytes: Generated<number | null>
    /** What was charged when the quota was set: more than the quota where it was set below that. */
    chargedAtQuotaBytes: Generated<number | null>
  }
  user: {
    id: string
    accountId: string
    name: string
    isRoot: number
    defaultProjectId: string
    createdAtMs: number
  }
  accessKey: { id: string; userId: string; secret: string; isActive: number; createdAtMs: number }
  policy: { accountId: string; name: string; document: string; createdAtMs: number }
  /** `projectId` '' means every project of the account. */
  attachment: { userId: string; policyName: string; projectId: string }
  nonce: { keyId: string; nonce: string; expiresAtMs: number }
  image: {
    id: string
    projectId: string
    regionId: string
    kind: string
    origin: string
    name: string
    description: string
    tag: string
    osType: string
    osName: string
    state: string
    taskId: string | null
    digest: string | null
    reason: string | null
    progressPermille: number
    disks: string
    dataBytes: number
    storedBytes: number
    movedBytes: number
    /** Charged to the project while the image is being made; 0 before and afterwards. */
    reservedBytes: Generated<number>
    sourceMachineId: string | null
    sourceImageId: string | null
    /** JSON of MachineConfig; null: PLAIN_CONFIG. */
    config: string | null
    consistency: string | null
    parent: string | null
    /** JSON list of the labels that its machine had; null: none. */
    labels: string | null
    /** JSON of CleaningSummary; null: never cleaned. */
    cleaning: Generated<string | null>
    /** JSON of ImportFacts; null: not brought in as a file. */
    imported: Generated<string | null>
    createdAtMs: number
    updatedAtMs: number
  }
  snapshot: {
    id: string
    projectId: string
    regionId: string
    machineId: string
    machineName: string
    diskId: string
    /** JSON of ImageDisk. */
    disk: string
    /** JSON of MachineConfig. */
    config: string
    osType: string
    osName: string
    name: string
    description: string
    creator: string
    policyId: string | null
    /** The image that it belongs to. */
    imageId: string | null
    state: string
    taskId: string | null
    digest: string | null
    reason: string | null
    progressPermille: number
    consistency: string | null
    dataBytes: number
    storedBytes: number
    movedBytes: number
    /** As an image's. */
    reservedBytes: number
    createdAtMs: number
    updatedAtMs: number
  }
  /** Files on their way to us. */
  upload: {
    id: string
    /** SHA-256 of the token that opens it, hex. */
    tokenHash: string
    projectId: string
    regionId: string
    /** 'receiving', 'received', 'refused'. */
    state: string
    reason: string | null
    /** JSON of ImportWish. */
    wish: string
    /** JSON of Caller: who asked for it, in whose name the image is made. */
    caller: string
    lengthBytes: number | null
    offsetBytes: number
    /** JSON of BlobMap: what of it is durable. */
    map: string | null
    /** Charged to the project while it is being received; 0 afterwards. */
    reservedBytes: number
    imageId: string | null
    taskId: string | null
    createdAtMs: number
    expiresAtMs: number
  }
  /** Downloads that somebody may make. */
  download: {
    id: string
    /** SHA-256 of the token that opens it, hex. */
    tokenHash: string
    projectId: string
    regionId: string
    imageId: string
    digest: string
    /** JSON of what is handed out. */
    what: string
    fileName: string
    sizeBytes: number | null
    sha256: string | null
    taskId: string | null
    createdAtMs: number
    expiresAtMs: number
  }
  snapshotPolicy: {
    id: string
    projectId: string
    regionId: string
    name: string
    cron: string
    timeZone: string
    keepCount: number
    /** 'system' or 'all'. */
    disks: string
    /** JSON list of ids. */
    machineIds: string
    /** JSON list of ids: those of which the snapshots of `lastDueAtMs` are still to be asked for. */
    waitingMachineIds: string
    /** The name of the user who made it: its snapshots are theirs. */
    creator: string
    isEnabled: number
    lastDueAtMs: number | null
    /** When the newest of its snapshots was made, when one last was not, and why not. */
    lastDoneAtMs: number | null
    lastFailedAtMs: number | null
    lastReason: string | null
    createdAtMs: number
  }
  /**
   * The last capture of a disk whose content the region held when it ended: what the next one reads only the changes
   * since. Without a row, or where image or bitmap are gone, all is read.
   */
  baseline: {
    diskId: string
    machineId: string
    regionId: string
    /** The host's key of that capture. */
    captureKey: string
    digest: string
    diskIndex: number
    sizeBytes: number
    atMs: number
  }
  machine: {
    id: string
    projectId: string
    regionId: string
    zone: string
    name: string
    tag: string
    labels: string
    state: string
    reason: string
    cpuCount: number
    memoryBytes: number
    /** Null: 'bios', 'pc'. */
    firmware: string | null
    machineType: string | null
    typeName: string
    imageId: string
    imageName: string
    osType: string
    osName: string
    disks: string
    details: string
    createdAtMs: number
  }
  task: {
    id: string
    parentId: string | null
    kind: string
    projectId: string
    regionId: string
    state: string
    step: string
    input: string
    checkpoint: string
    output: string
    imageId: string | null
    snapshotId: string | null
    machineId: string | null
    faultKind: string | null
    reason: string | null
    doneBytes: number
    totalBytes: number
    movedBytes: number
    attemptCount: number
    cancelRequested: number
    createdAtMs: number
    startedAtMs: number | null
    endedAtMs: number | null
    savedBytes: Generated<number>
    /** As of `progressAtMs`, the last time that bytes were told, or that it was paused. */
    bytesPerSecond: Generated<number | null>
    progressAtMs: Generated<number | null>
    /** 0 to 9, higher first. */
    priority: Generated<number>
    deadlineAtMs: Generated<number | null>
    /** Why the last attempt failed, of one that tries again. */
    lastReason: Generated<string | null>
    /** What a repeated request is known by. */
    requestKey: Generated<string | null>
  }
  /** Changes of tasks, for whoever follows them; kept for a while. */
  event: {
    id: Generated<number>
    atMs: number
    projectId: string
    taskId: string
    kind: string
    /** 1: the task has ended. */
    isEnd: number
    /** JSON of TaskEvent without `id`. */
    body: string
  }
  webhook: {
    id: string
    projectId: string
    name: string
    url: string
    /** Sealed: what the messages are signed with. */
    secret: string
    /** JSON of Caller: by whose rights it is told. */
    caller: string
    /** JSON list. */
    kinds: string
    endsOnly: number
    isEnabled: number
    createdAtMs: number
    deliveredId: number
    deliveredAtMs: number | null
    failingSinceMs: number | null
    lastReason: string | null
    attemptCount: number
    /** Not before. */
    nextAtMs: number
  }
  replicationRule: {
    id: string
    projectId: string
    regionId: string
    name: string
    /** JSON of ReplicationFilter. */
    filter: string
    targetProjectId: string
    /** JSON list. */
    targetRegionIds: string
    keepCount: number | null
    isEnabled: number
    creator: string
    /** JSON of Caller: in whose name copies are asked for. */
    caller: string
    createdAtMs: number
    /** Images made available up to here were looked at. */
    seenUntilMs: number
    lastDoneAtMs: number | null
    lastFailedAtMs: number | null
    lastReason: string | null
  }
  /** Which images a rule has copied where, so that one that is deleted there does not come again. */
  replicated: {
    ruleId: string
    imageId: string
    regionId: string
    /** The copy. */
    copyId: string
    atMs: number
  }
  /** I9: one record for each request that changed something, or tried to. */
  audit: {
    id: Generated<number>
    atMs: number
    userId: string
    door: string
    action: string
    resource: string
    requestId: string
    outcome: string
  }
}
