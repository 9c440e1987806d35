import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { sql } from 'kysely'
import type { Catalog } from '../catalog/contract.ts'
import { openSqliteCatalog } from '../catalog/sqlite.ts'
import { createRunner, type Runner } from './runner.ts'
import { createSnapshotSchedule, type SnapshotSchedule } from './snapshot-policies.ts'

const MINUTE_MS = 60 * 1000
const HOUR_MS = 60 * MINUTE_MS
const DAY_MS = 24 * HOUR_MS
const START_MS = Date.parse('2026-01-01T00:00:00Z')

describe('snapshot policies', () => {
  let catalog: Catalog
  let runner: Runner
  let schedule: SnapshotSchedule
  let nowMs: number
  let kicked: string[]
  let logged: Record<string, unknown>[]

  const open = (snapshotsPerRegionMax = 10_000) =>
    createSnapshotSchedule({
      catalog,
      // Tasks stay queued until a test ends them.
      runner: { ...runner, kick: (id) => void kicked.push(id) },
      clock: () => nowMs,
      snapshotsPerRegionMax,
      log: (record) => void logged.push(record),
    })

  beforeEach(async () => {
    catalog = await openSqliteCatalog(':memory:')
    nowMs = START_MS
    kicked = []
    logged = []
    runner = createRunner({ catalog, definitions: [], clock: () => nowMs, log: () => {} })
    schedule = open()
  })
  afterEach(async () => {
    await schedule.close()
    await runner.close()
    await catalog.close()
    assert.deepEqual(
      logged.filter(({ level }) => level === 'error'),
      [],
    )
  })

  const machine = (id: string, state = 'running', diskCount = 2) =>
    catalog.rows
      .insertInto('machine')
      .values({
        ...{
          id,
          projectId: 'org-main',
          regionId: 'hk',
          zone: 'z',
          name: `name-${id}`,
          tag: '',
          labels: '[]',
        },
        ...{ state, reason: '', cpuCount: 2, memoryBytes: 1024, firmware: 'uefi', machineType: 'q35' },
        ...{ typeName: '', imageId: '', imageName: '', osType: 'Linux', osName: 'Debian', details: '{}' },
        disks: JSON.stringify(
          Array.from({ length: diskCount }, (_, index) => ({
            ...{
              id: `${id}-${index}`,
              index,
              sizeBytes: 1024 * (index + 1),
              bus: 'virtio-scsi',
              category: '',
            },
          })),
        ),
        createdAtMs: START_MS,
      })
      .execute()

  const policy = (id: string, machineIds: string[], more: object = {}) =>
    catalog.rows
      .insertInto('snapshotPolicy')
      .values({
        ...{ id, projectId: 'org-main', regionId: 'hk', name: 'nightly', cron: '0 3 * * *' },
        ...{ timeZone: 'Asia/Hong_Kong', keepCount: 2, disks: 'all', waitingMachineIds: '[]' },
        ...{ machineIds: JSON.stringify(machineIds), creator: 'anna', isEnabled: 1 },
        ...{ lastDueAtMs: null, createdAtMs: START_MS },
        ...more,
      })
      .execute()

  const snapshots = () => catalog.rows.selectFrom('snapshot').selectAll().orderBy(sql`rowid`).execute()
  const tasks = (kind: string) =>
    catalog.rows.selectFrom('task').selectAll().where('kind', '=', kind).orderBy('createdAtMs').execute()
  const policyRow = (id: string) =>
    catalog.rows.selectFrom('snapshotPolicy').selectAll().where('id', '=', id).executeTakeFirstOrThrow()

  /** Ends every live task, with its snapshots in this state. */
  async function end(state: 'available' | 'failed' = 'available') {
    await catalog.rows
      .updateTable('snapshot')
      .set({ state, digest: state === 'available' ? 'd'.repeat(64) : null })
      .where('state', '=', 'creating')
      .execute()
    await catalog.rows.updateTable('task').set({ endedAtMs: nowMs }).where('endedAtMs', 'is', null).execute()
  }

  test('a machine and all its disks are one task, at the policy’s own clock', async () => {
    await machine('a')
    await policy('p', ['a'])
    nowMs = Date.parse('2026-01-01T18:59:59Z')
    await schedule.look()
    assert.deepEqual(await snapshots(), [])
    nowMs += 20_000
    await schedule.look()
    await schedule.look()
    const [task, ...others] = await tasks('create-snapshot')
    assert.deepEqual(others, [])
    const made = await snapshots()
    assert.deepEqual(JSON.parse(task?.input ?? ''), {
      machineId: 'a',
      wanted: 'best',
      outputs: made.map(({ id, diskId }) => ({ is: 'snapshot', id, diskIds: [diskId] })),
    })
    assert.deepEqual(
      [task?.machineId, task?.snapshotId, task?.totalBytes, kicked],
      ['a', made[0]?.id, 3072, [task?.id]],
    )
    for (const [index, row] of made.entries()) {
      const { id: _id, ...rest } = row
      assert.deepEqual(rest, {
        ...{ projectId: 'org-main', regionId: 'hk', machineId: 'a', machineName: 'name-a' },
        ...{ diskId: `a-${index}`, name: 'auto-nightly-20260102-0300', description: '', creator: 'anna' },
        disk: `{"index":${index},"sizeBytes":${1024 * (index + 1)},"bus":"virtio-scsi"}`,
        config: '{"firmware":"uefi","machineType":"q35","cpuCount":2,"memoryBytes":1024}',
        ...{ osType: 'Linux', osName: 'Debian', policyId: 'p', imageId: null },
        ...{ state: 'creating', taskId: task?.id, digest: null, reason: null, progressPermille: 0 },
        ...{ consistency: null, dataBytes: 0, storedBytes: 0, movedBytes: 0, reservedBytes: 0 },
        ...{ createdAtMs: nowMs, updatedAtMs: nowMs },
      })
    }
    assert.equal((await policyRow('p')).lastDueAtMs, Date.parse('2026-01-01T19:00:00Z'))
  })

  test('the system disk alone, where that is what is wanted; nothing from a policy that is off', async () => {
    await machine('a')
    await policy('p', ['a'], { disks: 'system' })
    await policy('off', ['a'], { isEnabled: 0 })
    nowMs += DAY_MS
    await schedule.look()
    assert.deepEqual(
      (await snapshots()).map(({ diskId, policyId }) => [diskId, policyId]),
      [['a-0', 'p']],
    )
  })

  test('times that passed while the server was off count as one', async () => {
    await machine('a', 'stopped')
    await policy('p', ['a'], { disks: 'system' })
    nowMs += 10 * DAY_MS
    await schedule.look()
    await end()
    nowMs += HOUR_MS
    await schedule.look()
    assert.equal((await snapshots()).length, 1)
    nowMs += DAY_MS
    await schedule.look()
    assert.equal((await snapshots()).length, 2)
  })

  test('a busy machine is asked again, across a restart, and left out when the next time comes', async () => {
    await machine('a', 'starting', 1)
    await machine('b', 'running', 1)
    await machine('c', 'running', 1)
    await policy('p', ['a', 'b', 'c', 'gone'])
    const task = { projectId: 'org-main', regionId: 'hk', machineId: 'b', input: {} } as never as object
    await runner.add(catalog.rows, { ...task, kind: 'capture-image' } as never)
    nowMs += DAY_MS
    await schedule.look()
    assert.deepEqual(
      (await snapshots()).map(({ machineId }) => machineId),
      ['c'],
    )
    assert.deepEqual(JSON.parse((await policyRow('p')).waitingMachineIds), ['a', 'b'])
    await schedule.close()
    schedule = open()
    await end()
    await schedule.look()
    assert.deepEqual(
      (await snapshots()).map(({ machineId }) => machineId),
      ['c', 'b'],
    )
    assert.deepEqual(logged, [])
    await end()
    nowMs += DAY_MS
    await schedule.look()
    assert.equal((await snapshots()).length, 4)
    assert.deepEqual(
      logged.map(({ message, machines }) => [message, machines]),
      [['left out of a snapshot policy: busy until its next time', ['a']]],
    )
    const { lastFailedAtMs, lastReason } = await policyRow('p')
    assert.equal(lastFailedAtMs, nowMs)
    assert.match(lastReason ?? '', /^Machine vm-a: It was busy/)
  })

  test('two policies of one machine take turns', async () => {
    await machine('a', 'running', 1)
    await policy('p', ['a'])
    await policy('q', ['a'])
    nowMs += DAY_MS
    await schedule.look()
    assert.equal((await snapshots()).length, 1)
    await end()
    await schedule.look()
    assert.deepEqual(
      (await snapshots()).map(({ policyId }) => policyId),
      ['p', 'q'],
    )
  })

  test('as many as are kept stay, the newest ones; users’ own and linked ones count not', async () => {
    await machine('a', 'running', 1)
    await policy('p', ['a'])
    const days: number[] = []
    for (let day = 1; day <= 4; day++) {
      nowMs += DAY_MS
      days.push(nowMs)
      await schedule.look()
      await end()
      if (day === 1) await catalog.rows.updateTable('snapshot').set({ imageId: 'i' }).execute()
      if (day === 2) {
        const [own] = await catalog.rows
          .selectFrom('snapshot')
          .selectAll()
          .where('imageId', 'is', null)
          .execute()
        assert.ok(own)
        await catalog.rows
          .insertInto('snapshot')
          .values({ ...own, id: 'own', policyId: null })
          .execute()
      }
    }
    await schedule.look()
    const kept = (await snapshots()).filter(({ policyId, imageId }) => policyId === 'p' && imageId === null)
    assert.deepEqual(
      kept.map(({ createdAtMs }) => createdAtMs),
      days.slice(2),
    )
    assert.equal((await snapshots()).length, 4)
    const releases = await tasks('release-image')
    assert.equal(releases.length, 1)
    const { holder, regionId, digest } = JSON.parse(releases[0]?.input ?? '')
    assert.deepEqual([regionId, digest], ['hk', 'd'.repeat(64)])
    assert.ok(!(await snapshots()).some(({ id }) => id === holder))
    assert.ok(kicked.includes(releases[0]?.id ?? ''))
  })

  test('the newest failed one is shown until one succeeds; failures push no good one out', async () => {
    await machine('a', 'running', 1)
    await policy('p', ['a'], { keepCount: 1 })
    const states = async () => (await snapshots()).map(({ state }) => state)
    nowMs += DAY_MS
    await schedule.look()
    await end('available')
    for (const _night of [1, 2, 3]) {
      nowMs += DAY_MS
      await schedule.look()
      await end('failed')
      await schedule.look()
      assert.deepEqual(await states(), ['available', 'failed'])
      assert.equal((await snapshots())[1]?.createdAtMs, nowMs)
    }
    nowMs += DAY_MS
    await schedule.look()
    await end('available')
    await schedule.look()
    assert.deepEqual(await states(), ['available'])
    assert.equal((await tasks('release-image')).length, 1)
  })

  test('where no more snapshots may be listed, all of a machine or none are, and the others go on', async () => {
    await schedule.close()
    schedule = open(2)
    await machine('a', 'running', 3)
    await machine('b', 'running', 2)
    await policy('p', ['a', 'b'])
    nowMs += DAY_MS
    await schedule.look()
    await schedule.look()
    assert.deepEqual(
      (await snapshots()).map(({ machineId }) => machineId),
      ['b', 'b'],
    )
    assert.deepEqual(
      logged.map(({ level, machine }) => [level, machine]),
      [['warn', 'a']],
    )
    const { lastFailedAtMs, lastReason } = await policyRow('p')
    assert.equal(lastFailedAtMs, nowMs)
    assert.match(lastReason ?? '', /^Machine vm-a: Project org-main may have 2 snapshots/)
    assert.deepEqual(JSON.parse((await policyRow('p')).waitingMachineIds), [])
  })

  test('a policy says when it last made one, and when and why it did not', async () => {
    await machine('a', 'running', 1)
    await policy('p', ['a'])
    const outcome = async () => {
      await schedule.look()
      const { lastDoneAtMs, lastFailedAtMs, lastReason } = await policyRow('p')
      return [lastDoneAtMs, lastFailedAtMs, lastReason]
    }
    const came = async (state: 'available' | 'failed', reason: string | null) => {
      nowMs += DAY_MS
      await schedule.look()
      nowMs += MINUTE_MS
      const made = { reason, updatedAtMs: nowMs }
      await catalog.rows.updateTable('snapshot').set(made).where('state', '=', 'creating').execute()
      await end(state)
      return nowMs
    }
    assert.deepEqual(await outcome(), [null, null, null])
    const first = await came('available', null)
    assert.deepEqual(await outcome(), [first, null, null])
    const second = await came('failed', 'The quota is used up.')
    // Also of one that was switched off meanwhile.
    await catalog.rows.updateTable('snapshotPolicy').set({ isEnabled: 0 }).execute()
    assert.deepEqual(await outcome(), [first, second, 'Machine vm-a: The quota is used up.'])
    await catalog.rows.updateTable('snapshotPolicy').set({ isEnabled: 1 }).execute()
    const third = await came('available', null)
    assert.deepEqual(await outcome(), [third, second, 'Machine vm-a: The quota is used up.'])
    // What was kept stays, whatever becomes of the snapshots.
    await catalog.rows.deleteFrom('snapshot').execute()
    assert.deepEqual(await outcome(), [third, second, 'Machine vm-a: The quota is used up.'])
  })

  test('a machine that has failed is left out at once, and the policy says so', async () => {
    await machine('a', 'failed')
    await policy('p', ['a'])
    nowMs += DAY_MS
    await schedule.look()
    const { waitingMachineIds, lastFailedAtMs, lastReason } = await policyRow('p')
    assert.deepEqual(
      [waitingMachineIds, lastFailedAtMs, lastReason],
      ['[]', nowMs, 'Machine vm-a: It has failed. Delete it, or take it off the policy.'],
    )
    assert.deepEqual(await snapshots(), [])
  })

  test('a policy that fails is logged and keeps no other from its time', async () => {
    await machine('a', 'running', 1)
    await policy('broken', ['a'], { timeZone: 'Mars/Olympus' })
    await policy('p', ['a'])
    nowMs += DAY_MS
    await schedule.look()
    assert.equal((await snapshots()).length, 1)
    assert.deepEqual(
      logged.splice(0).map(({ level, policy }) => [level, policy]),
      [['error', 'broken']],
    )
  })
})
