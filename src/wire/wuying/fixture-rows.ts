import type { ImageId, MachineId, RegionId, SnapshotId, SnapshotPolicyId, TaskId } from '../../image/ids.ts'
import { GIB } from '../../image/region.ts'
import { type Bench, createBench } from './fixture.ts'
import { CREATED_AT_MS } from './fixture-requests.ts'
import { fakeCore, fakeImage, fakeMachine, fakeSnapshot } from './fixture-things.ts'

export const DESKTOP = `ecd-${fakeCore<MachineId>('one')}`
export const BASE = `m-${fakeCore<ImageId>('base')}`
export const OWN = `m-${fakeCore<ImageId>('own')}`
/** A copy that is on its way. */
export const COPYING = `m-${fakeCore<ImageId>('new')}`
export const ROOT = `s-${fakeCore<SnapshotId>('root')}`
export const DATA = `s-${fakeCore<SnapshotId>('data')}`
export const attachment = (change: Record<string, unknown> = {}): Record<string, string> => ({
  DesktopAttachment: JSON.stringify({ ImageId: BASE, DesktopType: 'eds.enterprise_office.2c4g', ...change }),
})

/** A bench with images and snapshots in each state and computers of each kind, in two regions. */
export function benchWithRows(): Bench {
  const bench = createBench()
  bench.app.imageRows.push(
    fakeImage('own'),
    fakeImage('new', {
      origin: 'copy',
      state: { at: 'creating', taskId: 't'.repeat(17) as never },
      progressPermille: 427,
      osType: 'Windows',
    }),
    fakeImage('bad', { state: { at: 'failed', reason: 'The disk went away.' }, progressPermille: 10 }),
    fakeImage('far', { regionId: 'cn-shanghai' as RegionId }),
  )
  bench.app.machineRows.push(
    fakeMachine('one', {
      labels: [
        { key: 'team', value: 'red' },
        { key: 'empty', value: '' },
      ],
      details: {
        chargeType: 'PrePaid',
        officeSiteId: 'cn-hangzhou+dir-1',
        policyGroupId: 'pg-1',
        endUserIds: ['alice', 'bob'],
        resourceGroupId: 'rg-1',
        hostName: 'host-1',
      },
    }),
    fakeMachine('two', { state: 'stopped', osType: 'Windows', typeName: 'eds.general.4c8g' }),
    fakeMachine('three', { state: 'creating' }),
    fakeMachine('four', { state: 'failed', details: { endUserIds: ['carol'] } }),
    fakeMachine('gone', { state: 'deleting' }),
    fakeMachine('far', { regionId: 'cn-shanghai' as RegionId }),
  )
  const taskId = 't'.repeat(17) as TaskId
  bench.app.snapshotRows.push(
    fakeSnapshot('root', 'one', { description: 'before the update' }),
    // A byte over 1 GiB: sizes are counted up.
    fakeSnapshot('data', 'one', { disk: { index: 1, sizeBytes: GIB + 1, bus: 'virtio-scsi' } }),
    fakeSnapshot('auto-1', 'two', {
      osType: 'Windows',
      creator: 'nightly',
      policyId: 'p'.repeat(17) as SnapshotPolicyId,
      state: { at: 'creating', taskId },
      progressPermille: 250,
      createdAtMs: CREATED_AT_MS - 30_000,
    }),
    fakeSnapshot('waiting', 'three', { state: { at: 'creating', taskId }, progressPermille: 0 }),
    fakeSnapshot('bad', 'four', {
      state: { at: 'failed', reason: 'The disk went away.' },
      progressPermille: 10,
    }),
    fakeSnapshot('linked', 'gone', { imageId: fakeCore<ImageId>('own') }),
    fakeSnapshot('orphan', 'nobody', { createdAtMs: CREATED_AT_MS - 86_400_000 }),
    fakeSnapshot('far', 'far', { regionId: 'cn-shanghai' as RegionId }),
  )
  return bench
}

/** For each operation a request that succeeds, as its least form. */
export const LEAST: Record<string, Record<string, string>> = {
  DescribeRegions: {},
  CreateDesktops: attachment(),
  DescribeDesktops: {},
  StartDesktops: { 'DesktopId.1': DESKTOP },
  StopDesktops: { 'DesktopId.1': DESKTOP },
  DeleteDesktops: { 'DesktopId.1': DESKTOP },
  CreateImage: { DesktopId: DESKTOP },
  UploadImage: {
    ImageName: 'uploaded',
    OssObjectPath: 'https://bucket:oss-cn-hangzhou.example.com/a/disk.qcow2',
  },
  CopyImage: { ImageId: OWN, DestinationRegionId: 'cn-shanghai', DestinationImageName: 'copy-1' },
  CancelCopyImage: { ImageId: COPYING },
  DescribeImages: {},
  DeleteImages: { 'ImageId.1': OWN },
  CreateSnapshot: { DesktopId: DESKTOP, SnapshotName: 'first', SourceDiskType: 'SYSTEM' },
  DescribeSnapshots: {},
  DeleteSnapshot: { 'SnapshotId.1': ROOT },
  ResetSnapshot: { SnapshotId: ROOT },
}
