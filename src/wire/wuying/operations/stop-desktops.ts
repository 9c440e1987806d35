import { operation } from '../operation.ts'
import { accepted, refused, required } from '../parameter.ts'
import { unlessFalse, unsupported } from '../refusals.ts'
import { boolean, list, machineId, oneOf, text } from '../rules.ts'

export const stopDesktops = operation({
  name: 'StopDesktops',
  useCase: 'machines.stop',
  summary: 'Shuts running cloud computers down, all of them or none.',
  parameters: {
    DesktopId: required(list(machineId, 100), 'an id given twice counts once'),
    // The published type is a text here, though RebootDesktops has a boolean under the same name.
    CreateSnapshot: refused(
      boolean,
      'false has no effect; true is refused: which disks it takes is not published',
      unlessFalse('Stopping takes no snapshots here. Call CreateSnapshot for each disk you mean, then stop.'),
    ),
    OsUpdate: refused(
      boolean,
      'false has no effect; true is refused, because nothing here updates a guest',
      unlessFalse('This server does not update guests. Update inside the guest, then stop it.'),
    ),
    PatchId: refused(
      text(),
      'refused, because nothing here updates a guest',
      unsupported('This server does not update guests. Leave PatchId out.'),
    ),
    StoppedMode: accepted(oneOf('StopCharging', 'KeepCharging'), 'nothing is charged here'),
  },
  async run({ app, caller, region }, { DesktopId }) {
    await app.machines.stop(caller, {
      regionId: region.id,
      machineIds: [...new Set(DesktopId)],
      how: 'graceful',
    })
    return {}
  },
})
