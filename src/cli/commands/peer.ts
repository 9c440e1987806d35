import { type Command, Option } from 'commander'
import { describeFailure } from '../failure.ts'
import { act, clientCommand, type ProgramParts } from '../options.ts'
import type { SessionFlags } from '../session.ts'

/** What this installation shows to others. */
export interface PeerIdentityShown {
  /** SHA-256 of the certificate, 64 lower-case hex digits. */
  readonly fingerprint: string
  /** PEM. */
  readonly certificate: string
}

/** Reads it from a data directory, with or without a server on it; makes it where there is none yet. */
export type ReadPeerIdentity = (flags: {
  readonly data?: string
  readonly config?: string
}) => Promise<PeerIdentityShown>

interface ShownPeer {
  readonly name: string
  readonly url: string
  readonly regions: readonly string[]
  /** Why it cannot be asked now. */
  readonly reason: string | null
}

/** Declares `peer`: the other installations, and what this one is known by. */
export function peerCommands(program: Command, parts: ProgramParts, readIdentity: ReadPeerIdentity): void {
  const peer = program.command('peer').description('other installations that images are copied from')

  clientCommand(peer, 'list', 'those of the settings, and which of their regions they let us read').action(
    act(parts, async (session, _flags: SessionFlags) => {
      const { stateColour } = await import('../table.ts')
      const answer = await session.client.call<{ peers: readonly ShownPeer[] }>('GET', '/v1/peers')
      session.print(answer, ({ peers }) =>
        session.table<ShownPeer>(
          [
            { head: 'PEER', of: (one) => one.name },
            { head: 'URL', of: (one) => one.url },
            {
              head: 'STATE',
              of: (one) => (one.reason === null ? 'ok' : 'away'),
              colour: (one) => stateColour(one.reason === null ? 'ok' : 'wrong'),
            },
            { head: 'REGIONS', of: (one) => one.regions.join(', ') },
            { head: 'REASON', of: (one) => one.reason ?? '' },
          ],
          peers,
          'No peers. Name them in the settings (docs/settings.md, `peers`).',
        ),
      )
    }),
  )

  peer
    .command('identity')
    .description("the fingerprint of this installation, for the others' settings; asks no server")
    .addOption(new Option('--json', 'print one JSON value, with the certificate'))
    .option('--data <directory>', "the server's data directory, as for `serve`")
    .option('--config <file>', 'settings as YAML (docs/settings.md); flags win over it')
    .action(async ({ json, ...flags }: { json?: boolean; data?: string; config?: string }) => {
      try {
        const identity = await readIdentity(flags)
        parts.io.stdout.write(
          json === true ? `${JSON.stringify(identity, null, 2)}\n` : `${identity.fingerprint}\n`,
        )
      } catch (error) {
        parts.fail(describeFailure(error))
      }
    })
}
