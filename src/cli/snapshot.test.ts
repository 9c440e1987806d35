import assert from 'node:assert/strict'
import { afterEach, beforeEach, test } from 'node:test'
import { Fault } from '../image/fault.ts'
import { newId } from '../image/ids.ts'
import { fakePolicy, fakeSnapshot } from '../wire/native/fixture-nouns.ts'
import { startServer, type TestServer } from './fixture.ts'

let server: TestServer
beforeEach(async () => {
  server = await startServer()
})
afterEach(() => server.gateway.close())

type Json = ReturnType<typeof JSON.parse>
const MACHINE = `vm-${'a'.repeat(17)}`

async function ok(...argv: string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await server.run(...argv)
  assert.equal(exitCode, 0, `${stdout}${stderr}`)
  return stdout
}
const json = async (...argv: string[]): Promise<Json> => JSON.parse(await ok(...argv, '--json'))
const inputOf = (name: string): Json => server.fake.calls.findLast((call) => call.name === name)?.input

test('a snapshot is made, followed, shown, listed, reset and deleted', async () => {
  const said = await ok('snapshot', 'create', '--machine', MACHINE, '--name', 's', '--disk', 'data')
  const [, id = '', taskId = ''] =
    /^Snapshot (snap-\w+) is being made\. Follow it: calotype task wait (task-\w+)\n$/.exec(said) ?? []
  assert.deepEqual([inputOf('snapshots.create').disk, inputOf('snapshots.create').name], ['data', 's'])
  assert.match(await ok('snapshot', 'list'), /creating 0 %/)
  assert.match(await ok('task', 'list'), new RegExp(`create-snapshot.* ${id} `))
  assert.equal(await ok('snapshot', 'wait', id), `Snapshot ${id} is available.\n`)
  assert.match(await ok('task', 'show', taskId), new RegExp(`^snapshot {2}${id}$`, 'm'))
  const shown = await ok('snapshot', 'show', id)
  assert.match(shown, /^machine {6}vm-a{17} desk$/m)
  assert.match(shown, /^disk 0 {7}disk-\w{17} 4 GiB virtio-scsi$/m)
  assert.match(shown, /^by {11}root$/m)
  assert.match(await ok('snapshot', 'reset', id), /^The disk of snapshot snap-\w+ is being reset\. Follow it/)
  assert.equal(inputOf('snapshots.reset').stopFirst, false)
  assert.match(
    await ok('snapshot', 'reset', id, '--stop', '--wait'),
    /^Disk disk-\w{17} of machine vm-a{17} is as it was\. Start the machine when you like\.\n$/,
  )
  assert.equal(inputOf('snapshots.reset').stopFirst, true)
  assert.equal(await ok('snapshot', 'delete', id), `Snapshot ${id} is deleted.\n`)
  assert.equal(await ok('snapshot', 'list'), 'No snapshots.\n')
})

test('lists are filtered and say who asked; a failed one says why', async () => {
  const policyId = newId('snapshot-policy')
  const lost = fakeSnapshot({ policyId, state: { at: 'failed', reason: 'The quota is used up.' } })
  server.fake.snapshots.set(lost.id, lost)
  const machines = [MACHINE, `vm-${'b'.repeat(17)}`]
  const filters = ['--disk', 'system', '--made-by', 'policy', '--state', 'failed', '--name', 'n']
  const listed = await ok('snapshot', 'list', '--machine', ...machines, ...filters, '--creator', 'ann')
  assert.match(listed, new RegExp(`failed +desk .*policy-${policyId} .*The quota is used up\\.$`, 'm'))
  assert.deepEqual(inputOf('snapshots.list'), {
    ...{ regionId: 'cn-hangzhou', projectId: undefined, machineIds: ['a'.repeat(17), 'b'.repeat(17)] },
    ...{ name: 'n', creator: 'ann', disk: 'system', madeBy: 'policy', states: ['failed'] },
  })
  assert.equal((await json('snapshot', 'list')).snapshots[0].policyId, `policy-${policyId}`)
  const { exitCode, stderr } = await server.run('snapshot', 'wait', `snap-${lost.id}`)
  assert.deepEqual(
    [exitCode, stderr],
    [1, `calotype: Snapshot snap-${lost.id} is failed: The quota is used up.\n`],
  )
  const refusal = new Fault('conflict', "It belongs to image 'golden'.", { subject: 'snapshot' })
  server.fake.failNext('snapshots.remove', refusal)
  const refused = await server.run('snapshot', 'delete', `snap-${lost.id}`)
  assert.deepEqual([refused.exitCode, /belongs to image 'golden'/.test(refused.stderr)], [1, true])
})

