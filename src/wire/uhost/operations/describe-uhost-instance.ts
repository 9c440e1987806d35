import type { MachineFilter } from '../../../app/contract.ts'
import { findId, type MachineId } from '../../../image/ids.ts'
import { instanceRow } from '../instance-row.ts'
import { defineOperation, PLACE, placeOf } from '../operation.ts'
import { optional, withDefault } from '../parameter.ts'
import { integer, list, name, text, zone } from '../rules.ts'

/** Source: uhost.md §3.11. An id that names nothing is no error: clients wait for an empty UHostSet. */
export const describeUHostInstance = defineOperation({
  name: 'DescribeUHostInstance',
  useCase: 'machines.list',
  summary: 'The project’s hosts in a region, newest first.',
  parameters: {
    ...PLACE,
    Zone: optional(zone(), 'hosts of this zone'),
    UHostIds: optional(list(text(64), 100)),
    Tag: optional(name(), 'absent: hosts of every group'),
    Offset: withDefault(integer(0, 1_000_000_000), 0),
    Limit: withDefault(integer(1, 100), 20),
    IsolationGroup: optional(text(64), 'hosts are in no isolation group here, so none is found'),
    VPCId: optional(text(64), 'hosts are in no VPC here, so none is found'),
    SubnetId: optional(text(64), 'hosts are in no subnet here, so none is found'),
    UDiskIdForAttachment: optional(text(64), 'there are no loose disks here, so no host is found for one'),
  },
  words: {},
  async run({ app, caller }, given) {
    const asked = given.UHostIds ?? []
    const known = asked.map((id) => findId('machine', id)).filter((id): id is MachineId => id !== undefined)
    const foreign = [given.IsolationGroup, given.VPCId, given.SubnetId, given.UDiskIdForAttachment]
    const fitsNothing = foreign.some((value) => value !== undefined)
    const filter: MachineFilter = {
      ...placeOf(given),
      // No ids at all is a filter that nothing fits; the call is made all the same, for the caller's rights.
      ...((asked.length > 0 || fitsNothing) && { ids: fitsNothing ? [] : known }),
      ...(given.Zone !== undefined && { zone: given.Zone }),
      ...(given.Tag !== undefined && { tag: given.Tag }),
    }
    const page = await app.machines.list(caller, filter, { offset: given.Offset, limit: given.Limit })
    return { TotalCount: page.total, UHostSet: page.items.map(instanceRow) }
  },
})
