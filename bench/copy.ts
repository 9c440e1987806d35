import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { runTool } from '../src/host/tools/run.ts'
import { ourCommand, ourEnvironment } from './tools/calotype.ts'
import { ensureChangedDisk, ensureDemoDisk } from './tools/data.ts'
import { isInstalled } from './tools/machine.ts'
import { type Contender, compare, runCommand, sizeOfTree, withScratch } from './tools/measure.ts'
import { initRestic, resticEnvironment } from './tools/peers.ts'
import type { Bench } from './tools/report.ts'

// An image copied to a region that has nothing, and then its next version, of which one chunk in 100 is another.
// Both regions are folders of one disk here, so the time is that of the work; `movedBytes` is what a network would add.
// qemu-img, which knows no versions, copies everything each time: that is its row for both.

interface Sources {
  readonly folder: string
  /** Digests of the two versions in our store. */
  readonly digests: readonly [string, string]
}

async function prepareOurs(folder: string, disks: readonly string[]): Promise<Sources['digests']> {
  const digests: string[] = []
  for (const [i, disk] of disks.entries()) {
    const command = ourCommand('ours-capture.ts', disk, folder, `version${i}`)
    const { said } = await runCommand(command, { environment: ourEnvironment(), result: folder })
    digests.push((JSON.parse(said) as { digest: string }).digest)
  }
  const [first = '', second = ''] = digests
  return [first, second]
}

/** A repository with one snapshot for each version; they have to be told apart by a tag. */
async function prepareRestic(repository: string, disks: readonly string[]): Promise<void> {
  await initRestic(repository)
  for (const [i, disk] of disks.entries()) {
    const backup = `restic backup --quiet --tag version${i} --stdin --stdin-filename disk < "$1"`
    const environment = resticEnvironment(repository)
    await runCommand(['sh', '-c', backup, 'sh', disk], { environment, result: repository })
  }
}

const pull = (sources: Sources, target: string, version: 0 | 1) =>
  ourCommand('ours-copy.ts', sources.folder, target, `copy${version}`, sources.digests[version])

function calotypeCopy(name: string, sources: Sources, version: 0 | 1): Contender {
  return {
    name,
    environment: ourEnvironment,
    prepare: async (folder) => {
      if (version === 0) return
      await runCommand(pull(sources, folder, 0), { environment: ourEnvironment(), result: folder })
    },
    command: (folder) => pull(sources, folder, version),
    look: async (folder, said) => {
      const { movedBytes, jobSeconds } = JSON.parse(said) as { movedBytes: number; jobSeconds: number }
      return { movedBytes, storedBytes: await sizeOfTree(folder), jobSeconds: Number(jobSeconds.toFixed(3)) }
    },
  }
}

function resticCopy(name: string, source: string, version: 0 | 1): Contender {
  const environment = (folder: string) => ({
    ...resticEnvironment(folder),
    RESTIC_FROM_REPOSITORY: source,
    RESTIC_FROM_PASSWORD: 'bench',
  })
  const copy = (which: number) => ['restic', 'copy', '--quiet', '--tag', `version${which}`]
  let beforeBytes = 0
  return {
    name,
    tool: 'restic',
    environment,
    prepare: async (folder) => {
      // The same chunker in both, or nothing of the second version would be known in the target.
      const from = Object.entries(environment(folder)).map(([key, value]) => `${key}=${value}`)
      await mkdir(folder, { recursive: true })
      const words = [
        ...from,
        'restic',
        'init',
        '--quiet',
        '--repository-version',
        '2',
        '--copy-chunker-params',
      ]
      await runTool('env', words, { doing: 'Making a repository', package: 'restic', timeoutMs: 60_000 })
      if (version === 1) await runCommand(copy(0), { environment: environment(folder), result: folder })
      beforeBytes = await sizeOfTree(folder)
    },
    command: () => copy(version),
    look: async (folder) => {
      const storedBytes = await sizeOfTree(folder)
      return { movedBytes: storedBytes - beforeBytes, storedBytes }
    },
  }
}

function qemuImgCopy(name: string, source: string): Contender {
  const options = ['-f', 'qcow2', '-O', 'qcow2', '-c', '-o', 'compression_type=zstd', '-m', '16', '-W']
  return {
    name,
    tool: 'qemu-img',
    package: 'qemu-utils',
    command: (folder) => ['qemu-img', 'convert', ...options, source, join(folder, 'disk.qcow2')],
    look: async (folder) => ({ movedBytes: await sizeOfTree(source), storedBytes: await sizeOfTree(folder) }),
  }
}

export const run: Bench = async (say) => {
  const demo = await ensureDemoDisk(say)
  const disks = [demo, await ensureChangedDisk(demo)]
  return withScratch(async (scratch) => {
    const folder = join(scratch, 'ours')
    const repository = join(scratch, 'restic')
    const qcow2 = join(scratch, 'source.qcow2')
    await mkdir(folder)
    const sources: Sources = { folder, digests: await prepareOurs(folder, disks) }
    if (isInstalled('restic')) await prepareRestic(repository, disks)
    if (isInstalled('qemu-img')) {
      const options = ['-f', 'raw', '-O', 'qcow2', '-c', '-o', 'compression_type=zstd', '-m', '16', '-W']
      await runCommand(['qemu-img', 'convert', ...options, demo, qcow2], { result: qcow2 })
    }
    const rows = await compare(
      [
        calotypeCopy('calotype', sources, 0),
        resticCopy('restic copy', repository, 0),
        qemuImgCopy('qemu-img', qcow2),
        calotypeCopy('calotype, next version', sources, 1),
        resticCopy('restic copy, next version', repository, 1),
      ],
      say,
    )
    await rm(repository, { recursive: true, force: true })
    return {
      rows,
      races: [
        { ours: 'calotype', peers: ['restic copy', 'qemu-img'] },
        { ours: 'calotype, next version', peers: ['restic copy, next version'] },
      ],
      marks: [],
    }
  })
}
