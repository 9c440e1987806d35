import { spellId } from '../../../image/ids.ts'
import { defineOperation, PLACE, placeOf } from '../operation.ts'
import { required } from '../parameter.ts'
import { machineId } from '../rules.ts'

/** Source: uhost.md §3.12. */
export const stopUHostInstance = defineOperation({
  name: 'StopUHostInstance',
  useCase: 'machines.stop',
  summary: 'Presses the power button of a Running host, and pulls the plug if the guest does not heed it.',
  parameters: { ...PLACE, UHostId: required(machineId()) },
  words: { machine: 'UHostId' },
  async run({ app, caller }, given) {
    await app.machines.stop(caller, { ...placeOf(given), machineIds: [given.UHostId], how: 'graceful' })
    return { UHostId: spellId('machine', given.UHostId, 'uhost') }
  },
})
