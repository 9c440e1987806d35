import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { runTool } from '../../src/host/tools/run.ts'
import { ourCommand, ourEnvironment } from './calotype.ts'
import { type Contender, sizeOfTree } from './measure.ts'

// What a capture is compared with. Each is set to zstd at the level that it and we would use every day.

const stored = async (folder: string) => ({ storedBytes: await sizeOfTree(folder) })

/**
 * A capture by us: the time that counts is from the request to the commit, when everything is durable, in a process
 * that runs already, as the server does. `way` 'nbd' reads the disk as that of a machine, 'file' as an import does.
 */
export function calotypeCapture(
  name: string,
  disk: string,
  { way = 'file', session = 'bench' }: { readonly way?: 'file' | 'nbd'; readonly session?: string } = {},
): Contender {
  return {
    name,
    environment: ourEnvironment,
    command: (folder) => ourCommand('ours-capture.ts', disk, folder, session, way),
    secondsOf: (said) => (JSON.parse(said) as { jobSeconds: number }).jobSeconds,
    look: async (folder, said) => {
      const { dataBytes } = JSON.parse(said) as { dataBytes: number }
      return { ...(await stored(folder)), dataBytes }
    },
  }
}

export function qemuImgCapture(name: string, disk: string): Contender {
  const options = ['-f', 'raw', '-O', 'qcow2', '-c', '-o', 'compression_type=zstd', '-m', '16', '-W']
  return {
    name,
    tool: 'qemu-img',
    package: 'qemu-utils',
    command: (folder) => ['qemu-img', 'convert', ...options, disk, join(folder, 'disk.qcow2')],
    look: stored,
  }
}

export const resticEnvironment = (repository: string) => ({
  RESTIC_REPOSITORY: repository,
  RESTIC_PASSWORD: 'bench',
  RESTIC_CACHE_DIR: join(repository, '..', 'restic-cache'),
})

export async function initRestic(repository: string, more: readonly string[] = []): Promise<void> {
  await mkdir(repository, { recursive: true })
  await runTool(
    'env',
    [...assignments(repository), 'restic', 'init', '--quiet', '--repository-version', '2', ...more],
    {
      doing: 'Making a restic repository',
      package: 'restic',
      timeoutMs: 60_000,
    },
  )
}

export const assignments = (repository: string) =>
  Object.entries(resticEnvironment(repository)).map(([name, value]) => `${name}=${value}`)

/** Content-defined chunks, always encrypted. Making the repository is not in the time. */
export function resticCapture(name: string, disk: string): Contender {
  return {
    name,
    tool: 'restic',
    environment: resticEnvironment,
    prepare: initRestic,
    command: () => ['sh', '-c', 'restic backup --quiet --stdin --stdin-filename disk < "$1"', 'sh', disk],
    look: stored,
  }
}

/** Of a repository in `folder`; what borg keeps beside it is beside it, so that both can be copied together. */
const borgEnvironment = (folder: string) => ({
  BORG_BASE_DIR: `${folder}-borg`,
  BORG_PASSPHRASE: 'bench',
  BORG_RELOCATED_REPO_ACCESS_IS_OK: 'yes',
})

/** Fixed chunks as large as ours, encrypted as ours are. Making the repository is not in the time. */
export function borgCapture(name: string, disk: string, archive = 'one'): Contender {
  const repository = (folder: string) => join(folder, 'repository')
  return {
    name,
    tool: 'borg',
    package: 'borgbackup',
    environment: borgEnvironment,
    prepare: async (folder) => {
      const words = Object.entries(borgEnvironment(folder)).map(([key, value]) => `${key}=${value}`)
      await runTool('env', [...words, 'borg', 'init', '-e', 'repokey-blake2', repository(folder)], {
        doing: 'Making a borg repository',
        package: 'borgbackup',
        timeoutMs: 60_000,
      })
    },
    command: (folder) => [
      ...['borg', 'create', '--sparse', '--chunker-params', 'fixed,262144', '-C', 'zstd,1'],
      ...[`${repository(folder)}::${archive}`, disk],
    ],
    look: stored,
  }
}

/** No store at all, one stream: what the machine gives at this level of compression. */
export function zstdLimit(name: string, disk: string): Contender {
  return {
    name,
    tool: 'zstd',
    command: (folder) => ['zstd', '-1', '-T2', '--quiet', disk, '-o', join(folder, 'disk.zst')],
    look: stored,
  }
}
