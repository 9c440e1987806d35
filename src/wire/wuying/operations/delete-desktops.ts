import { operation } from '../operation.ts'
import { accepted, required } from '../parameter.ts'
import { integer, list, machineId } from '../rules.ts'

export const deleteDesktops = operation({
  name: 'DeleteDesktops',
  useCase: 'machines.remove',
  summary: 'Releases cloud computers with their disks, running ones too, all of them or none.',
  parameters: {
    DesktopId: required(list(machineId, 100), 'an id given twice counts once'),
    ResellerOwnerUid: accepted(integer(0, 999_999_999_999_999), 'nothing is resold here'),
  },
  async run({ app, caller, region }, { DesktopId }) {
    await app.machines.remove(caller, {
      regionId: region.id,
      machineIds: [...new Set(DesktopId)],
      stoppedOnly: false,
    })
    return {}
  },
})
