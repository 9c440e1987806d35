import { spellId } from '../../../image/ids.ts'
import { base64, id, integer, withDefault } from '../fields.ts'
import { type Route, route } from '../route.ts'
import { place } from './common.ts'

// The answer's base64 stays well under what a client should hold at once; the next read goes on where it ended.
const ANSWER_BYTES_MAX = 256 * 1024
const one = { ...place, id: id('machine') }

export const consoleRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/machines/:id/console',
    useCase: 'machines.console',
    about: 'What the serial console said from byte `from` on, as base64, and the byte to ask for next.',
    status: 200,
    fields: { ...one, from: withDefault(integer(0, Number.MAX_SAFE_INTEGER), 0) },
    async run({ app, caller, region }, parameters) {
      const said = await app.machines.readConsole(caller, {
        regionId: region(parameters.region),
        projectId: parameters.project,
        machineId: parameters.id,
        fromByte: parameters.from,
      })
      const bytes = said.subarray(0, ANSWER_BYTES_MAX)
      return {
        id: spellId('machine', parameters.id, 'native'),
        from: parameters.from,
        next: parameters.from + bytes.length,
        bytes: bytes.toString('base64'),
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
