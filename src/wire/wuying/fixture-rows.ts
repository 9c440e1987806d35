import type { ImageId, MachineId, RegionId } from '../../image/ids.ts'
import { type Bench, createBench, fakeCore, fakeImage, fakeMachine } from './fixture.ts'

export const DESKTOP = `ecd-${fakeCore<MachineId>('one')}`
export const BASE = `m-${fakeCore<ImageId>('base')}`
export const OWN = `m-${fakeCore<ImageId>('own')}`
export const attachment = (change: Record<string, unknown> = {}): Record<string, string> => ({
  DesktopAttachment: JSON.stringify({ ImageId: BASE, DesktopType: 'eds.enterprise_office.2c4g', ...change }),
})

/** A bench with images in each state and computers of each kind, in two regions. */
export function benchWithRows(): Bench {
  const bench = createBench()
  bench.app.imageRows.push(
    fakeImage('own'),
    fakeImage('new', {
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
  DescribeImages: {},
  DeleteImages: { 'ImageId.1': OWN },
}
