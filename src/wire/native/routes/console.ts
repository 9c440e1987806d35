import { spellId } from '../../../image/ids.ts'
import { base64, id, integer, withDefault } from '../fields.ts'
import { type Route, route } from '../route.ts'
import { place } from './common.ts'

const one = { ...place, id: id('machine') }

export const consoleRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/machines/:id/console',
    useCase: 'machines.console',
    about:
      'What the serial console said from byte `from` on, as base64, at most 256 KiB, and the byte to ask for next. Only the newest 16 MiB are kept: asked for older ones, the answer starts later, at its own `from`.',
    status: 200,
    fields: { ...one, from: withDefault(integer(0, Number.MAX_SAFE_INTEGER), 0) },
    async run({ app, caller, region }, parameters) {
      const said = await app.machines.readConsole(caller, {
        regionId: region(parameters.region),
        projectId: parameters.project,
        machineId: parameters.id,
        fromByte: parameters.from,
      })
      return {
        id: spellId('machine', parameters.id, 'native'),
        from: said.fromByte,
        next: said.fromByte + said.bytes.length,
        bytes: said.bytes.toString('base64'),
      }
    },
  }),
  route({
    method: 'POST',
    path: '/v1/machines/:id/console',
    useCase: 'machines.console',
    about: 'Types bytes, given as base64, into the serial console.',
    status: 200,
    fields: { ...one, bytes: base64(64 * 1024) },
    async run({ app, caller, region }, parameters) {
      await app.machines.writeConsole(caller, {
        regionId: region(parameters.region),
        projectId: parameters.project,
        machineId: parameters.id,
        bytes: parameters.bytes,
      })
      return { id: spellId('machine', parameters.id, 'native'), writtenBytes: parameters.bytes.length }
    },
  }),
]
