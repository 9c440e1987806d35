import assert from 'node:assert/strict'
import { test } from 'node:test'
import { uhostRefuses, wuyingRefuses } from './refusals.ts'
import { good, importSmall, newSmallPlace, personOf, until, untilState } from './small-place.ts'
import { DESKTOP_TYPE, HOME, PASSWORD } from './valid-calls.ts'

test('snapshots through both clouds’ doors: made, listed, composed, reset, linked, removed', async (t) => {
  const place = await newSmallPlace(t)
  const root = personOf(place)
  const base = await importSmall(root, 'base', 'base')
  const region = { RegionId: HOME }

  const launch = async (name: string) => {
    const attachment = { ImageId: base, DesktopType: DESKTOP_TYPE, DataDiskSize: 1 }
    const given = { ...region, DesktopName: name, DesktopAttachment: JSON.stringify(attachment) }
    const { DesktopId } = await good<{ DesktopId: string[] }>(root.wuying('CreateDesktops', given))
    const [id = ''] = DesktopId
    await untilState(root, id.replace('ecd-', 'vm-'), 'running')
    return id
  }
  const shown = async (SnapshotId: string) => {
    const { Snapshots } = await good<{ Snapshots: Record<string, string>[] }>(
      root.wuying('DescribeSnapshots', { ...region, SnapshotId }),
    )
    return Snapshots[0]
  }
  const take = async (DesktopId: string, SnapshotName: string, SourceDiskType: string) => {
    const given = { ...region, DesktopId, SnapshotName, SourceDiskType }
    const { SnapshotId } = await good<{ SnapshotId: string }>(root.wuying('CreateSnapshot', given))
    await until(`${SnapshotName} is made`, async () => {
      const snapshot = await shown(SnapshotId)
      assert.ok(snapshot !== undefined, 'it is listed at once')
      assert.notEqual(snapshot.Status, 'FAILED')
      return snapshot.Status === 'ACCOMPLISHED' || undefined
    })
    return SnapshotId
  }
  const [one, two] = [await launch('one'), await launch('two')]
  const system = await take(one, 'system', 'SYSTEM')
  const data = await take(one, 'data', 'data')
  const again = await take(one, 'again', 'System')
  const foreign = await take(two, 'foreign', 'DATA')

  const item = await shown(data)
  assert.deepEqual(
    [item?.SnapshotType, item?.SourceDiskType, item?.SourceDiskSize, item?.DesktopStatus, item?.Progress],
    ['USER', 'DATA', '1', 'Running', '100%'],
  )

  const compose = { ...region, ImageName: 'composed', SnapshotId: system, 'DataSnapshotIds.1': data }
  const { ImageId } = await good<{ ImageId: string }>(
    root.wuying('CreateImage', { ...compose, DesktopId: one, DiskType: 'ALL' }),
  )
  await until('the image is made', async () => {
    const { Images } = await good<{ Images: Record<string, unknown>[] }>(
      root.wuying('DescribeImages', { ...region, 'ImageId.1': ImageId }),
    )
    assert.notEqual(Images[0]?.Status, 'CreateFailed')
    assert.equal(Images[0]?.DataDiskSize, 1)
    return Images[0]?.Status === 'Available' || undefined
  })

  const only = { ...region, SnapshotId: system }
  for (const [given, code] of [
    [{ ...compose, DiskType: 'SYSTEM' }, 'InvalidSnapshotId.NotSystemDisk'],
    [{ ...region, SnapshotId: data }, 'InvalidSnapshotId.NotSystemDisk'],
    [{ ...only, 'DataSnapshotIds.1': again }, 'InvalidDataSnapshotIds.NotDataDisk'],
    [{ ...only, DiskType: 'ALL' }, 'InvalidSnapshotIds.DiskMissing'],
    [{ ...region, 'DataSnapshotIds.1': data }, 'InvalidSnapshotIds.NoSystemDisk'],
    [{ ...only, 'SnapshotIds.1': again }, 'InvalidSnapshotIds.DiskTwice'],
    [{ ...only, 'SnapshotIds.1': foreign }, 'InvalidSnapshotIds.SeveralDesktops'],
    [{ ...only, DesktopId: two }, 'InvalidSnapshotIds.SeveralDesktops'],
  ] as const)
    await wuyingRefuses(root, 'CreateImage', given, [400, code])

  await wuyingRefuses(root, 'ResetSnapshot', only, [400, 'IncorrectDesktopStatus'])
  await good(root.wuying('ResetSnapshot', { ...only, StopDesktop: 'true' }))
  await untilState(root, one.replace('ecd-', 'vm-'), 'stopped')

  // The other cloud: snapshots that belong to an image.
  const where = { Region: HOME }
  const host = two.replace('ecd-', 'uhost-')
  const { UHostSet } = await good<{ UHostSet: { DiskSet: { DiskId: string; IsBoot: string }[] }[] }>(
    root.uhost('DescribeUHostInstance', { ...where, 'UHostIds.0': host }),
  )
  const disk = UHostSet[0]?.DiskSet.find(({ IsBoot }) => IsBoot === 'False')?.DiskId ?? ''
  const made = await good<{ ImageId: string; DataSnapshotIds: string[] }>(
    root.uhost('CreateCustomImage', { ...where, UHostId: host, ImageName: 'linked', 'DataUDiskIds.0': disk }),
  )
  const [linked = ''] = made.DataSnapshotIds
  await until('the linked image is made', async () => {
    const { ImageSet } = await good<{ ImageSet: { State: string; DataSnapshotIds: string[] }[] }>(
      root.uhost('DescribeImage', { ...where, ImageId: made.ImageId }),
    )
    assert.deepEqual(ImageSet[0]?.DataSnapshotIds, [linked])
    assert.notEqual(ImageSet[0]?.State, 'Unavailable')
    return ImageSet[0]?.State === 'Available' || undefined
  })
  await wuyingRefuses(root, 'DeleteSnapshot', { ...region, 'SnapshotId.1': linked }, [
    400,
    'SnapshotUsedByImage',
  ])
  const creation = {
    ...where,
    Zone: 'cn-hangzhou-h',
    ImageId: made.ImageId,
    LoginMode: 'Password',
    Password: PASSWORD,
    'Disks.0.IsBoot': 'True',
    'Disks.0.Type': 'CLOUD_SSD',
    'Disks.0.Size': '4',
    'Disks.1.IsBoot': 'False',
    'Disks.1.Type': 'CLOUD_SSD',
    'Disks.1.Size': '2',
    'Disks.1.SnapshotId': linked,
  }
  await uhostRefuses(
    root,
    'CreateUHostInstance',
    { ...creation, 'Disks.1.SnapshotId': `bsSnap-${'0'.repeat(17)}` },
    17045,
  )
  await uhostRefuses(
    root,
    'CreateUHostInstance',
    { ...creation, 'Disks.0.SnapshotId': linked },
    230,
    /boot disk/,
  )
  const { UHostIds } = await good<{ UHostIds: string[] }>(root.uhost('CreateUHostInstance', creation))
  await untilState(root, (UHostIds[0] ?? '').replace('uhost-', 'vm-'), 'running')

  await good(root.uhost('TerminateCustomImage', { ...where, ImageId: made.ImageId }))
  assert.equal(await shown(linked), undefined)

  // The image of snapshots needs them no longer, and those that are gone already are no error.
  const ids = { 'SnapshotId.1': system, 'SnapshotId.2': data, 'SnapshotId.3': again, 'SnapshotId.4': linked }
  await good(root.wuying('DeleteSnapshot', { ...region, ...ids }))
  const { Snapshots } = await good<{ Snapshots: { SnapshotId: string }[] }>(
    root.wuying('DescribeSnapshots', region),
  )
  assert.deepEqual(
    Snapshots.map(({ SnapshotId }) => SnapshotId),
    [foreign],
  )
})
