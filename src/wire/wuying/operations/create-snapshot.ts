import { spellId } from '../../../image/ids.ts'
import { operation } from '../operation.ts'
import { optional, required } from '../parameter.ts'
import { machineId, oneOfAnyCase, snapshotDescription, snapshotName } from '../rules.ts'

/** Source: wuying.md §4.2.1. */
export const createSnapshot = operation({
  name: 'CreateSnapshot',
  useCase: 'snapshots.create',
  summary:
    'Makes a snapshot of one disk of a cloud computer that is running or stopped. Answers before it is made.',
  parameters: {
    DesktopId: required(machineId),
    SnapshotName: required(snapshotName),
    Description: optional(snapshotDescription),
    SourceDiskType: required(
      oneOfAnyCase('SYSTEM', 'DATA'),
      'SYSTEM takes the system disk, DATA the data disk; refused where there is none or more than one',
    ),
  },
  async run({ app, caller, region }, { DesktopId, SnapshotName, Description, SourceDiskType }) {
    const { snapshotId } = await app.snapshots.create(caller, {
      regionId: region.id,
      machineId: DesktopId,
      disk: SourceDiskType === 'SYSTEM' ? 'system' : 'data',
      name: SnapshotName,
      description: Description,
    })
    return { SnapshotId: spellId('snapshot', snapshotId, 'wuying') }
  },
})
