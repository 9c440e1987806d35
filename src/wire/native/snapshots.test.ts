import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { newId, spellId } from '../../image/ids.ts'
import type { Door, WireRequest } from '../gateway-contract.ts'
import { createNativeDoor } from './door.ts'
import { createFakeApp, type FakeApp } from './fixture.ts'
import { fakeImage, fakeMachine, fakePolicy, fakeSnapshot, NOW_MS, PLANNED } from './fixture-nouns.ts'
import { signedRequest } from './fixture-request.ts'

let fake: FakeApp
let door: Door

beforeEach(() => {
  fake = createFakeApp()
  door = createNativeDoor({
    app: fake.app,
    keyring: fake.keyring,
    clock: () => NOW_MS,
    clockWindowMs: 60_000,
    onBug: (error) => {
      throw error
    },
  })
})

type Json = ReturnType<typeof JSON.parse>

async function send(request: WireRequest): Promise<{ status: number; json: Json }> {
  const { status, body } = await door.handle(request)
  return { status, json: JSON.parse(body.toString()) }
}
const ask = (method: string, url: string, body?: unknown) => send(signedRequest(method, url, body))
const inputOf = (name: string): Json => fake.calls.findLast((call) => call.name === name)?.input

async function refused(method: string, url: string, body: unknown, status: number, expected: object) {
  const answer = await ask(method, url, body)
  assert.equal(answer.status, status, JSON.stringify(answer.json))
  const { error } = answer.json
  assert.deepEqual(Object.fromEntries(Object.keys(expected).map((name) => [name, error[name]])), expected)
}

const vm = (id = newId('machine')) => spellId('machine', id, 'native')

test('snapshots: make, look, filter, reset, remove', async () => {
  const machineId = newId('machine')
  const made = await ask('POST', '/v1/snapshots', { machineId: vm(machineId), name: 's', region: 'hk' })
  assert.equal(made.status, 202)
  assert.match(made.json.snapshotId, /^snap-/)
  const { disk, consistency, ...rest } = inputOf('snapshots.create')
  assert.deepEqual([disk, consistency, rest.regionId, rest.machineId], ['system', 'best', 'hk', machineId])
  const taken = { machineId: vm(machineId), name: 'auto-nightly' }
  await refused('POST', '/v1/snapshots', taken, 400, { kind: 'invalid', subject: 'name', field: 'name' })
  const path = `/v1/snapshots/${made.json.snapshotId}`
  const shown = (await ask('GET', `${path}?region=hk`)).json
  assert.deepEqual(
    [shown.state, shown.taskId, shown.machineId, shown.digest],
    ['creating', made.json.taskId, vm(machineId), null],
  )
  assert.deepEqual(shown.disk, { index: 0, sizeBytes: 4 * 1024 ** 3, bus: 'virtio-scsi' })
  assert.equal((await ask('GET', `/v1/tasks/${made.json.taskId}`)).json.snapshotId, made.json.snapshotId)
  await refused('GET', path, undefined, 404, { subject: 'snapshot', field: 'id' })

  const query = [
    ...['region=hk', 'project=org-a', `ids=${made.json.snapshotId}`, `machineIds=${vm(machineId)}`],
    ...['machineName=desk', 'name=s', 'creator=ann', 'osType=Linux', 'disk=data', 'madeBy=policy'],
    ...['states=failed', 'fromMs=5', 'untilMs=6'],
  ]
  assert.equal((await ask('GET', `/v1/snapshots?${query.join('&')}`)).json.total, 1)
  assert.deepEqual(inputOf('snapshots.list'), {
    ...{ regionId: 'hk', projectId: 'org-a', ids: [shown.id.slice(5)], machineIds: [machineId] },
    ...{ machineName: 'desk', name: 's', creator: 'ann', osType: 'Linux', disk: 'data', madeBy: 'policy' },
    ...{ states: ['failed'], fromMs: 5, untilMs: 6 },
  })
  await ask('GET', '/v1/snapshots')
  assert.deepEqual(inputOf('snapshots.list'), { regionId: 'cn-hangzhou', projectId: undefined })

  const reset = await ask('POST', `${path}/reset`, { stopFirst: true, region: 'hk' })
  assert.deepEqual([reset.status, inputOf('snapshots.reset').stopFirst], [202, true])
  assert.match(reset.json.taskId, /^task-/)
  assert.deepEqual(await ask('DELETE', path), { status: 200, json: { id: made.json.snapshotId } })
  await refused('DELETE', path, undefined, 404, { subject: 'snapshot' })
})

