import { operation } from '../operation.ts'
import { required } from '../parameter.ts'
import { list, machineId } from '../rules.ts'

export const startDesktops = operation({
  name: 'StartDesktops',
  useCase: 'machines.start',
  summary: 'Starts stopped cloud computers, all of them or none.',
  parameters: { DesktopId: required(list(machineId, 100), 'an id given twice counts once') },
  async run({ app, caller, region }, { DesktopId }) {
    await app.machines.start(caller, { regionId: region.id, machineIds: [...new Set(DesktopId)] })
    return {}
  },
})
