import { type Command, Option } from 'commander'
import { EXPORT_FORMATS } from '../../disk/layouts/contract.ts'
import type { ShownImageWhole } from '../../wire/native/show.ts'
import type { Link } from '../download.ts'
import {
  act,
  clientCommand,
  inParts,
  PART_BYTES,
  type PlaceFlags,
  type ProgramParts,
  parseCount,
  placed,
} from '../options.ts'
import type { Session, SessionFlags } from '../session.ts'

interface ExportFlags extends SessionFlags, PlaceFlags {
  readonly format: string
  readonly disk?: number
  readonly allDisks?: boolean
  readonly compress?: 'zstd'
  readonly output?: string
  readonly force?: boolean
  readonly link?: boolean
  readonly digest?: boolean
  readonly partSize?: number
}

/** One of the image's disks, and where it goes. */
interface Wanted {
  readonly disk: number
  readonly output: string | undefined
  readonly fallbackName: string
}

const HELP = `
A file has its name once it is whole; until then it is FILE.part, and the same command goes on with it after a break
(with --compress it begins again). Every piece is checked against its SHA-256 on the way.

--json prints { imageId, format, compress, files: [{ disk, file, sizeBytes }] }, with --link
{ imageId, links: [{ disk, url, sizeBytes, expiresAtMs, sha256 }] }; what is not known is null.`

/** Declares `image export`: a disk of an image as a file, or a link to download it. */
export function imageExportCommand(image: Command, parts: ProgramParts): void {
  const command = placed(clientCommand(image, 'export <image>', 'a disk of an available image as a file'))
    .addOption(new Option('--format <format>', 'what to write').choices(EXPORT_FORMATS).makeOptionMandatory())
    .option('--disk <index>', 'which, counted from 0; an image with one disk needs none', parseCount)
    .addOption(
      new Option(
        '--all-disks',
        'each into a file of its own: as the server names them, with -o NAME as NAME-0, NAME-1, …',
      ).conflicts('disk'),
    )
    .addOption(new Option('--compress <method>', 'packs the whole file').choices(['zstd']))
    .option('-o, --output <file>', "where to; '-' is standard output (default: the image's name, here)")
    .option('--force', 'replaces a file that is there')
    .addOption(
      new Option(
        '--link',
        'only prints an address, from which anybody may download it for a while',
      ).conflicts([...['output', 'force']]),
    )
    .option('--digest', 'with --link: reads it once to tell its SHA-256')
    .addHelpText('after', HELP)
    .action(act(parts, exportImage))
  inParts(command, 'how much is asked for at a time, four times at once', '32MiB')
}

async function exportImage(session: Session, flags: ExportFlags, id: string): Promise<void> {
  const [{ usageFailure }, { requireOutput, save }] = await Promise.all([
    import('../failure.ts'),
    import('../save-download.ts'),
  ])
  if (flags.digest === true && flags.link !== true) {
    throw usageFailure('--digest goes with --link: what is downloaded here is checked on the way.')
  }
  if (flags.allDisks === true && flags.output === '-') {
    throw usageFailure(
      'Several disks do not go through one pipe: name a file with -o, or one disk with --disk.',
    )
  }
  if (flags.partSize !== undefined && (flags.link === true || flags.compress !== undefined)) {
    throw usageFailure('--part-size goes neither with --link nor with --compress, which sends all in one go.')
  }
  requireOutput(session, flags.output)
  const { region, project } = flags
  const path = `/v1/images/${encodeURIComponent(id)}`
  const image = await session.client.call<ShownImageWhole>('GET', path, { query: { region, project } })
  const wanted = await chooseDisks(image, flags)
  const makeLink = ({ disk }: Wanted) => {
    const { format, compress, digest } = flags
    const body = { region, project, disk, format, compress, digest }
    return session.client.call<Link>('POST', `${path}/exports`, { body })
  }
  if (flags.link === true) return printLinks(session, image, wanted, makeLink)
  const files: (Awaited<ReturnType<typeof save>> & { readonly disk: number })[] = []
  for (const one of wanted) {
    const { output, fallbackName } = one
    const place = {
      output,
      fallbackName,
      mayReplace: flags.force === true,
      partBytes: flags.partSize ?? PART_BYTES,
    }
    const saved = await save(session, { ...place, makeLink: () => makeLink(one) })
    files.push({ disk: one.disk, ...saved })
  }
  if (flags.output === '-') return
  const { formatBytes, printable } = await import('../format.ts')
  session.print({ imageId: image.id, format: flags.format, compress: flags.compress ?? null, files }, () =>
    files
      .map(
        ({ file, disk, sizeBytes }) =>
          `${printable(file)} is disk ${disk} of ${image.id}, ${formatBytes(sizeBytes)}.\n`,
      )
      .join(''),
  )
}

async function chooseDisks(image: ShownImageWhole, flags: ExportFlags): Promise<readonly Wanted[]> {
  const { output, allDisks, disk } = flags
  const ending = `.${flags.format}${flags.compress === undefined ? '' : '.zst'}`
  const indices = image.disks.map(({ index }) => index)
  if (allDisks === true) {
    const stem = output?.endsWith(ending) ? output.slice(0, -ending.length) : output
    return indices.map((index) => ({
      disk: index,
      output: stem === undefined ? undefined : `${stem}-${index}${ending}`,
      fallbackName: `${image.id}-${index}${ending}`,
    }))
  }
  const index = disk ?? (indices.length > 1 ? undefined : indices[0])
  if (index !== undefined && indices.includes(index)) {
    return [{ disk: index, output, fallbackName: `${image.id}-${index}${ending}` }]
  }
  const [{ usageFailure }, { formatBytes }] = await Promise.all([
    import('../failure.ts'),
    import('../format.ts'),
  ])
  const named = image.disks.map((one) => `${one.index} (${formatBytes(one.sizeBytes)})`).join(', ')
  throw usageFailure(
    indices.length === 0
      ? `Image ${image.id} is ${image.state} and has no disks yet.`
      : `Image ${image.id} has the disks ${named}: name one with --disk, or take --all-disks.`,
  )
}

async function printLinks(
  session: Session,
  image: ShownImageWhole,
  wanted: readonly Wanted[],
  makeLink: (one: Wanted) => Promise<Link>,
): Promise<void> {
  const [{ formatFacts }, { formatBytes, formatTime }] = await Promise.all([
    import('../facts.ts'),
    import('../format.ts'),
  ])
  const links: {
    disk: number
    url: string
    sizeBytes: number | null
    expiresAtMs: number
    sha256: string | null
  }[] = []
  for (const one of wanted) {
    const { url, sizeBytes, expiresAtMs, taskId } = await makeLink(one)
    const [task] = taskId === null ? [] : await session.waitForDone([taskId])
    const told = (task?.output ?? {}) as { sizeBytes?: number; sha256?: string }
    const size = told.sizeBytes ?? sizeBytes
    links.push({ disk: one.disk, url, sizeBytes: size, expiresAtMs, sha256: told.sha256 ?? null })
  }
  session.print({ imageId: image.id, links }, () => {
    const facts = links.map((link) =>
      formatFacts([
        ['disk', String(link.disk)],
        ['link', link.url],
        ['size', link.sizeBytes === null ? null : formatBytes(link.sizeBytes)],
        ['sha256', link.sha256],
        ['expires', `${formatTime(link.expiresAtMs)} UTC`],
      ]),
    )
    return `${facts.join('\n')}Whoever has a link may download until it expires: curl -fLO 'LINK'\n`
  })
}
