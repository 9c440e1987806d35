import { readFileSync } from 'node:fs'
import type { Command } from 'commander'
import { Option } from 'commander'
import { TASK_KINDS } from '../../image/task.ts'
import type { ShownWebhook } from '../../wire/native/show-events.ts'
import { usageFailure } from '../failure.ts'
import { act, clientCommand, type ProgramParts } from '../options.ts'
import { inProject, type ProjectFlags, switchCommands } from './following.ts'

interface AddFlags extends ProjectFlags {
  readonly name: string
  readonly kind?: readonly string[]
  readonly endsOnly?: boolean
  readonly secretFile?: string
}

/** Declares `webhook`: addresses that are told of what tasks do. */
export function webhookCommands(program: Command, parts: ProgramParts): void {
  const webhook = program.command('webhook').description('addresses that are told of what tasks do')

  inProject(clientCommand(webhook, 'add <url>', 'tells an address of what happens from now on, signed'))
    .requiredOption('--name <name>', 'what it is called')
    .addOption(new Option('--kind <kind...>', 'only tasks of these kinds').choices(TASK_KINDS))
    .option('--ends-only', 'only how tasks end')
    .option(
      '--secret-file <file>',
      "what to sign with, 16 to 256 characters ('-' reads standard input); without it one is made",
    )
    .action(
      act(parts, async (session, flags: AddFlags, url: string) => {
        const { project, name, kind: kinds, endsOnly, secretFile } = flags
        const secret = secretFile === undefined ? undefined : await readSecret(parts, secretFile)
        const body = { project, name, url, kinds, endsOnly, secret }
        const made = await session.client.call<{ id: string; secret: string }>('POST', '/v1/webhooks', {
          body,
        })
        // One that was given need not come onto a screen.
        const told =
          secret === undefined
            ? `secret  ${made.secret}\nMessages are signed with it; it is not shown again.\n`
            : ''
        session.print(made, () => `Webhook ${made.id} is told from now on.\n${told}`)
      }),
    )

  inProject(clientCommand(webhook, 'list', 'the webhooks of a project, newest first')).action(
    act(parts, async (session, { project }: ProjectFlags) => {
      const webhooks = await session.listAll<ShownWebhook>('/v1/webhooks', 'webhooks', { project })
      const [{ formatTime }, { stateColour }] = await Promise.all([
        import('../format.ts'),
        import('../table.ts'),
      ])
      session.print({ total: webhooks.length, webhooks }, () =>
        session.table<ShownWebhook>(
          [
            { head: 'WEBHOOK', of: (one) => one.id },
            { head: 'NAME', of: (one) => one.name },
            { head: 'URL', of: (one) => one.url },
            {
              head: 'STATE',
              of: stateOf,
              colour: (one) =>
                stateColour({ well: 'ok', failing: 'failed', disabled: 'stopped' }[stateOf(one)]),
            },
            { head: 'KINDS', of: (one) => (one.kinds.length === 0 ? 'all' : one.kinds.join(',')) },
            { head: 'TELLS', of: (one) => (one.endsOnly ? 'ends' : 'everything') },
            { head: 'TOOK (UTC)', of: (one) => formatTime(one.deliveredAtMs) },
            { head: 'FAILS SINCE (UTC)', of: (one) => formatTime(one.failingSinceMs) },
            { head: 'REASON', of: (one) => one.lastReason ?? '' },
          ],
          webhooks,
          'No webhooks.',
        ),
      )
    }),
  )

  switchCommands(webhook, parts, {
    ...{ word: 'webhook', name: 'Webhook', path: '/v1/webhooks' },
    abouts: {
      enable: 'tells it again, of what happens from now on',
      disable: 'tells it no more until it is enabled',
      delete: 'takes it away; a message that is on its way is broken off',
    },
    afterDelete: '',
  })
}

function stateOf({ isEnabled, failingSinceMs }: ShownWebhook): 'disabled' | 'failing' | 'well' {
  if (!isEnabled) return 'disabled'
  return failingSinceMs === null ? 'well' : 'failing'
}

/** The text of the file without the line's end that editors leave. */
async function readSecret(parts: ProgramParts, file: string): Promise<string> {
  if (file === '-') {
    const chunks: Buffer[] = []
    for await (const chunk of parts.io.stdin) chunks.push(Buffer.from(chunk))
    return Buffer.concat(chunks).toString('utf8').trimEnd()
  }
  try {
    return readFileSync(file, 'utf8').trimEnd()
  } catch (error) {
    throw usageFailure(`Cannot read ${file} (${(error as NodeJS.ErrnoException).code}).`)
  }
}
