import assert from 'node:assert/strict'
import { afterEach, beforeEach, test } from 'node:test'
import { newId } from '../image/ids.ts'
import { fakeImage, PLANNED } from '../wire/native/fixture-nouns.ts'
import { startServer, type TestServer } from './fixture.ts'

let server: TestServer
beforeEach(async () => {
  server = await startServer()
})
afterEach(() => server.gateway.close())

type Json = ReturnType<typeof JSON.parse>
const MACHINE = `vm-${'a'.repeat(17)}`
const GIB = 1024 ** 3

async function ok(...argv: string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await server.run(...argv)
  assert.equal(exitCode, 0, `${stdout}${stderr}`)
  return stdout
}
const inputOf = (name: string): Json => server.fake.calls.findLast((call) => call.name === name)?.input

test('a dry run says what would be read and how, what can be had, and makes nothing', async () => {
  const disk = newId('disk')
  const said = await ok(
    ...['image', 'create', '--machine', MACHINE, '--dry-run', '--consistency', 'crash', '--name', 'n'],
    ...['--description', 'd', '--tag', 't', '--disks', 'system', '--linked-disk', `disk-${disk}`],
  )
  assert.deepEqual(inputOf('images.plan'), {
    ...{ regionId: 'cn-hangzhou', projectId: undefined, machineId: 'a'.repeat(17) },
    ...{
      disks: 'system',
      consistency: 'crash',
      name: 'n',
      description: 'd',
      tag: 't',
      linkedDiskIds: [disk],
      clean: undefined,
    },
  })
  const [first, second] = PLANNED.disks
  assert.equal(
    said.replace(/disk-\w{17}/g, 'disk-…'),
    [
      'DISK  ID                        SIZE  BUS          TO READ  WAY          WHY',
      `   0  disk-…  20 GiB  virtio-blk   200 MiB  its changes  ${first?.why}`,
      `   1  disk-…  10 GiB  virtio-scsi    1 GiB  everything   ${second?.why}`,
      '',
      'to read      1.2 GiB of 30 GiB',
      'image        holds 3 GiB at most, and is charged no more',
      'new          100 MiB to the store, before compression',
      'consistency  crash: the guest agent does not answer',
      'space        50 GiB free in the region',
      'quota        none; 4 GiB are charged',
      'Nothing was made: this was a dry run.',
      '',
    ].join('\n'),
  )
  assert.equal(inputOf('images.capture'), undefined)
})

test('what blocks a capture is listed, and the exit code says so, also with --json', async () => {
  const blockers = ['The machine is starting.', 'The quota leaves no room.']
  server.fake.plan = { ...PLANNED, blockers, freeBytes: null, quotaBytes: 8 * GIB, consistencyWhy: '' }
  const argv = ['image', 'create', '--machine', MACHINE, '--dry-run']
  const { exitCode, stdout, stderr } = await server.run(...argv)
  assert.equal(exitCode, 1)
  assert.match(stdout, /^Blocked: The machine is starting\.\nBlocked: The quota leaves no room\.$/m)
  assert.match(stdout, /^space {8}not known\nquota {8}4 GiB of 8 GiB are charged$/m)
  assert.match(stdout, /^consistency {2}crash$/m)
  assert.match(stderr, /calotype: The image could not be made as things are: 2 things stand in its way\.\n$/)
  const asJson = await server.run(...argv, '--json')
  assert.equal(asJson.exitCode, 1)
  const { disks, ...rest } = JSON.parse(asJson.stdout)
  const { disks: planned, ...report } = server.fake.plan
  assert.deepEqual(rest, report)
  assert.deepEqual(
    disks,
    planned.map((disk) => ({ ...disk, id: `disk-${disk.id}` })),
  )
})

test('a dry run says of what it did not look at that it did not', async () => {
  const unread = { readBytes: null, dataBytes: null, newBytes: null }
  const disks = PLANNED.disks.map((disk) => ({ ...disk, readBytes: null, why: 'It was not looked at.' }))
  server.fake.plan = { ...PLANNED, ...unread, disks, blockers: ['The machine is starting.'] }
  const { exitCode, stdout } = await server.run('image', 'create', '--machine', MACHINE, '--dry-run')
  assert.equal(exitCode, 1)
  assert.match(stdout, /virtio-blk +not looked at +its changes/)
  assert.match(
    stdout,
    /^to read {6}not looked at\nimage {8}not looked at\nnew {10}not looked at\nconsistency/m,
  )
})

test('a capture that is done tells what it read and how, what it is worth, and the pause', async () => {
  const [disk, other] = [newId('disk'), newId('disk')]
  server.fake.captured = {
    disks: [
      { id: disk, way: 'changes', why: '', readBytes: 200 * 1024 ** 2 },
      { id: other, way: 'all', why: 'It was never captured.', readBytes: GIB },
    ],
    ...{ consistency: 'filesystem', consistencyWhy: 'Its programs were not asked.' },
    ...{ pausedMs: 11.2, frozenMs: 1300 },
  }
  const said = await ok('image', 'create', '--machine', MACHINE, '--consistency', 'filesystem', '--wait')
  assert.equal(inputOf('images.capture').consistency, 'filesystem')
  assert.equal(
    said.replace(/img-\w{17}/, 'img-…'),
    [
      'Image img-… is available.',
      `Disk disk-${disk}: 200 MiB read, its changes.`,
      `Disk disk-${other}: 1 GiB read, everything. It was never captured.`,
      'Consistency: filesystem. Its programs were not asked. The guest stood still for 12 ms, its file systems were frozen for 1 s.',
      '',
    ].join('\n'),
  )
  server.fake.captured = {
    ...{ disks: [{ id: disk, way: 'own', why: '', readBytes: 0 }], consistency: 'application' },
    ...{ consistencyWhy: '', pausedMs: 0, frozenMs: 0 },
  }
  assert.match(
    await ok('snapshot', 'create', '--machine', MACHINE, '--name', 's', '--wait'),
    /^Snapshot snap-\w{17} is available\.\n$/,
  )
  assert.match(
    await ok('image', 'create', '--machine', MACHINE, '--wait'),
    /Disk disk-\w+: 0 B read, its own writes\.\nConsistency: application\.\n$/,
  )
})

