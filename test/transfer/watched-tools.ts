import { constants } from 'node:fs'
import { access, mkdir, readFile, truncate, writeFile } from 'node:fs/promises'
import { delimiter, join } from 'node:path'

const READERS = [
  'qemu-nbd',
  'qemu-img',
  'qemu-io',
  'qemu-system-x86_64',
  'qemu-storage-daemon',
  'xz',
] as const
// What is caged does not see our folder, but is named on the line that begins its cage, which is always this one's.
const CAGES = ['prlimit'] as const

/** Programs that tell when they are started, and by which words, before they do what they always do. */
export interface WatchedTools {
  /** With them in front of all others. */
  readonly path: string
  /** Every line that started one, since the last `forget`. */
  started(): Promise<readonly string[]>
  /** Those among them that start a program of QEMU, in a cage or not. */
  startedQemu(): Promise<readonly string[]>
  forget(): Promise<void>
}

/** In `folder`, which has to be the test's own. */
export async function watchTools(folder: string): Promise<WatchedTools> {
  const bin = join(folder, 'bin')
  const log = join(folder, 'started.log')
  await mkdir(bin)
  await writeFile(log, '')
  for (const name of [...READERS, ...CAGES]) {
    const real = await findProgram(name)
    if (real === undefined) continue
    // One line for each: scripts among the words have ends of lines in them.
    const script = `#!/bin/sh\nprintf '%s %s\\n' ${name} "$*" | tr '\\n' ' ' | sed 's/$/\\n/' >> '${log}'\nexec '${real}' "$@"\n`
    await writeFile(join(bin, name), script, { mode: 0o755 })
  }
  const started = async () => (await readFile(log, 'utf8')).split('\n').filter((line) => line.trim() !== '')
  return {
    path: `${bin}${delimiter}${process.env.PATH ?? ''}`,
    started,
    startedQemu: async () => (await started()).filter((line) => /(^|[ /])qemu-/.test(line)),
    forget: () => truncate(log),
  }
}

async function findProgram(name: string): Promise<string | undefined> {
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    const path = join(folder, name)
    if (
      await access(path, constants.X_OK).then(
        () => true,
        () => false,
      )
    )
      return path
  }
  return undefined
}
