import { findId } from '../../../image/ids.ts'
import { operation } from '../operation.ts'
import { required } from '../parameter.ts'
import { list, text } from '../rules.ts'

/** Source: wuying.md §4.2.3. */
export const deleteSnapshot = operation({
  name: 'DeleteSnapshot',
  useCase: 'snapshots.remove',
  summary:
    'Deletes snapshots, all of them or none; one that is being made is cancelled. Images made of them stay.',
  parameters: {
    SnapshotId: required(list(text(), 100), 'ids that name no snapshot are ignored'),
  },
  async run({ app, caller, region }, { SnapshotId }) {
    const ids = SnapshotId.map((id) => findId('snapshot', id)).filter((id) => id !== undefined)
    // The call is made even for none: it is what checks the caller's right to ask.
    await app.snapshots.remove(caller, {
      regionId: region.id,
      snapshotIds: [...new Set(ids)],
      ignoreUnknown: true,
    })
    return {}
  },
})