test('disks are linked by a snapshot of the same moment', async () => {
  const disk = newId('disk')
  const argv = ['image', 'create', '--machine', MACHINE, '--disks', 'system']
  const said = await ok(...argv, '--linked-disk', `disk-${disk}`)
  assert.match(said, /is being made.*\nSnapshot snap-\w{17} belongs to it\.\n$/)
  assert.deepEqual(inputOf('images.capture').linkedDiskIds, [disk])
})

test('an image is composed of snapshots', async () => {
  const ids = [newId('snapshot'), newId('snapshot')]
  const argv = ['image', 'create', '--from-snapshot', ...ids.map((id) => `snap-${id}`), '--name', 'both']
  assert.match(await ok(...argv, '--wait'), /^Image img-\w{17} is available\.\n$/)
  const { snapshotIds, machineId, disks, name } = inputOf('images.compose')
  assert.deepEqual([snapshotIds, machineId, disks, name], [ids, undefined, undefined, 'both'])
  await ok(...argv, '--machine', MACHINE, '--disks', 'all')
  assert.deepEqual(
    [inputOf('images.compose').machineId, inputOf('images.compose').disks],
    ['a'.repeat(17), 'all'],
  )
})

test('an image shows all it remembers, and what it was made over', async () => {
  const snapshotIds = [newId('snapshot')]
  const image = fakeImage({
    disks: [
      { index: 0, sizeBytes: 4 * GIB, bus: 'virtio-blk' },
      { index: 1, sizeBytes: GIB, bus: 'virtio-scsi' },
    ],
    snapshotIds,
    labels: [
      { key: 'team', value: 'web' },
      { key: 'site', value: 'a' },
    ],
  })
  const plain = fakeImage({
    config: { firmware: 'uefi', machineType: 'q35', cpuCount: null, memoryBytes: null },
    ...{ consistency: undefined, parent: undefined },
  })
  for (const one of [image, plain]) server.fake.images.set(one.id, one)
  const shown = await ok('image', 'show', `img-${image.id}`)
  assert.match(shown, /^made for {5}bios, pc, 2 CPU, 1 GiB$/m)
  assert.match(shown, /^disk 0 {7}4 GiB virtio-blk\ndisk 1 {7}1 GiB virtio-scsi$/m)
  assert.match(shown, /^consistency {2}filesystem$/m)
  assert.match(shown, /^labels {7}team=web, site=a$/m)
  assert.match(shown, /^made over {4}base (ef){32}$/m)
  assert.match(shown, new RegExp(`^snapshots {4}snap-${snapshotIds[0]}$`, 'm'))
  const other = await ok('image', 'show', `img-${plain.id}`)
  assert.match(other, /^made for {2}uefi, q35$/m)
  assert.doesNotMatch(other, /consistency|made over|snapshots|labels/)
})

test('imports and machines are told how to be built', async () => {
  await ok('image', 'import', 'd.raw', '--name', 'b', '--firmware', 'uefi', '--bus', 'virtio-scsi')
  assert.deepEqual([inputOf('images.import').firmware, inputOf('images.import').bus], ['uefi', 'virtio-scsi'])
  const snapshotId = newId('snapshot')
  await ok(
    ...['machine', 'create', '--image', `img-${newId('image')}`, '--name', 'm', '--data-disk', '1GiB'],
    ...['--data-disk', `2G,snapshot=snap-${snapshotId},bus=virtio-scsi`],
  )
  const { dataDisks, cpuCount, memoryBytes } = inputOf('machines.create')
  assert.deepEqual(dataDisks, [
    { sizeBytes: GIB, category: '', bus: undefined, snapshotId: undefined },
    { sizeBytes: 2 * GIB, category: '', bus: 'virtio-scsi', snapshotId },
  ])
  assert.deepEqual([cpuCount, memoryBytes], [undefined, undefined])
})

test('what cannot be meant is bad usage', async () => {
  const machine = ['machine', 'create', '--image', 'i', '--name', 'n', '--data-disk']
  for (const argv of [
    ['image', 'create', '--machine', MACHINE, '--consistency', 'good'],
    ['image', 'create', '--from-snapshot', 'snap-1', '--dry-run'],
    ['image', 'create', '--from-snapshot', 'snap-1', '--consistency', 'crash'],
    ['image', 'create', '--dry-run'],
    [...machine, 'large'],
    [...machine, '1GiB,bus=ide'],
    [...machine, '1GiB,bus=virtio-blk,bus=virtio-blk'],
    [...machine, '1GiB,colour=red'],
  ]) {
    const { exitCode, stderr, stdout } = await server.run(...argv)
    assert.deepEqual([exitCode, stdout], [2, ''], argv.join(' '))
    assert.notEqual(stderr, '')
  }
  assert.equal(server.fake.calls.length, 0)
})
