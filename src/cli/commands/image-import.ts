import { type Command, InvalidArgumentError, Option } from 'commander'
import { DECLARABLE_FORMATS } from '../../disk/formats/contract.ts'
import { CHECKSUM_ALGORITHMS, type Checksum } from '../../image/imported.ts'
import {
  act,
  BUSES,
  clientCommand,
  inParts,
  PART_BYTES,
  type PlaceFlags,
  type ProgramParts,
  placed,
  timed,
  type WaitFlags,
} from '../options.ts'
import type { Session, SessionFlags } from '../session.ts'
import type { Made } from './image-create.ts'

interface ImportFlags extends SessionFlags, PlaceFlags, WaitFlags {
  readonly name: string
  readonly serverFile?: string
  readonly format?: string
  readonly sha256?: Checksum
  readonly sha512?: Checksum
  readonly checksum?: Checksum
  readonly signer?: string
  readonly kind: string
  readonly description?: string
  readonly tag?: string
  readonly osType?: string
  readonly osName?: string
  readonly firmware?: string
  readonly bus?: string
  readonly partSize?: number
  readonly restart?: boolean
  readonly s3Endpoint?: string
  readonly s3Region?: string
  readonly s3KeyId?: string
  readonly s3SecretFile?: string
}

const HEX_DIGITS = { sha256: 64, sha512: 128, sha1: 40, md5: 32 } as const

const HELP = `
FILE is one of
  a file of this computer        sent to the server; should that break off, the same command goes on where it stopped
  -                              what comes through standard input, sent as it comes; it cannot go on after a break
  http://… https://… s3://…      fetched by the server
  a plain name                   that no file here has: a file in the server's import folder (--server-file says so outright)

raw, qcow2, vmdk, vhd, vhdx, vdi, qed and ova are taken, also packed as .gz, .xz or .zst, and bundles of
'calotype image bundle'. The server looks at the file before any tool opens it; what it is, is found, not believed.

--json prints { imageId, taskId }, with uploadId for what is sent from here; waited for, also tasks and the image itself,
whose 'imported' says what was found; of an import that failed { imageId, taskId, task, image }.`

/** Declares `image import`: of a file here, through a pipe, at an address, or in the server's import folder. */
export function imageImportCommand(image: Command, parts: ProgramParts): void {
  const command = timed(placed(clientCommand(image, 'import [file]', 'an image of a file')))
    .option('--wait', 'until it is available; what is sent from here is waited for anyway')
    .option('--no-wait', 'ends as soon as the server has all of the file')
    .requiredOption('--name <name>', 'the name of the image')
    .option('--description <text>', 'what it is')
    .option('--tag <tag>', 'a business group')
    .addOption(
      new Option('--kind <kind>', 'base images are for every project')
        .choices(['base', 'custom'])
        .default('custom'),
    )
    .addOption(new Option('--base', 'the same as --kind base').implies({ kind: 'base' }))
    .addHelpText('after', HELP)
  const found = 'without it as it is found'
  command
    .addOption(new Option('--os-type <type>', `the system in it; ${found}`).choices(['Linux', 'Windows']))
    .option('--os-name <text>', `such as 'Debian 12'; ${found}`)
    .addOption(new Option('--firmware <firmware>', `what starts it; ${found}`).choices(['bios', 'uefi']))
    .addOption(new Option('--bus <bus>', 'where its disks are attached (virtio-blk)').choices(BUSES))
  command
    .addOption(
      checked('--format <format>', 'what it is once unpacked: anything else is refused').choices(
        DECLARABLE_FORMATS,
      ),
    )
    .addOption(
      checked('--sha256 <hex>', 'of the file as it is')
        .argParser(checksumParser('sha256'))
        .conflicts(['sha512', 'checksum']),
    )
    .addOption(
      checked('--sha512 <hex>', 'of the file as it is')
        .argParser(checksumParser('sha512'))
        .conflicts(['checksum']),
    )
    .addOption(
      checked('--checksum <alg:hex>', `with ${CHECKSUM_ALGORITHMS.join(', ')}`).argParser(parseChecksum),
    )
    .addOption(
      checked('--signer <hex>', 'of a bundle: the Ed25519 key that is believed').argParser(parseSigner),
    )
  command
    .addOption(sourced('--server-file <name>', "a file in the server's import folder, instead of FILE"))
    .addOption(sourced('--restart', 'begins again, even if an earlier try got somewhere'))
    .addOption(sourced('--s3-endpoint <url>', 'of s3://…; without it as the server is set up'))
    .addOption(sourced('--s3-region <region>', 'of s3://…'))
    .addOption(sourced('--s3-key-id <id>', 'of s3://…'))
    .addOption(sourced('--s3-secret-file <file>', 'of s3://…; the file holds the secret and nothing else'))
    .action(act(parts, importImage))
  inParts(command, 'how much is sent at a time, and again after a break', '256MiB')
}

