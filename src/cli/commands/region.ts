import type { Command } from 'commander'
import type { ShownRegion } from '../../wire/native/show.ts'
import { act, clientCommand, type ProgramParts } from '../options.ts'

export function regionCommands(program: Command, parts: ProgramParts): void {
  const region = program.command('region').description('regions and their zones')
  clientCommand(region, 'list', 'the regions, their zones, and the default one').action(
    act(parts, async (session) => {
      const answer = await session.client.call<{ regions: ShownRegion[] }>('GET', '/v1/regions')
      session.print(answer, ({ regions }) =>
        session.table(
          [
            { head: 'REGION', of: (one) => one.id },
            { head: 'NAME', of: (one) => one.localName },
            { head: '', of: (one) => one.englishName },
            { head: 'ZONES', of: (one) => one.zones.join(', ') },
            { head: 'DEFAULT', of: (one) => (one.isDefault ? 'yes' : '') },
          ],
          regions,
          'No regions.',
        ),
      )
    }),
  )
}
