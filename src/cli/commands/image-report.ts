import { type Command, Option } from 'commander'
import type { SignedReport } from '../../image/cleaning.ts'
import { CommandFailure, describeFailure, EXIT, usageFailure } from '../failure.ts'
import { act, clientCommand, type PlaceFlags, type ProgramParts, placed } from '../options.ts'
import type { Printer, Session, SessionFlags } from '../session.ts'

interface ReportFlags extends SessionFlags, PlaceFlags {
  readonly output?: string
  readonly file?: string
}

/** Declares `image report`: of an image, or one that was saved, for which no server is asked. */
export function imageReportCommand(image: Command, parts: ProgramParts): void {
  const about = 'what cleaning took out of an image, and whether the report is as it was signed'
  placed(clientCommand(image, 'report [image]', about))
    .option('--output <file>', 'saves the signed report as well')
    .addOption(
      new Option('--file <file>', 'checks a report that was saved instead, without a server').conflicts([
        ...['output', 'endpoint', 'keyFile', 'data', 'region', 'project'],
      ]),
    )
    .action(async (...given: unknown[]) => {
      const [id, flags] = given as [string | undefined, ReportFlags]
      if (flags.file === undefined) return act(parts, showReport)(...given)
      try {
        await checkFile(parts, flags, flags.file, id)
      } catch (error) {
        parts.fail(describeFailure(error))
      }
    })
}

async function showReport(session: Session, flags: ReportFlags, id: string | undefined): Promise<void> {
  if (id === undefined) {
    throw usageFailure('Name an image, or a saved report with --file.')
  }
  const { region, project, output } = flags
  const path = `/v1/images/${encodeURIComponent(id)}/report`
  const signed = await session.client.call<SignedReport>('GET', path, { query: { region, project } })
  if (output !== undefined) await save(output, signed)
  await printSigned(session, signed)
}

async function save(path: string, signed: SignedReport): Promise<void> {
  const { writeFileSync } = await import('node:fs')
  try {
    writeFileSync(path, `${JSON.stringify(signed, null, 2)}\n`)
  } catch (error) {
    throw usageFailure(`Cannot write ${path} (${(error as NodeJS.ErrnoException).code}). Name another file.`)
  }
}

async function checkFile(
  { io }: ProgramParts,
  flags: ReportFlags,
  path: string,
  id: string | undefined,
): Promise<void> {
  const [{ createPrinter }, { readSignedReport }] = await Promise.all([
    import('../session.ts'),
    import('../signed-report.ts'),
  ])
  if (id !== undefined) throw usageFailure('Name an image or a file, not both.')
  await printSigned(createPrinter(io, flags.json === true), readSignedReport(path))
}

/** Throws CommandFailure after it is printed if the signature does not fit. */
async function printSigned(printer: Printer, signed: SignedReport): Promise<void> {
  const [{ isSignedReport }, { formatCleaning }, { printable }] = await Promise.all([
    import('../../cleaning/signature.ts'),
    import('../cleaning-report.ts'),
    import('../format.ts'),
  ])
  const isValid = isSignedReport(signed)
  const key = printable(signed.signature.keyId)
  printer.print(signed, ({ report }) => {
    const verdict = isValid ? `valid, key ${key}` : `INVALID, key ${key} is named`
    return `${formatCleaning(printer.table, report)}\nsignature: ${verdict}\n`
  })
  if (isValid) return
  throw new CommandFailure(EXIT.fault, 'The signature does not fit: the report is not as it was signed.')
}