const checked = (flags: string, about: string) => new Option(flags, about).helpGroup('What it has to be:')
const sourced = (flags: string, about: string) => new Option(flags, about).helpGroup('Where it comes from:')

function checksumParser(algorithm: Checksum['algorithm']): (text: string) => Checksum {
  return (text) => {
    const hex = text.toLowerCase()
    if (/^[0-9a-f]*$/.test(hex) && hex.length === HEX_DIGITS[algorithm]) return { algorithm, hex }
    throw new InvalidArgumentError(`A ${algorithm} is ${HEX_DIGITS[algorithm]} hex digits.`)
  }
}

function parseChecksum(text: string): Checksum {
  const cut = text.indexOf(':')
  const algorithm = CHECKSUM_ALGORITHMS.find((one) => one === text.slice(0, cut).toLowerCase())
  if (algorithm !== undefined) return checksumParser(algorithm)(text.slice(cut + 1))
  throw new InvalidArgumentError(`It takes ALGORITHM:HEX, with ${CHECKSUM_ALGORITHMS.join(', ')}.`)
}

function parseSigner(text: string): string {
  if (/^[0-9a-f]{64}$/i.test(text)) return text.toLowerCase()
  throw new InvalidArgumentError('An Ed25519 key is 64 hex digits.')
}

async function importImage(session: Session, flags: ImportFlags, file: string | undefined): Promise<void> {
  const [{ chooseSource, readS3 }, { usageFailure }] = await Promise.all([
    import('../import-source.ts'),
    import('../failure.ts'),
  ])
  const { partSize, restart: isFromStart = false } = flags
  if (flags.wait === false && flags.timeout !== undefined) {
    throw usageFailure('--timeout is for waiting, and --no-wait does not wait: give one of them.')
  }
  const source = chooseSource(file, flags.serverFile)
  const s3 = readS3(flags, source)
  const isSent = source.is === 'local' || source.is === 'pipe'
  if (!isSent && partSize !== undefined) throw usageFailure('--part-size is for what is sent from here.')
  if (isFromStart && source.is !== 'local') throw usageFailure('--restart is for files of this computer.')
  const wish = wishOf(flags)
  if (isSent) {
    const { uploadImage } = await import('../import-upload.ts')
    const how = { partBytes: partSize ?? PART_BYTES, isFromStart }
    const sent = await uploadImage(session, source, { wish, query: placeOf(flags), ...how })
    return followImport(session, flags, sent, flags.wait ?? true)
  }
  const from = source.is === 'url' ? { url: source.url, s3 } : { fileName: source.fileName }
  const made = await session.client.call<Made>('POST', '/v1/images/import', { body: { ...wish, ...from } })
  await followImport(session, flags, made, flags.wait ?? flags.timeout !== undefined)
}

const placeOf = ({ region, project }: ImportFlags) => ({ region, project })

/** The part of a request that is the same wherever the file comes from. */
function wishOf(flags: ImportFlags): object {
  const { name, description, tag, kind, osType, osName, firmware, bus, format, signer } = flags
  const checksum = flags.sha256 ?? flags.sha512 ?? flags.checksum
  const words = { name, description, tag, kind, osType, osName, firmware, bus }
  return { ...placeOf(flags), ...words, format, checksum, signer }
}

type Begun = Made & { readonly uploadId?: string }

async function followImport(
  session: Session,
  flags: ImportFlags,
  made: Begun,
  hasToWait: boolean,
): Promise<void> {
  if (!hasToWait) {
    const text = `Image ${made.imageId} is being made. Follow it: calotype task wait ${made.taskId}\n`
    return session.print(made, () => text)
  }
  // Whoever stops waiting has to know what goes on without them.
  session.io.stderr.write(`Image ${made.imageId} is being made by ${made.taskId}.\n`)
  const [{ waitForTasks }, { printImported, reportFailed }] = await Promise.all([
    import('../wait.ts'),
    import('../import-report.ts'),
  ])
  const options = { timeoutMs: flags.timeout }
  const tasks = await waitForTasks(session.io, session.client, [made.taskId], options)
  const done = { ...made, tasks, isOsTypeSaid: flags.osType !== undefined }
  if (tasks.every(({ state }) => state === 'done')) return printImported(session, placeOf(flags), done)
  await reportFailed(session, placeOf(flags), done)
}
