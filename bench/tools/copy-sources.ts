import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { ourCommand, ourEnvironment } from './calotype.ts'
import { isInstalled } from './machine.ts'
import { runCommand } from './measure.ts'
import { initRestic, resticEnvironment } from './peers.ts'

// What copies start from: two versions of one disk, kept by us and by the others.

/** How qemu-img writes, in the bench of copies: packed as we do it. */
export const PACKED = ['-O', 'qcow2', '-c', '-o', 'compression_type=zstd', '-m', '16', '-W']

export type Version = 0 | 1

export interface OurSource {
  readonly folder: string
  /** Of the versions in our store. */
  readonly digests: readonly string[]
}

export interface CopySources {
  readonly disks: readonly [string, string]
  readonly ours: OurSource
  /** Of restic, with one snapshot for each version; there where restic is. */
  readonly repository: string
  /** The first version, packed; there where qemu-img is. */
  readonly qcow2: string
}

/** Our store in a folder of `scratch`, with an image of each disk. */
export async function prepareOurs(scratch: string, disks: readonly string[]): Promise<OurSource> {
  const folder = join(scratch, 'ours')
  await mkdir(folder, { recursive: true })
  const digests: string[] = []
  for (const [i, disk] of disks.entries()) {
    const command = ourCommand('ours-capture.ts', disk, folder, `version${i}`)
    const { said } = await runCommand(command, { environment: ourEnvironment(), result: folder })
    digests.push((JSON.parse(said) as { digest: string }).digest)
  }
  return { folder, digests }
}

export async function prepareSources(
  scratch: string,
  disks: readonly [string, string],
): Promise<CopySources> {
  const repository = join(scratch, 'restic')
  const qcow2 = join(scratch, 'source.qcow2')
  const ours = await prepareOurs(scratch, disks)
  if (isInstalled('restic')) await prepareRestic(repository, disks)
  if (isInstalled('qemu-img')) {
    const command = ['qemu-img', 'convert', '-f', 'raw', ...PACKED, disks[0], qcow2]
    await runCommand(command, { result: qcow2 })
  }
  return { disks, ours, repository, qcow2 }
}

/** They have to be told apart by a tag. */
async function prepareRestic(repository: string, disks: readonly string[]): Promise<void> {
  await initRestic(repository)
  for (const [i, disk] of disks.entries()) {
    const backup = `restic backup --quiet --tag version${i} --stdin --stdin-filename disk < "$1"`
    const environment = resticEnvironment(repository)
    await runCommand(['sh', '-c', backup, 'sh', disk], { environment, result: repository })
  }
}
