import { spellId } from '../../../image/ids.ts'
import { defineOperation, PLACE, placeOf } from '../operation.ts'
import { accepted, required } from '../parameter.ts'
import { machineId, text } from '../rules.ts'

/** Source: uhost.md §3.12. */
export const startUHostInstance = defineOperation({
  name: 'StartUHostInstance',
  useCase: 'machines.start',
  summary: 'Starts a Stopped host.',
  parameters: {
    ...PLACE,
    UHostId: required(machineId()),
    DiskPassword: accepted(text(128), 'disks have no password of their own here'),
  },
  words: { machine: 'UHostId' },
  async run({ app, caller }, given) {
    await app.machines.start(caller, { ...placeOf(given), machineIds: [given.UHostId] })
    return { UHostId: spellId('machine', given.UHostId, 'uhost') }
  },
})
