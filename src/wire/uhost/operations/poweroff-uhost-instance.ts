import { spellId } from '../../../image/ids.ts'
import { defineOperation, PLACE, placeOf } from '../operation.ts'
import { required } from '../parameter.ts'
import { machineId } from '../rules.ts'

/** Source: uhost.md §3.12. */
export const poweroffUHostInstance = defineOperation({
  name: 'PoweroffUHostInstance',
  useCase: 'machines.poweroff',
  summary: 'Pulls the plug of a Running host.',
  parameters: { ...PLACE, UHostId: required(machineId()) },
  words: { machine: 'UHostId' },
  async run({ app, caller }, given) {
    await app.machines.stop(caller, { ...placeOf(given), machineIds: [given.UHostId], how: 'power' })
    return { UHostId: spellId('machine', given.UHostId, 'uhost') }
  },
})
