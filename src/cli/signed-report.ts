import { readFileSync } from 'node:fs'
import type { SignedReport } from '../image/cleaning.ts'
import { CommandFailure, EXIT, usageFailure } from './failure.ts'

type Check = (value: unknown) => boolean

const text: Check = (value) => typeof value === 'string'
const number: Check = (value) => typeof value === 'number'
const flag: Check = (value) => typeof value === 'boolean'
const list =
  (item: Check): Check =>
  (value) =>
    Array.isArray(value) && value.every(item)
const record =
  (item: Check): Check =>
  (value) =>
    typeof value === 'object' && value !== null && !Array.isArray(value) && Object.values(value).every(item)
const members =
  (checks: Readonly<Record<string, Check>>): Check =>
  (value) =>
    record(() => true)(value) &&
    Object.entries(checks).every(([name, check]) => check((value as Record<string, unknown>)[name]))

const placed = { volume: number, path: text }
const isShapedAsReport = members({
  report: members({
    ...{ version: (value) => value === 1, isDryRun: flag, madeAt: text, durationMs: number },
    wish: members({ operations: list(text), isBestEffort: flag, onSecrets: text }),
    tools: record(text),
    volumes: list(
      members({
        ...{ diskIndex: number, partition: number, title: text, label: text, sizeBytes: number },
        ...{ outcome: text, why: text },
        scrubbed: list(members({ what: text, count: number, bytes: number })),
      }),
    ),
    gapBytes: number,
    removed: list(
      members({
        ...{ ...placed, operation: text, how: text, fileCount: number, directoryCount: number },
        ...{ bytes: number, parts: list(members({ name: text, fileCount: number, bytes: number })) },
      }),
    ),
    kept: list(members({ ...placed, why: text })),
    secrets: list(members({ ...placed, kind: text })),
    warnings: list(text),
    ...{ removedFileCount: number, removedBytes: number, scrubbedBytes: number },
    phases: record(number),
  }),
  signature: members({ algorithm: text, keyId: text, publicKey: text, value: text }),
})

/** A report that somebody saved: its shape is checked, its signature not yet. Throws CommandFailure. */
export function readSignedReport(path: string): SignedReport {
  let written: string
  try {
    written = readFileSync(path, 'utf8')
  } catch (error) {
    throw usageFailure(`Cannot read ${path} (${(error as NodeJS.ErrnoException).code}). Name a saved report.`)
  }
  let value: unknown
  try {
    value = JSON.parse(written)
  } catch {
    value = undefined
  }
  // A signature only says who wrote it: whoever has a key may sign what is no report.
  if (isShapedAsReport(value)) return value as SignedReport
  throw new CommandFailure(
    EXIT.fault,
    `${path} is no cleaning report that this release knows. Save one with: calotype image report IMAGE --output FILE`,
  )
}
