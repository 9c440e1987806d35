import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import type { SnapshotId, TaskId } from '../../image/ids.ts'
import type { Image } from '../../image/image.ts'
import type { Machine, MachineState } from '../../image/machine.ts'
import {
  DISK_ID,
  formRequest,
  IMAGE_ID,
  image,
  MACHINE_ID,
  machine,
  NEEDED,
  PROJECT_ID,
  SNAPSHOT_ID,
  signed,
  testDoor,
} from './fixture.ts'
import { OPERATIONS } from './operations/index.ts'

/** The answers, name for name, in order, with their types: clients are strict about all three. */
const golden = JSON.parse(readFileSync(new URL('golden.json', import.meta.url), 'utf8')) as Record<
  string,
  unknown
>
const { door } = testDoor({
  images: [
    image({ snapshotIds: [SNAPSHOT_ID.slice('bsSnap-'.length) as SnapshotId] }),
    image({ kind: 'base', origin: 'import', name: 'debian-12', state: { at: 'failed', reason: 'x' } }),
  ],
  machines: [machine()],
  total: 41,
  permille: 423,
})
const PLACE = { Region: 'cn-bj2', ProjectId: PROJECT_ID }
const requests: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  GetRegion: {},
  GetProjectList: {},
  DescribeImage: { ...PLACE, PriceSet: '1' },
  CreateCustomImage: { ...PLACE, UHostId: MACHINE_ID, ImageName: 'a' },
  'CreateCustomImage with data disks': {
    ...PLACE,
    UHostId: MACHINE_ID,
    ImageName: 'a',
    'DataUDiskIds.0': DISK_ID,
  },
  ImportCustomImage: NEEDED.ImportCustomImage ?? {},
  CopyCustomImage: { ...PLACE, SourceImageId: IMAGE_ID, TargetProjectId: PROJECT_ID, TargetRegion: 'hk' },
  'CopyCustomImage batch': {
    ...PLACE,
    SourceImageId: IMAGE_ID,
    TargetProjectId: PROJECT_ID,
    'TargetRegionList.0': 'hk',
    'TargetRegionList.1': 'cn-sh2',
  },
  GetImageCopyProgress: { ...PLACE, ImageId: IMAGE_ID },
  TerminateCustomImage: { ...PLACE, ImageId: IMAGE_ID },
  CreateUHostInstance: { ...PLACE, Zone: 'cn-bj2-02', ImageId: IMAGE_ID, LoginMode: 'ImagePasswd' },
  DescribeUHostInstance: PLACE,
  StartUHostInstance: { ...PLACE, UHostId: MACHINE_ID },
  StopUHostInstance: { ...PLACE, UHostId: MACHINE_ID },
  PoweroffUHostInstance: { ...PLACE, UHostId: MACHINE_ID },
  TerminateUHostInstance: { ...PLACE, UHostId: MACHINE_ID },
}

for (const [name, parameters] of Object.entries(requests)) {
  test(name, async () => {
    const answer = await door.handle(formRequest(signed({ Action: name.split(' ')[0] ?? '', ...parameters })))
    assert.equal(answer.body.toString(), JSON.stringify(golden[name]))
  })
}

test('every operation has its answer', () => {
  assert.deepEqual(Object.keys(golden), Object.keys(requests))
  assert.deepEqual(
    OPERATIONS.map(({ name }) => name).filter((name) => !(name in golden)),
    [],
  )
})

const taskId = 't0000000000000000' as TaskId
const imageStates: readonly (readonly [Partial<Image>, string])[] = [
  [{ state: { at: 'creating', taskId }, origin: 'capture' }, 'Making'],
  [{ state: { at: 'creating', taskId }, origin: 'import' }, 'Making'],
  [{ state: { at: 'creating', taskId }, origin: 'compose' }, 'Making'],
  [{ state: { at: 'creating', taskId }, origin: 'copy' }, 'Copying'],
  [{ state: { at: 'failed', reason: 'x' }, origin: 'copy' }, 'Unavailable'],
  [{ origin: 'copy' }, 'Available'],
]
test('the states of images', async () => {
  const { ask } = testDoor({ images: imageStates.map(([change]) => image(change)) })
  const body = await ask({ Action: 'DescribeImage', ...PLACE })
  assert.deepEqual(
    (body.ImageSet as { State: string }[]).map((row) => row.State),
    imageStates.map(([, word]) => word),
  )
})

const machineStates: readonly (readonly [MachineState, string, string])[] = [
  ['creating', 'Initializing', 'Initializing'],
  ['starting', 'Starting', 'Normal'],
  ['running', 'Running', 'Normal'],
  ['stopping', 'Stopping', 'Normal'],
  ['stopped', 'Stopped', 'Normal'],
  ['failed', 'Install Fail', 'Normal'],
]
test('the states of hosts and their boot disks', async () => {
  const { ask } = testDoor({ machines: machineStates.map(([state]) => machine({ state })) })
  const body = await ask({ Action: 'DescribeUHostInstance', ...PLACE })
  assert.deepEqual(
    (body.UHostSet as { State: string; BootDiskState: string }[]).map((row) => [
      row.State,
      row.BootDiskState,
    ]),
    machineStates.map(([, ...words]) => words),
  )
})

test('a host says again what it was told', async () => {
  const told: Partial<Machine> = {
    details: { uhost: { ChargeType: 'Spot', NetCapability: 'Ultra', UHostType: 'N2', UHostFamily: 'o1i' } },
  }
  const { ask } = testDoor({ machines: [machine(told), machine({ details: { chargeType: 'PostPaid' } })] })
  const body = await ask({ Action: 'DescribeUHostInstance', ...PLACE })
  const rows = body.UHostSet as Record<string, unknown>[]
  assert.deepEqual(
    rows.map((row) => [row.ChargeType, row.NetCapability, row.UHostType, row.UHostFamily, row.CpuPlatform]),
    [
      ['Spot', 'Ultra', 'N2', 'o1i', 'Intel/Auto'],
      ['Dynamic', 'Normal', '', '', 'Intel/Auto'],
    ],
  )
})

test('progress runs from 0.00 to 100.00', async () => {
  for (const [permille, word] of [
    [0, '0.00'],
    [999, '99.90'],
    [1000, '100.00'],
  ] as const) {
    const { ask } = testDoor({ permille })
    assert.equal(
      (await ask({ Action: 'GetImageCopyProgress', ...PLACE, ImageId: IMAGE_ID })).ProgressInfo,
      word,
    )
  }
})
