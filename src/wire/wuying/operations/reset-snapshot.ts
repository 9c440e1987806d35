import { operation } from '../operation.ts'
import { optional, required } from '../parameter.ts'
import { boolean, snapshotId } from '../rules.ts'

/** Source: wuying.md §4.2.4. */
export const resetSnapshot = operation({
  name: 'ResetSnapshot',
  useCase: 'snapshots.reset',
  summary:
    'Gives the disk that a snapshot was made of that content again; what the disk held since is lost. Answers before it is done.',
  parameters: {
    SnapshotId: required(snapshotId),
    StopDesktop: optional(
      boolean,
      'true stops a running computer first; else it has to be stopped. It is stopped afterwards',
    ),
  },
  async run({ app, caller, region }, { SnapshotId, StopDesktop }) {
    await app.snapshots.reset(caller, {
      regionId: region.id,
      snapshotId: SnapshotId,
      stopFirst: StopDesktop ?? false,
    })
    return {}
  },
})