test('a snapshot is of a disk by its part or its id, and of no other', async () => {
  const body = { machineId: vm(), name: 's' }
  await ask('POST', '/v1/snapshots', { ...body, disk: 'data', consistency: 'application' })
  assert.deepEqual(
    [inputOf('snapshots.create').disk, inputOf('snapshots.create').consistency],
    ['data', 'application'],
  )
  const diskId = newId('disk')
  await ask('POST', '/v1/snapshots', { ...body, disk: spellId('disk', diskId, 'wuying') })
  assert.deepEqual(inputOf('snapshots.create').disk, { id: diskId })
  const callCount = fake.calls.length
  await refused('POST', '/v1/snapshots', { ...body, disk: 'all' }, 404, { subject: 'disk' })
  await refused('POST', '/v1/snapshots', { ...body, disk: 0 }, 400, { subject: 'disk', field: 'disk' })
  await refused('POST', '/v1/snapshots', { ...body, consistency: 'good' }, 400, { field: 'consistency' })
  await refused('POST', '/v1/snapshots', { machineId: vm() }, 400, { field: 'name' })
  assert.equal(fake.calls.length, callCount)
})

test('a snapshot shows where it came from, and no member is ever missing', async () => {
  const whole = fakeSnapshot({ policyId: newId('snapshot-policy'), imageId: newId('image') })
  const bare = fakeSnapshot({ state: { at: 'failed', reason: 'No room.' }, consistency: undefined })
  for (const one of [whole, bare]) fake.snapshots.set(one.id, one)
  const { snapshots } = (await ask('GET', '/v1/snapshots')).json
  assert.deepEqual(Object.keys(snapshots[0]), Object.keys(snapshots[1]))
  assert.match(snapshots[0].policyId, /^policy-/)
  assert.match(snapshots[0].imageId, /^img-/)
  assert.deepEqual(
    [snapshots[1].policyId, snapshots[1].consistency, snapshots[1].reason],
    [null, null, 'No room.'],
  )
})

test('policies: make, list, change, end', async () => {
  const body = { name: 'nightly', cron: '0 3 * * *', keepCount: 7, machineIds: [vm(), vm()] }
  const made = await ask('POST', '/v1/snapshot-policies', body)
  assert.equal(made.status, 201)
  const { timeZone, disks, isEnabled, machineIds } = inputOf('snapshotPolicies.create')
  assert.deepEqual([timeZone, disks, isEnabled, machineIds.length], ['UTC', 'all', true, 2])
  const path = `/v1/snapshot-policies/${made.json.policyId}`
  const shown = (await ask('GET', path)).json
  assert.deepEqual(
    [shown.id, shown.machineIds, shown.lastDueAtMs, shown.nextDueAtMs],
    [made.json.policyId, body.machineIds, null, NOW_MS + 1000],
  )
  const changed = await ask('PATCH', path, { isEnabled: false, keepCount: 1 })
  assert.deepEqual(changed, { status: 200, json: { id: made.json.policyId } })
  assert.deepEqual(inputOf('snapshotPolicies.change'), {
    ...{ regionId: 'cn-hangzhou', projectId: undefined, policyId: shown.id.slice(7) },
    ...{ isEnabled: false, keepCount: 1 },
  })
  const other = fakePolicy()
  fake.policies.set(other.id, other)
  const listed = (await ask('GET', '/v1/snapshot-policies?limit=1')).json
  assert.deepEqual([listed.total, listed.policies[0].nextDueAtMs], [2, null])
  const one = (await ask('GET', `/v1/snapshot-policies?ids=sp-${other.id}`)).json
  assert.deepEqual([one.total, one.policies[0].timeZone], [1, 'Asia/Hong_Kong'])
  assert.equal((await ask('DELETE', path)).status, 200)
  await refused('GET', path, undefined, 404, { subject: 'snapshot-policy', field: 'id' })
  await refused('DELETE', path, undefined, 404, { subject: 'snapshot-policy' })
  await refused('POST', '/v1/snapshot-policies', { ...body, keepCount: 0 }, 400, { field: 'keepCount' })
  await refused('PATCH', path, { creator: 'me' }, 400, { field: 'creator' })
})

