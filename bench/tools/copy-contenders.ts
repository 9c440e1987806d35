import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { runTool } from '../../src/host/tools/run.ts'
import { ourCommand, ourEnvironment } from './calotype.ts'
import { type CopySources, type OurSource, PACKED, type Version } from './copy-sources.ts'
import { type Contender, runCommand, sizeOfTree } from './measure.ts'
import type { Link } from './netem-link.ts'
import { resticEnvironment } from './peers.ts'
import { SOURCE, TARGET } from './places.ts'
import type { Row } from './report.ts'

// Copies of an image, or of its next version where the one before is, between folders or over the link.

interface Copy {
  readonly name: string
  readonly version: Version
  /** What it crosses; between folders without. */
  readonly link?: Link | undefined
}

interface Said {
  readonly movedBytes: number
  readonly jobSeconds: number
}

/** What is told of a run over a link: what crossed it since `begin`. */
function meter(link: Link | undefined) {
  let beforeBytes = 0
  return {
    begin() {
      beforeBytes = link?.movedBytes() ?? 0
    },
    told: (): { linkBytes?: number } =>
      link === undefined ? {} : { linkBytes: link.movedBytes() - beforeBytes },
  }
}

const through = (link: Link | undefined, command: readonly string[]) => link?.inside(command) ?? command

/**
 * A copy by us: the time that counts is from the request to the commit, when everything is durable, in a process that runs
 * already, as the server does. `from`: our store, or the file of the peer that serves it. What it lacked (`missingBytes`, map
 * pages included) it is asked before the clock starts.
 */
export function calotypeCopy({ name, version, link }: Copy, ours: OurSource, from = ours.folder): Contender {
  const crossed = meter(link)
  let missingBytes = 0
  const copy = (source: string, target: string, which: Version, way: string) =>
    ourCommand('ours-copy.ts', source, target, `copy${which}`, ours.digests[which] ?? '', way)
  return {
    name,
    environment: ourEnvironment,
    prepare: async (folder) => {
      const options = { environment: ourEnvironment(), result: folder }
      if (version === 1) await runCommand(copy(ours.folder, folder, 0, 'pull'), options)
      const { said } = await runCommand(copy(ours.folder, folder, version, 'plan'), options)
      missingBytes = (JSON.parse(said) as { missingBytes: number }).missingBytes
      crossed.begin()
    },
    command: (folder) => through(link, copy(from, folder, version, 'pull')),
    secondsOf: (said) => (JSON.parse(said) as Said).jobSeconds,
    look: async (folder, said): Promise<Omit<Row, 'name'>> => {
      const { movedBytes } = JSON.parse(said) as Said
      return { movedBytes, missingBytes, ...crossed.told(), storedBytes: await sizeOfTree(folder) }
    },
  }
}

/** The limit: what the disk gives. No byte is looked at. */
export function packsCopy(name: string, ours: OurSource): Contender {
  const packs = join(ours.folder, SOURCE, 'objects', 'packs')
  return {
    name,
    tool: 'cp',
    package: 'coreutils',
    command: (folder) => ['cp', '-r', '--reflink=never', packs, join(folder, TARGET)],
    look: async (folder) => ({ movedBytes: await sizeOfTree(packs), storedBytes: await sizeOfTree(folder) }),
  }
}

/** `from`: the repository, or where it is served. */
export function resticCopy(
  { name, version, link }: Copy,
  sources: CopySources,
  from = sources.repository,
): Contender {
  const crossed = meter(link)
  const environment = (folder: string, repository = from) => ({
    ...resticEnvironment(folder),
    RESTIC_FROM_REPOSITORY: repository,
    RESTIC_FROM_PASSWORD: 'bench',
  })
  const copy = (which: Version) => ['restic', 'copy', '--quiet', '--tag', `version${which}`]
  let beforeBytes = 0
  return {
    name,
    tool: 'restic',
    environment,
    prepare: async (folder) => {
      await mkdir(folder, { recursive: true })
      const near = environment(folder, sources.repository)
      const assigned = Object.entries(near).map(([key, value]) => `${key}=${value}`)
      // The same chunker in both, or nothing of the second version would be known in the target.
      const init = ['restic', 'init', '--quiet', '--repository-version', '2', '--copy-chunker-params']
      const told = { doing: 'Making a repository', package: 'restic', timeoutMs: 60_000 }
      await runTool('env', [...assigned, ...init], told)
      if (version === 1) await runCommand(copy(0), { environment: near, result: folder })
      beforeBytes = await sizeOfTree(folder)
      crossed.begin()
    },
    command: () => through(link, copy(version)),
    look: async (folder) => {
      const storedBytes = await sizeOfTree(folder)
      return { movedBytes: storedBytes - beforeBytes, ...crossed.told(), storedBytes }
    },
  }
}

/** It knows no versions, and copies everything each time. `from`: the packed image, or where its bytes are served. */
export function qemuImgCopy(
  name: string,
  sources: CopySources,
  link?: Link,
  from = sources.qcow2,
): Contender {
  const crossed = meter(link)
  return {
    name,
    tool: 'qemu-img',
    package: 'qemu-utils',
    prepare: async () => crossed.begin(),
    command: (folder) =>
      through(link, ['qemu-img', 'convert', '-f', 'qcow2', ...PACKED, from, join(folder, 'disk.qcow2')]),
    look: async (folder) => ({
      movedBytes: await sizeOfTree(sources.qcow2),
      ...crossed.told(),
      storedBytes: await sizeOfTree(folder),
    }),
  }
}

/** The disk itself, by what is different in it. `from`: the module with the disk of this version. */
export function rsyncCopy(
  { name, version }: Copy,
  sources: CopySources,
  link: Link,
  from: string,
): Contender {
  const crossed = meter(link)
  const options = ['--compress', '--zc=zstd', '--inplace', '--no-whole-file', '--sparse', '--ignore-times']
  return {
    name,
    tool: 'rsync',
    prepare: async (folder) => {
      if (version === 1) {
        const words = ['--sparse=always', '--reflink=never', sources.disks[0], join(folder, 'disk.raw')]
        await runCommand(['cp', ...words], { result: folder })
      }
      crossed.begin()
    },
    command: (folder) => through(link, ['rsync', ...options, from, join(folder, 'disk.raw')]),
    look: async () => {
      const told = crossed.told()
      return { ...told, ...(told.linkBytes === undefined ? {} : { movedBytes: told.linkBytes }) }
    },
  }
}
