import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Fault, type FaultKind, type FaultOptions } from '../../image/fault.ts'
import { IMAGE_ID, MACHINE_ID, NEEDED, PROJECT_ID, testDoor } from './fixture.ts'

const PLACE = { Region: 'cn-bj2', ProjectId: PROJECT_ID }
const REQUESTS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  DescribeImage: PLACE,
  CreateCustomImage: { ...PLACE, UHostId: MACHINE_ID, ImageName: 'a' },
  CopyCustomImage: { ...PLACE, SourceImageId: IMAGE_ID, TargetProjectId: PROJECT_ID, TargetRegion: 'hk' },
  ImportCustomImage: NEEDED.ImportCustomImage ?? {},
  GetImageCopyProgress: { ...PLACE, ImageId: IMAGE_ID },
  TerminateCustomImage: { ...PLACE, ImageId: IMAGE_ID },
  CreateUHostInstance: { ...PLACE, Zone: 'cn-bj2-02', ImageId: IMAGE_ID, LoginMode: 'ImagePasswd' },
  StartUHostInstance: { ...PLACE, UHostId: MACHINE_ID },
  StopUHostInstance: { ...PLACE, UHostId: MACHINE_ID },
  PoweroffUHostInstance: { ...PLACE, UHostId: MACHINE_ID },
  TerminateUHostInstance: { ...PLACE, UHostId: MACHINE_ID },
}

