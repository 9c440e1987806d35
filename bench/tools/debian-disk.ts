import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { runTool } from '../../src/host/tools/run.ts'
import { type BenchDisk, ensureDisk } from './data.ts'
import { isInstalled } from './machine.ts'

// D2: the disk of a real Debian, as somebody sets a desktop up: a kernel with its modules, systemd, ssh, python, git, a
// browser. About 1.3 GiB of files in an ext4 of 6 GiB.

const SUITE = 'bookworm'
const PACKAGES = [
  ...['linux-image-amd64', 'systemd-sysv', 'openssh-server', 'python3', 'git', 'vim'],
  ...['firefox-esr', 'fonts-dejavu'],
]
const DISK_SIZE = '6G'
const BUILD_TIMEOUT_MS = 1_200_000

function whyNot(): string | undefined {
  if (!isInstalled('mmdebstrap')) return 'mmdebstrap is not installed (package mmdebstrap)'
  if (!isInstalled('mke2fs')) return 'mke2fs is not installed (package e2fsprogs)'
  // The files of a system belong to many users.
  return process.getuid?.() === 0 ? undefined : 'only root can build the disk'
}

async function build(path: string): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'calo-debian-'))
  try {
    const root = join(folder, 'root')
    await runTool('mmdebstrap', ['--variant=important', `--include=${PACKAGES.join(',')}`, SUITE, root], {
      doing: 'Building a Debian',
      package: 'mmdebstrap',
      timeoutMs: BUILD_TIMEOUT_MS,
    })
    await runTool('mke2fs', ['-q', '-t', 'ext4', '-d', root, path, DISK_SIZE], {
      doing: 'Making a file system',
      package: 'e2fsprogs',
      timeoutMs: BUILD_TIMEOUT_MS,
    })
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

export const debianDisk: BenchDisk = {
  name: 'Debian disk',
  whyNot,
  ensure: (say) =>
    ensureDisk('debian.raw', async (path) => {
      say('building the Debian disk from its packages, once: a few minutes')
      await build(path)
    }),
}
