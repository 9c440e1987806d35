import { type Command, Option } from 'commander'
import type { RebuiltRow } from '../../app/rebuild-catalog.ts'
import { attributeOf, SETTINGS } from '../../settings/table.ts'
import { CommandFailure, describeFailure, EXIT } from '../failure.ts'
import type { Io } from '../io.ts'
import type { ProgramParts } from '../options.ts'

/** `config` and settings, as `serve` takes them. */
export type OfflineFlags = Readonly<Record<string, string | undefined>>

export interface RebuiltIndex {
  readonly regionId: string
  readonly packCount: number
  readonly chunkCount: number
  readonly imageCount: number
  readonly refCount: number
  readonly damaged: readonly { readonly name: string; readonly message: string }[]
}

/** Work on a data directory that no server uses. `tell` is given a line of progress now and then. */
export interface Offline {
  rebuildIndex(
    flags: OfflineFlags,
    regions: readonly string[] | undefined,
    tell: (line: string) => void,
  ): Promise<readonly RebuiltIndex[]>
  rebuildCatalog(
    flags: OfflineFlags,
    regions: readonly string[] | undefined,
    tell: (line: string) => void,
  ): Promise<readonly RebuiltRow[]>
}

type Flags = OfflineFlags & { readonly region?: readonly string[]; readonly json?: boolean }

/** Declares the commands of `store` for the day on which a database is gone. They refuse while a server runs. */
export function offlineCommands(store: Command, parts: ProgramParts, offline: () => Promise<Offline>): void {
  declare(
    store,
    parts,
    'rebuild-index',
    'makes the index anew from the objects; the server must be stopped',
    {
      run: async (flags, regions, tell) => (await offline()).rebuildIndex(flags, regions, tell),
      async print(reports: readonly RebuiltIndex[]) {
        const { formatTable } = await import('../table.ts')
        const count = (name: 'packCount' | 'chunkCount' | 'imageCount' | 'refCount') => (one: RebuiltIndex) =>
          String(one[name])
        const table = formatTable<RebuiltIndex>(
          [
            { head: 'REGION', of: (one) => one.regionId },
            { head: 'PACKS', align: 'right', of: count('packCount') },
            { head: 'CHUNKS', align: 'right', of: count('chunkCount') },
            { head: 'IMAGES', align: 'right', of: count('imageCount') },
            { head: 'REFS', align: 'right', of: count('refCount') },
            { head: 'DAMAGED', align: 'right', of: (one) => String(one.damaged.length) },
          ],
          reports,
          parts.io.stdout.isTerminal,
        )
        const { printable } = await import('../format.ts')
        const lines = reports.flatMap(({ regionId, damaged }) =>
          damaged.map(({ name, message }) => `${regionId}: ${printable(name)}: ${printable(message)}\n`),
        )
        return table + lines.join('')
      },
      isWell: (reports) => reports.every(({ damaged }) => damaged.length === 0),
    },
  )
  declare(
    store,
    parts,
    'rebuild-catalog',
    'restores images, snapshots, machines and projects from the objects; the server must be stopped',
    {
      run: async (flags, regions, tell) => (await offline()).rebuildCatalog(flags, regions, tell),
      async print(rows: readonly RebuiltRow[]) {
        const [{ formatTable, stateColour }, { spellId }] = await Promise.all([
          import('../table.ts'),
          import('../../image/ids.ts'),
        ])
        const spell = ({ what, id }: RebuiltRow) =>
          what === 'image' || what === 'machine' || what === 'snapshot'
            ? spellId(what, id as never, 'native')
            : id
        const word = { restored: 'ok', present: 'stopped', damaged: 'failed' } as const
        if (rows.length === 0) return 'The regions hold no refs: there is nothing to restore.\n'
        const table = formatTable<RebuiltRow>(
          [
            { head: 'REGION', of: (one) => one.regionId },
            { head: 'WHAT', of: (one) => one.what },
            { head: 'ID', of: spell },
            { head: 'NAME', of: (one) => one.name },
            {
              head: 'RESULT',
              of: (one) => (one.result === 'present' ? 'already there' : one.result),
              colour: (one) => stateColour(word[one.result]),
            },
            { head: 'WHY', of: (one) => one.why },
          ],
          rows,
          parts.io.stdout.isTerminal,
        )
        return (
          `${table}Users, keys, policies, quotas and tasks are not kept in the regions. If the catalog is new, the ` +
          'next start of the server writes its first access key.\n'
        )
      },
      isWell: (rows) => rows.every(({ result }) => result !== 'damaged'),
    },
  )
}

function declare<Result>(
  store: Command,
  parts: ProgramParts,
  name: string,
  about: string,
  work: {
    run(
      flags: OfflineFlags,
      regions: readonly string[] | undefined,
      tell: (line: string) => void,
    ): Promise<Result>
    print(result: Result): Promise<string>
    isWell(result: Result): boolean
  },
): void {
  const command = store
    .command(name)
    .description(about)
    .option('--json', 'print one JSON value')
    .option('--region <region...>', 'only these regions; without it all')
    .option('--config <file>', 'settings as YAML (docs/settings.md); flags win over it')
  for (const setting of SETTINGS) {
    if (setting.flag === undefined || attributeOf(setting) === undefined) continue
    const option = new Option(`${setting.flag} <value>`, `${setting.takes} (default: ${setting.default})`)
    // All that `serve` takes, so that its own command line fits; most of it says nothing to whoever reads the help.
    command.addOption(setting.key === 'data' ? option : option.hideHelp())
  }
  command.action(async ({ region, json, ...flags }: Flags) => {
    try {
      const progress = createLine(parts.io)
      const result = await work.run(flags as OfflineFlags, region, progress.tell).finally(progress.end)
      parts.io.stdout.write(json === true ? `${JSON.stringify(result, null, 2)}\n` : await work.print(result))
      if (work.isWell(result)) return
      throw new CommandFailure(EXIT.fault, 'Something is damaged: see the report.')
    } catch (error) {
      parts.fail(describeFailure(error))
    }
  })
}

const SAY_MS = 1000

/** Progress on standard error: one line that is written over on a terminal, a line each second elsewhere. */
function createLine(io: Io) {
  let saidAtMs = Number.NEGATIVE_INFINITY
  let isOpen = false
  return {
    tell(line: string): void {
      if (io.nowMs() - saidAtMs < (io.stderr.isTerminal ? SAY_MS / 10 : SAY_MS)) return
      saidAtMs = io.nowMs()
      isOpen = io.stderr.isTerminal
      io.stderr.write(isOpen ? `\r\x1b[2K${line}` : `${line}\n`)
    },
    end(): void {
      if (isOpen) io.stderr.write('\r\x1b[2K')
    },
  }
}
