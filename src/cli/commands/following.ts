import type { Command } from 'commander'
import { act, clientCommand, type ProgramParts } from '../options.ts'
import type { SessionFlags } from '../session.ts'

export interface ProjectFlags extends SessionFlags {
  readonly project?: string
}

/** Adds --project. */
export function inProject(command: Command): Command {
  return command.option('--project <project>', 'the project; without it your default one')
}

/** Declares `enable`, `disable` and `delete` of what goes on by itself: webhooks and rules. */
export function switchCommands(
  parent: Command,
  parts: ProgramParts,
  noun: {
    /** One word, as the id is called in the usage. */
    readonly word: string
    /** As a sentence begins with it. */
    readonly name: string
    readonly path: string
    readonly abouts: Readonly<Record<'enable' | 'disable' | 'delete', string>>
    /** What follows 'NAME ID is deleted'. */
    readonly afterDelete: string
  },
): void {
  const { word, name, path, abouts, afterDelete } = noun
  const pathOf = (id: string) => `${path}/${encodeURIComponent(id)}`
  for (const verb of ['enable', 'disable'] as const) {
    inProject(clientCommand(parent, `${verb} <${word}>`, abouts[verb])).action(
      act(parts, async (session, { project }: ProjectFlags, id: string) => {
        const body = { project, isEnabled: verb === 'enable' }
        const answer = await session.client.call<{ id: string }>('PATCH', pathOf(id), { body })
        session.print(answer, () => `${name} ${answer.id} is ${verb}d.\n`)
      }),
    )
  }
  inProject(clientCommand(parent, `delete <${word}>`, abouts.delete)).action(
    act(parts, async (session, { project }: ProjectFlags, id: string) => {
      const answer = await session.client.call<{ id: string }>('DELETE', pathOf(id), { query: { project } })
      session.print(answer, () => `${name} ${answer.id} is deleted${afterDelete}.\n`)
    }),
  )
}