test('a capture takes a consistency and linked disks; a plan is a task that says what it found', async () => {
  const disk = newId('disk')
  const body = { machineId: vm(), consistency: 'filesystem' }
  const made = await ask('POST', '/v1/images/capture', {
    ...{ ...body, disks: 'system', linkedDisks: [spellId('disk', disk, 'uhost')] },
  })
  const captured = inputOf('images.capture')
  assert.deepEqual([captured.consistency, captured.linkedDiskIds], ['filesystem', [disk]])
  assert.equal(made.json.snapshotIds.length, 1)
  const image = (await ask('GET', `/v1/images/${made.json.imageId}`)).json
  assert.deepEqual(image.snapshotIds, made.json.snapshotIds)
  const snapshot = (await ask('GET', `/v1/snapshots/${made.json.snapshotIds[0]}`)).json
  assert.equal(snapshot.imageId, made.json.imageId)

  const words = { name: 'n', description: 'd', tag: 't' }
  const planned = await ask('POST', '/v1/images/plan', {
    ...{ ...body, ...words, linkedDisks: [spellId('disk', disk, 'native')] },
  })
  assert.equal(planned.status, 202)
  assert.deepEqual([inputOf('images.plan').disks, inputOf('images.plan').consistency], ['all', 'filesystem'])
  const { linkedDiskIds, name, description, tag } = inputOf('images.plan')
  assert.deepEqual([linkedDiskIds, { name, description, tag }], [[disk], words])
  const { output } = (await ask('GET', `/v1/tasks/${planned.json.taskId}`)).json
  assert.equal(output.readBytes, PLANNED.readBytes)
  assert.match(output.disks[0].id, /^disk-/)
  await refused('POST', '/v1/images/plan', { ...body, origin: 'x' }, 400, { field: 'origin' })
})

test('an image is composed of snapshots; it shows all it remembers, and what it was made from', async () => {
  const snapshotIds = [newId('snapshot'), newId('snapshot')]
  const made = await ask('POST', '/v1/images/compose', {
    snapshotIds: [`snap-${snapshotIds[0]}`, `s-${snapshotIds[1]}`],
    ...{ machineId: vm(), disks: 'all', name: 'both' },
  })
  assert.equal(made.status, 202)
  assert.deepEqual(inputOf('images.compose').snapshotIds, snapshotIds)
  await refused('POST', '/v1/images/compose', { snapshotIds: ['snap-x'] }, 404, { subject: 'snapshot' })
  await refused('POST', '/v1/images/compose', {}, 400, { field: 'snapshotIds' })

  const image = fakeImage()
  fake.images.set(image.id, image)
  const { config, consistency, parent, disks, lineage } = (await ask('GET', `/v1/images/img-${image.id}`))
    .json
  assert.deepEqual(config, {
    ...{ firmware: 'bios', machineType: 'pc', cpuCount: 2, memoryBytes: 1024 ** 3 },
  })
  assert.deepEqual([consistency, parent, disks[0].bus], ['filesystem', 'ef'.repeat(32), 'virtio-blk'])
  assert.deepEqual(lineage, [{ id: null, digest: 'ef'.repeat(32), name: 'base' }])
  assert.equal((await ask('GET', '/v1/images')).json.images[0].lineage, undefined)
})

test('an import and a machine say how they are built', async () => {
  const file = { fileName: 'd.raw', name: 'base' }
  await ask('POST', '/v1/images/import', { ...file, firmware: 'uefi', bus: 'virtio-scsi' })
  assert.deepEqual([inputOf('images.import').firmware, inputOf('images.import').bus], ['uefi', 'virtio-scsi'])
  const snapshotId = newId('snapshot')
  await ask('POST', '/v1/machines', {
    ...{ imageId: `img-${newId('image')}`, name: 'm' },
    dataDisks: [{ sizeBytes: 1024 ** 3, bus: 'virtio-scsi', snapshotId: `snap-${snapshotId}` }],
  })
  assert.deepEqual(inputOf('machines.create').dataDisks, [
    { sizeBytes: 1024 ** 3, category: '', bus: 'virtio-scsi', snapshotId },
  ])
  const disk = { id: newId('disk'), index: 0, sizeBytes: 4096, bus: 'virtio-scsi', category: 'ssd' } as const
  const machine = fakeMachine({ firmware: 'uefi', machineType: 'q35', disks: [{ ...disk, base: undefined }] })
  fake.machines.set(machine.id, machine)
  const shown = (await ask('GET', `/v1/machines/vm-${machine.id}`)).json
  assert.deepEqual([shown.firmware, shown.machineType], ['uefi', 'q35'])
  assert.deepEqual(shown.disks, [{ ...disk, id: `disk-${disk.id}` }])
})