const cases: readonly (readonly [string, FaultKind, FaultOptions, number, string])[] = [
  ['DescribeImage', 'absent', { subject: 'project' }, 292, 'Project not exists: Why.'],
  ['DescribeImage', 'denied', { subject: 'project', field: 'uhost:DescribeImage' }, 299, 'Why.'],
  ['DescribeImage', 'denied', { subject: 'policy' }, 299, 'Why.'],
  ['DescribeImage', 'denied', { subject: 'user' }, 172, 'User Not Exists: Why.'],
  ['DescribeImage', 'unavailable', { subject: 'store' }, 8024, 'Why.'],
  ['DescribeImage', 'unavailable', { reason: 'internal' }, 150, 'Service unavailable: Why.'],
  ['DescribeImage', 'corrupt', { subject: 'store' }, 8874, 'Why.'],
  ['DescribeImage', 'absent', { subject: 'task' }, 8039, 'Why.'],
  ['CreateCustomImage', 'absent', { subject: 'machine' }, 8039, 'Why.'],
  ['CreateCustomImage', 'conflict', { subject: 'machine' }, 8010, 'Why.'],
  ['CreateCustomImage', 'absent', { subject: 'disk' }, 17041, 'Why.'],
  [
    'CreateCustomImage',
    'invalid',
    { subject: 'disk', reason: 'disk-twice', field: 'linkedDiskIds' },
    230,
    'Params [DataUDiskIds] not available: Why.',
  ],
  ['CreateCustomImage', 'full', { subject: 'snapshot' }, 8978, 'Why.'],
  ['CreateCustomImage', 'full', { subject: 'project', reason: 'quota' }, 8095, 'Why.'],
  ['CreateCustomImage', 'full', { subject: 'image' }, 8095, 'Why.'],
  ['CreateCustomImage', 'full', { subject: 'store' }, 8320, 'Why.'],
  [
    'CreateCustomImage',
    'invalid',
    { subject: 'name', field: 'name' },
    230,
    'Params [ImageName] not available: Why.',
  ],
  [
    'CreateCustomImage',
    'invalid',
    { subject: 'description' },
    230,
    'Params [ImageDescription] not available: Why.',
  ],
  ['CopyCustomImage', 'absent', { subject: 'image' }, 8956, 'Why.'],
  ['CopyCustomImage', 'invalid', { subject: 'image', reason: 'not-custom' }, 8956, 'Why.'],
  ['CopyCustomImage', 'conflict', { subject: 'image' }, 8961, 'Why.'],
  ['CopyCustomImage', 'invalid', { subject: 'image', reason: 'same-place' }, 8962, 'Why.'],
  ['CopyCustomImage', 'full', { subject: 'image' }, 8095, 'Why.'],
  ['CopyCustomImage', 'full', { subject: 'project', reason: 'quota' }, 8095, 'Why.'],
  ['CopyCustomImage', 'full', { subject: 'store', reason: 'room' }, 8320, 'Why.'],
  ['CopyCustomImage', 'corrupt', { subject: 'image' }, 8960, 'Why.'],
  ['CopyCustomImage', 'corrupt', { subject: 'store' }, 8960, 'Why.'],
  ['CopyCustomImage', 'unavailable', { subject: 'store' }, 8024, 'Why.'],
  ['CopyCustomImage', 'denied', { subject: 'policy' }, 299, 'Why.'],
  ['CopyCustomImage', 'absent', { subject: 'project' }, 292, 'Project not exists: Why.'],
  ['CopyCustomImage', 'invalid', { subject: 'name' }, 230, 'Params [TargetImageName] not available: Why.'],
  ['CopyCustomImage', 'invalid', { subject: 'user', field: 'userName' }, 230, 'Why.'],
  ['ImportCustomImage', 'invalid', { subject: 'file', reason: 'too-large' }, 8301, 'Why.'],
  ['ImportCustomImage', 'absent', { subject: 'file' }, 8301, 'Why.'],
  ['ImportCustomImage', 'denied', { subject: 'file' }, 8301, 'Why.'],
  ['ImportCustomImage', 'unavailable', { subject: 'file' }, 8301, 'Why.'],
  ['ImportCustomImage', 'invalid', { subject: 'request', reason: 'address' }, 8301, 'Why.'],
  ['ImportCustomImage', 'invalid', { subject: 'request', reason: 'url' }, 8301, 'Why.'],
  ['ImportCustomImage', 'invalid', { subject: 'name' }, 230, 'Params [ImageName] not available: Why.'],
  ['ImportCustomImage', 'full', { subject: 'project', reason: 'quota' }, 8095, 'Why.'],
  ['ImportCustomImage', 'full', { subject: 'store' }, 8320, 'Why.'],
  ['ImportCustomImage', 'denied', { subject: 'policy' }, 299, 'Why.'],
  ['GetImageCopyProgress', 'absent', { subject: 'image' }, 8971, 'Why.'],
  ['GetImageCopyProgress', 'invalid', { subject: 'image', reason: 'not-a-copy' }, 8971, 'Why.'],
  ['GetImageCopyProgress', 'conflict', { subject: 'image', reason: 'copy-failed' }, 8971, 'Why.'],
  ['TerminateCustomImage', 'absent', { subject: 'image' }, 8956, 'Why.'],
  ['TerminateCustomImage', 'invalid', { subject: 'image', reason: 'not-custom' }, 8956, 'Why.'],
  ['CreateUHostInstance', 'absent', { subject: 'image' }, 8846, 'Why.'],
  ['CreateUHostInstance', 'conflict', { subject: 'image' }, 8846, 'Why.'],
  ['CreateUHostInstance', 'absent', { subject: 'zone' }, 230, 'Params [Zone] not available: Why.'],
  ['CreateUHostInstance', 'invalid', { subject: 'disk', reason: 'disk-below-image' }, 8315, 'Why.'],
  ['CreateUHostInstance', 'invalid', { subject: 'disk' }, 230, 'Params [Disks] not available: Why.'],
  ['CreateUHostInstance', 'absent', { subject: 'snapshot' }, 17045, 'Why.'],
  ['CreateUHostInstance', 'conflict', { subject: 'snapshot' }, 17020, 'Why.'],
  ['CreateUHostInstance', 'corrupt', { subject: 'snapshot' }, 17020, 'Why.'],
  ['CreateUHostInstance', 'full', { subject: 'host' }, 8320, 'Why.'],
  ['StartUHostInstance', 'conflict', { subject: 'machine' }, 8905, 'Why.'],
  ['StopUHostInstance', 'conflict', { subject: 'machine' }, 8905, 'Why.'],
  ['PoweroffUHostInstance', 'conflict', { subject: 'machine' }, 8905, 'Why.'],
  ['PoweroffUHostInstance', 'absent', { subject: 'machine' }, 8039, 'Why.'],
  ['TerminateUHostInstance', 'conflict', { subject: 'machine' }, 8856, 'Why.'],
  ['TerminateUHostInstance', 'absent', { subject: 'machine' }, 8039, 'Why.'],
]
for (const [action, kind, options, retCode, message] of cases) {
  const about = [kind, options.subject, options.reason].filter(Boolean).join(' ')
  test(`${action}: ${about} answers ${retCode}`, async () => {
    const { ask, reports } = testDoor({ fault: new Fault(kind, 'Why.', options) })
    const body = await ask({ Action: action, ...REQUESTS[action] })
    assert.deepEqual(body, { RetCode: retCode, Action: `${action}Response`, Message: message })
    assert.deepEqual(reports, [])
  })
}