test('a policy that made nothing says so, and why', async () => {
  const lastReason = 'The quota is used up.'
  const [dueMs, doneMs] = [Date.parse('2026-08-01T03:00Z'), Date.parse('2026-07-31T03:01Z')]
  const sick = fakePolicy({ name: 'sick', lastDueAtMs: dueMs, lastFailedAtMs: dueMs + 1000, lastReason })
  const well = fakePolicy({ name: 'well', lastDueAtMs: dueMs, lastFailedAtMs: dueMs - 1000, lastReason })
  for (const one of [sick, well]) server.fake.policies.set(one.id, { ...one, lastDoneAtMs: doneMs })
  const listed = await ok('snapshot', 'policy', 'list')
  assert.match(listed, /sick .* 2026-08-01 03:00:00 {2}2026-07-31 03:01:00 .* The quota is used up\.$/m)
  assert.match(listed, /well .* 2026-08-01 12:00:01 *$/m)
  const shown = await ok('snapshot', 'policy', 'show', `policy-${well.id}`)
  assert.match(shown, /^last done {4}2026-07-31 03:01:00\nlast failed {2}2026-08-01 02:59:59: The quota/m)
})

test('policies: create, list, show, change, delete', async () => {
  const machines = [MACHINE, `vm-${'b'.repeat(17)}`]
  const made = await ok(
    ...['snapshot', 'policy', 'create', '--name', 'nightly', '--cron', '0 3 * * *', '--keep', '7'],
    ...['--machine', ...machines, '--time-zone', 'Asia/Hong_Kong'],
  )
  const [, id = ''] =
    /^Policy (policy-\w+) is made\. Its next time is 2026-08-01 12:00:01 \(UTC\)\.\n$/.exec(made) ?? []
  const { name, cron, keepCount, disks, isEnabled, machineIds, timeZone } = inputOf('snapshotPolicies.create')
  assert.deepEqual(
    [name, cron, keepCount, disks, isEnabled, machineIds.length, timeZone],
    ['nightly', '0 3 * * *', 7, 'all', true, 2, 'Asia/Hong_Kong'],
  )
  const other = fakePolicy({ isEnabled: false })
  server.fake.policies.set(other.id, other)
  const listed = await ok('snapshot', 'policy', 'list')
  assert.match(listed, /nightly {2}0 3 \* \* \* {2}Asia\/Hong_Kong {2}all +2 +7 +2026-08-01 12:00:01 *$/m)
  assert.match(listed, /disabled *$/m)
  assert.match(await ok('snapshot', 'policy', 'show', id), /^keeps {5}7 of each disk$/m)
  assert.match(
    await ok('snapshot', 'policy', 'change', id, '--disable', '--keep', '2'),
    /is changed\. It is not enabled\.\n$/,
  )
  const {
    policyId: _policyId,
    regionId: _regionId,
    projectId: _projectId,
    ...changes
  } = inputOf('snapshotPolicies.change')
  assert.deepEqual(changes, { isEnabled: false, keepCount: 2 })
  assert.match(await ok('snapshot', 'policy', 'change', id, '--enable'), /Its next time is/)
  assert.equal((await json('snapshot', 'policy', 'show', id)).keepCount, 2)
  assert.equal(await ok('snapshot', 'policy', 'delete', id), `Policy ${id} is deleted; its snapshots stay.\n`)
  assert.equal((await json('snapshot', 'policy', 'list')).total, 1)
})

test('what is missing or makes no sense is bad usage', async () => {
  const policy = ['snapshot', 'policy', 'create', '--name', 'n', '--cron', '0 3 * * *', '--machine', MACHINE]
  for (const argv of [
    ['snapshot', 'create', '--machine', MACHINE],
    ['snapshot', 'create', '--name', 's'],
    ['snapshot', 'list', '--disk', 'all'],
    policy,
    [...policy, '--keep', 'many'],
    ['snapshot', 'policy', 'change', 'policy-1'],
    ['snapshot', 'policy', 'change', 'policy-1', '--enable', '--disable'],
  ]) {
    const { exitCode, stderr, stdout } = await server.run(...argv)
    assert.deepEqual([exitCode, stdout], [2, ''], argv.join(' '))
    assert.notEqual(stderr, '')
  }
  assert.equal(server.fake.calls.length, 0)
})
