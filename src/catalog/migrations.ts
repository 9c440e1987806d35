import { type Kysely, sql } from 'kysely'
import { Fault } from '../image/fault.ts'
import { column, eventTable, index, type Step, table } from './migration-steps.ts'
import type { Schema } from './schema.ts'

/** Numbered from 1, never edited once released: a change is a new number. */
export const migrations: readonly (readonly Step[])[] = [
  [
    table('account', { id: 't', name: 't', createdAtMs: 'n' }, ['id']),
    table('project', { id: 't', accountId: 't', name: 't', isDefault: 'n', createdAtMs: 'n' }, ['id']),
    index('project_name', 'project', ['accountId', 'name'], true),
    table(
      'user',
      { id: 't', accountId: 't', name: 't', isRoot: 'n', defaultProjectId: 't', createdAtMs: 'n' },
      ['id'],
    ),
    index('user_name', 'user', ['accountId', 'name'], true),
    table('accessKey', { id: 't', userId: 't', secret: 't', isActive: 'n', createdAtMs: 'n' }, ['id']),
    table('policy', { accountId: 't', name: 't', document: 't', createdAtMs: 'n' }, ['accountId', 'name']),
    table('attachment', { userId: 't', policyName: 't', projectId: 't' }, [
      'userId',
      'policyName',
      'projectId',
    ]),
    table('nonce', { keyId: 't', nonce: 't', expiresAtMs: 'n' }, ['keyId', 'nonce']),
    index('nonce_expiry', 'nonce', ['expiresAtMs']),
    table(
      'image',
      {
        id: 't',
        projectId: 't',
        regionId: 't',
        kind: 't',
        origin: 't',
        name: 't',
        description: 't',
        tag: 't',
        osType: 't',
        osName: 't',
        state: 't',
        taskId: 't?',
        digest: 't?',
        reason: 't?',
        progressPermille: 'n',
        disks: 't',
        dataBytes: 'n',
        storedBytes: 'n',
        movedBytes: 'n',
        sourceMachineId: 't?',
        sourceImageId: 't?',
        createdAtMs: 'n',
        updatedAtMs: 'n',
      },
      ['id'],
    ),
    index('image_place', 'image', ['regionId', 'projectId', 'createdAtMs']),
    table(
      'machine',
      {
        id: 't',
        projectId: 't',
        regionId: 't',
        zone: 't',
        name: 't',
        tag: 't',
        labels: 't',
        state: 't',
        reason: 't',
        cpuCount: 'n',
        memoryBytes: 'n',
        typeName: 't',
        imageId: 't',
        imageName: 't',
        osType: 't',
        osName: 't',
        disks: 't',
        details: 't',
        createdAtMs: 'n',
      },
      ['id'],
    ),
    index('machine_place', 'machine', ['regionId', 'projectId', 'createdAtMs']),
    table(
      'task',
      {
        id: 't',
        parentId: 't?',
        kind: 't',
        projectId: 't',
        regionId: 't',
        state: 't',
        step: 't',
        input: 't',
        checkpoint: 't',
        output: 't',
        imageId: 't?',
        machineId: 't?',
        faultKind: 't?',
        reason: 't?',
        doneBytes: 'n',
        totalBytes: 'n',
        movedBytes: 'n',
        attemptCount: 'n',
        cancelRequested: 'n',
        createdAtMs: 'n',
        startedAtMs: 'n?',
        endedAtMs: 'n?',
      },
      ['id'],
    ),
    index('task_state', 'task', ['state']),
    index('task_parent', 'task', ['parentId']),
    (rows) =>
      rows.schema
        .createTable('audit')
        .addColumn('id', 'integer', (c) => c.primaryKey().autoIncrement())
        .addColumn('atMs', 'bigint', (c) => c.notNull())
        .addColumn('userId', 'text', (c) => c.notNull())
        .addColumn('door', 'text', (c) => c.notNull())
        .addColumn('action', 'text', (c) => c.notNull())
        .addColumn('resource', 'text', (c) => c.notNull())
        .addColumn('requestId', 'text', (c) => c.notNull())
        .addColumn('outcome', 'text', (c) => c.notNull())
        .execute(),
  ],
  [
    column('project', 'quotaBytes', 'n?'),
    column('project', 'chargedAtQuotaBytes', 'n?'),
    column('image', 'reservedBytes', 'n'),
  ],
  [
    column('image', 'config', 't?'),
    column('image', 'consistency', 't?'),
    column('image', 'parent', 't?'),
    column('image', 'labels', 't?'),
    column('machine', 'firmware', 't?'),
    column('machine', 'machineType', 't?'),
    column('task', 'snapshotId', 't?'),
    index('task_machine', 'task', ['machineId', 'endedAtMs']),
    table(
      'snapshot',
      {
        id: 't',
        projectId: 't',
        regionId: 't',
        machineId: 't',
        machineName: 't',
        diskId: 't',
        disk: 't',
        config: 't',
        osType: 't',
        osName: 't',
        name: 't',
        description: 't',
        creator: 't',
        policyId: 't?',
        imageId: 't?',
        state: 't',
        taskId: 't?',
        digest: 't?',
        reason: 't?',
        progressPermille: 'n',
        consistency: 't?',
        dataBytes: 'n',
        storedBytes: 'n',
        movedBytes: 'n',
        reservedBytes: 'n',
        createdAtMs: 'n',
        updatedAtMs: 'n',
      },
      ['id'],
    ),
    index('snapshot_place', 'snapshot', ['regionId', 'projectId', 'createdAtMs']),
    index('snapshot_image', 'snapshot', ['imageId']),
    index('snapshot_disk', 'snapshot', ['diskId', 'policyId', 'createdAtMs']),
    index('snapshot_task', 'snapshot', ['taskId']),
    index('image_task', 'image', ['taskId']),
    table(
      'snapshotPolicy',
      {
        id: 't',
        projectId: 't',
        regionId: 't',
        name: 't',
        cron: 't',
        timeZone: 't',
        keepCount: 'n',
        disks: 't',
        machineIds: 't',
        waitingMachineIds: 't',
        creator: 't',
        isEnabled: 'n',
        lastDueAtMs: 'n?',
        lastDoneAtMs: 'n?',
        lastFailedAtMs: 'n?',
        lastReason: 't?',
        createdAtMs: 'n',
      },
      ['id'],
    ),
    index('snapshot_policy_place', 'snapshotPolicy', ['regionId', 'projectId', 'createdAtMs']),
    table(
      'baseline',
      {
        diskId: 't',
        machineId: 't',
        regionId: 't',
        captureKey: 't',
        digest: 't',
        diskIndex: 'n',
        sizeBytes: 'n',
        atMs: 'n',
      },
      ['diskId'],
    ),
  ],
  [column('image', 'cleaning', 't?')],
  [
    column('image', 'imported', 't?'),
    table(
      'upload',
      {
        id: 't',
        tokenHash: 't',
        projectId: 't',
        regionId: 't',
        state: 't',
        reason: 't?',
        wish: 't',
        caller: 't',
        lengthBytes: 'n?',
        offsetBytes: 'n',
        map: 't?',
        reservedBytes: 'n',
        imageId: 't?',
        taskId: 't?',
        createdAtMs: 'n',
        expiresAtMs: 'n',
      },
      ['id'],
    ),
    index('upload_token', 'upload', ['tokenHash'], true),
    index('upload_place', 'upload', ['regionId', 'projectId', 'createdAtMs']),
    table(
      'download',
      {
        id: 't',
        tokenHash: 't',
        projectId: 't',
        regionId: 't',
        imageId: 't',
        digest: 't',
        what: 't',
        fileName: 't',
        sizeBytes: 'n?',
        sha256: 't?',
        taskId: 't?',
        createdAtMs: 'n',
        expiresAtMs: 'n',
      },
      ['id'],
    ),
    index('download_token', 'download', ['tokenHash'], true),
  ],
  [
    column('task', 'savedBytes', 'n'),
    column('task', 'bytesPerSecond', 'n?'),
    column('task', 'progressAtMs', 'n?'),
    column('task', 'priority', 'n', 5),
    column('task', 'deadlineAtMs', 'n?'),
    column('task', 'lastReason', 't?'),
    column('task', 'requestKey', 't?'),
    index('task_request', 'task', ['requestKey']),
    index('task_kind', 'task', ['kind', 'endedAtMs']),
    index('task_place', 'task', ['regionId', 'kind', 'endedAtMs']),
    index('image_digest', 'image', ['digest']),
    eventTable,
    index('event_project', 'event', ['projectId', 'id']),
    table(
      'webhook',
      {
        id: 't',
        projectId: 't',
        name: 't',
        url: 't',
        secret: 't',
        caller: 't',
        kinds: 't',
        endsOnly: 'n',
        isEnabled: 'n',
        createdAtMs: 'n',
        deliveredId: 'n',
        deliveredAtMs: 'n?',
        failingSinceMs: 'n?',
        lastReason: 't?',
        attemptCount: 'n',
        nextAtMs: 'n',
      },
      ['id'],
    ),
    table(
      'replicationRule',
      {
        id: 't',
        projectId: 't',
        regionId: 't',
        name: 't',
        filter: 't',
        targetProjectId: 't',
        targetRegionIds: 't',
        keepCount: 'n?',
        isEnabled: 'n',
        creator: 't',
        caller: 't',
        createdAtMs: 'n',
        seenUntilMs: 'n',
        lastDoneAtMs: 'n?',
        lastFailedAtMs: 'n?',
        lastReason: 't?',
      },
      ['id'],
    ),
    table('replicated', { ruleId: 't', imageId: 't', regionId: 't', copyId: 't', atMs: 'n' }, [
      'ruleId',
      'imageId',
      'regionId',
    ]),
  ],
]

/**
 * Brings the rows to the newest number, each number in a transaction of its own. Returns the number reached.
 * Throws Fault 'conflict' for rows of a later version, whose meaning is not known here.
 */
export async function migrate(rows: Kysely<Schema>): Promise<number> {
  await sql`create table if not exists migration (number bigint primary key, at_ms bigint not null)`.execute(
    rows,
  )
  const { rows: seen } = await sql<{ top: number | null }>`select max(number) as top from migration`.execute(
    rows,
  )
  const have = Number(seen[0]?.top ?? 0)
  if (have > migrations.length) {
    throw new Fault(
      'conflict',
      `The catalog was written by a newer version (schema ${have}, this one knows ${migrations.length}). ` +
        'Run that version or a later one.',
    )
  }
  for (let number = have + 1; number <= migrations.length; number++) {
    await rows.transaction().execute(async (transaction) => {
      for (const step of migrations[number - 1] ?? []) await step(transaction)
      await sql`insert into migration (number, at_ms) values (${number}, ${Date.now()})`.execute(transaction)
    })
  }
  return migrations.length
}
