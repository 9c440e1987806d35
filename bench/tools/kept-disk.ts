import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { ensureDemoDisk } from './data.ts'
import { debianDisk } from './debian-disk.ts'
import { isInstalled } from './machine.ts'
import { type Contender, runCommand } from './measure.ts'

// What restoring and serving start from: one disk, kept by us and by the others.

/** The disk of a real Debian, or the demo's where it cannot be built. */
export async function ensureKeptDisk(say: (line: string) => void): Promise<string> {
  const why = debianDisk.whyNot()
  if (why === undefined) return debianDisk.ensure(say)
  say(`the demo disk in place of the Debian disk: ${why}`)
  return ensureDemoDisk(say)
}

export interface Kept {
  readonly folder: string
  /** What the capture said on its standard output. */
  readonly said: string
}

/** Runs one capture below `scratch`; undefined where its tool is not installed. */
export async function keep(
  scratch: string,
  capture: Contender,
  say: (line: string) => void,
): Promise<Kept | undefined> {
  if (capture.tool !== undefined && !isInstalled(capture.tool)) return undefined
  say(`capturing the disk with ${capture.name}`)
  const folder = join(scratch, capture.name)
  await mkdir(folder)
  await capture.prepare?.(folder)
  const environment = capture.environment?.(folder) ?? {}
  const { said } = await runCommand(capture.command(folder), { environment, result: folder })
  return { folder, said }
}

/** The digest of the image in the store that a capture of ours made. */
export function digestOf(kept: Kept): string {
  return (JSON.parse(kept.said) as { digest: string }).digest
}
