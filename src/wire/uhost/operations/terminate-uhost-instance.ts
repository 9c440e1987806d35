import { spellId } from '../../../image/ids.ts'
import { defineOperation, PLACE, placeOf } from '../operation.ts'
import { accepted, required } from '../parameter.ts'
import { flag, integer, machineId } from '../rules.ts'

/** Source: uhost.md §3.12. The host is gone from DescribeUHostInstance with the answer. */
export const terminateUHostInstance = defineOperation({
  name: 'TerminateUHostInstance',
  useCase: 'machines.remove',
  summary: 'Removes a Stopped host with all its disks.',
  parameters: {
    ...PLACE,
    UHostId: required(machineId()),
    ReleaseEIP: accepted(flag(), 'hosts have no elastic address here'),
    ReleaseUDisk: accepted(flag(), 'all disks belong to their host here and go with it'),
    Destroy: accepted(integer(0, 1), 'there is no recycle bin: every removal is final'),
  },
  words: { machine: 'UHostId' },
  async run({ app, caller }, given) {
    await app.machines.remove(caller, { ...placeOf(given), machineIds: [given.UHostId], stoppedOnly: true })
    return { UHostId: spellId('machine', given.UHostId, 'uhost'), InRecycle: 'No' }
  },
})
