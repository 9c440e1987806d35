import type { Command } from 'commander'
import type { Link } from '../download.ts'
import { act, clientCommand, PART_BYTES, type PlaceFlags, type ProgramParts, placed } from '../options.ts'
import type { Session, SessionFlags } from '../session.ts'

interface InventoryFlags extends SessionFlags, PlaceFlags {
  readonly output?: string
  readonly force?: boolean
}

interface BundleFlags extends SessionFlags, PlaceFlags {
  readonly for: string
  readonly output: string
  readonly force?: boolean
}

const HELP = `
Carries images to an installation that no network leads to:
  there:  calotype image inventory -o there.inventory
  here:   calotype image bundle IMAGE --for there.inventory -o image.bundle
  there:  calotype image import ./image.bundle --name NAME --signer KEY`

/** Declares `image inventory` and `image bundle`. */
export function imageBundleCommands(image: Command, parts: ProgramParts): void {
  const about = 'what another installation has to know of this one to make bundles for it'
  placed(clientCommand(image, 'inventory', about))
    .option(
      '-o, --output <file>',
      'where to; an older inventory there is replaced; without it standard output',
    )
    .option('--force', 'replaces whatever is there')
    .addHelpText('after', HELP)
    .action(act(parts, saveInventory))

  placed(
    clientCommand(image, 'bundle <image>', 'an image as one signed file, for another installation alone'),
  )
    .requiredOption('--for <file>', "the other's inventory: what it has already is left out")
    .requiredOption('-o, --output <file>', "where to; '-' is standard output")
    .option('--force', 'replaces a file that is there')
    .addHelpText('after', HELP)
    .action(act(parts, bundleImage))
}

async function saveInventory(session: Session, flags: InventoryFlags): Promise<void> {
  const { region, project, output, force = false } = flags
  const query = { region, project }
  const answer = await session.client.call<{ inventory: string }>('GET', '/v1/inventory', { query })
  if (output === undefined || output === '-')
    return session.print(answer, () => `${answer.inventory.trimEnd()}\n`)
  const { openPartFile } = await import('../part-file.ts')
  const bytes = Buffer.from(answer.inventory)
  // An inventory is as old as the file: the newer one takes its place.
  const file = await openPartFile(output, undefined, force || (await isInventory(output)))
  try {
    await file.append({ lengthBytes: bytes.length, bytes })
    await file.finish()
  } catch (error) {
    await file.leave()
    throw error
  }
  session.print(
    { file: output, sizeBytes: bytes.length },
    () => `${output} is for whoever makes bundles for this region.\n`,
  )
}

async function isInventory(path: string): Promise<boolean> {
  const [{ readFile, stat }, { INVENTORY_BYTES_MAX, parseInventory }] = await Promise.all([
    import('node:fs/promises'),
    import('../../store/bundle/inventory.ts'),
  ])
  try {
    const { size } = await stat(path)
    if (size > INVENTORY_BYTES_MAX) return false
    parseInventory(await readFile(path, 'utf8'))
    return true
  } catch {
    return false
  }
}

async function bundleImage(session: Session, flags: BundleFlags, id: string): Promise<void> {
  const [{ requireOutput, save }, { formatBytes, printable }, inventory] = await Promise.all([
    import('../save-download.ts'),
    import('../format.ts'),
    readInventory(flags.for),
  ])
  requireOutput(session, flags.output)
  const { region, project, output, force: mayReplace = false } = flags
  const path = `/v1/images/${encodeURIComponent(id)}/exports`
  const body = { region, project, bundle: { inventory } }
  let signer: string | null = null
  const makeLink = async () => {
    const link = await session.client.call<Link>('POST', path, { body })
    signer = link.signer
    return link
  }
  const saved = await save(session, {
    makeLink,
    output,
    fallbackName: output,
    mayReplace,
    partBytes: PART_BYTES,
  })
  if (output === '-') return
  const text =
    `${printable(output)} is a bundle of ${id}, ${formatBytes(saved.sizeBytes)}.\n` +
    `It is signed with ${signer}: tell that to whoever imports it (--signer).\n`
  session.print({ imageId: id, signer, ...saved }, () => text)
}

async function readInventory(path: string): Promise<string> {
  const [{ readFile }, { usageFailure }] = await Promise.all([
    import('node:fs/promises'),
    import('../failure.ts'),
  ])
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw usageFailure(
      `Cannot read ${path} (${code}). Make it over there with: calotype image inventory -o FILE`,
    )
  }
}
