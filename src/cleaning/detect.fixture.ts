import { copyFile, mkdir, open, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { NtfsImage } from '../volume/ntfs/scrub.fixture.ts'
import { buildHive } from '../volume/registry/hive.fixture.ts'
import { emptyDisk, tool } from '../volume/tools.fixture.ts'

/** Small disks of systems, as far as a look at them goes; all in `folder`, which is the caller's. */

const MIB = 1024 * 1024
const SECTOR_BYTES = 512
export const DEBIAN = 'Debian GNU/Linux 12 (bookworm)'

/** What is on a partition, and of which type it is. */
export interface Part {
  readonly path?: string
  readonly sizeBytes: number
  readonly type: string
}

/** An ext4 volume with /etc/os-release as Debian has it: a link. */
export async function linuxVolume(folder: string, sizeBytes = 4 * MIB): Promise<string> {
  const tree = join(folder, 'tree')
  await mkdir(join(tree, 'usr/lib'), { recursive: true })
  await mkdir(join(tree, 'etc'))
  await writeFile(join(tree, 'usr/lib/os-release'), `PRETTY_NAME="${DEBIAN}"\nID=debian\n`)
  await symlink('../usr/lib/os-release', join(tree, 'etc/os-release'))
  const path = await emptyDisk(join(folder, 'linux'), sizeBytes)
  await tool('mke2fs', ['-q', '-F', '-t', 'ext4', '-b', '4096', '-d', tree, path])
  return path
}

/** An NTFS volume with a Windows 11's hive, which calls it 10. */
export async function windowsVolume(folder: string, hiveBytes = 0): Promise<string> {
  const values = { ProductName: 'Windows 10 Pro', CurrentBuild: '22631', DisplayVersion: '23H2' }
  const keys = { Microsoft: { keys: { 'Windows NT': { keys: { CurrentVersion: { values } } } } } }
  const path = join(folder, 'windows')
  const image = await NtfsImage.create(6 * MIB + 2 * hiveBytes)
  try {
    await image.mounted(async (root) => await fillWindows(root, buildHive({ keys }), hiveBytes))
    await copyFile(image.path, path)
  } finally {
    await image[Symbol.asyncDispose]()
  }
  return path
}

/** `hiveBytes`: what the file with the hive has at least; a reader has to take all of it. */
async function fillWindows(root: string, hive: Buffer, hiveBytes: number): Promise<void> {
  const config = join(root, 'Windows/System32/config')
  await mkdir(config, { recursive: true })
  const rest = Buffer.alloc(Math.max(0, hiveBytes - hive.length), 1)
  await writeFile(join(config, 'SOFTWARE'), Buffer.concat([hive, rest]))
  await writeFile(join(root, 'hiberfil.sys'), Buffer.alloc(8192, 'HIBR'))
}

/** A FAT volume with a loader for EFI. */
export async function loaderVolume(folder: string): Promise<string> {
  const path = await emptyDisk(join(folder, 'loader'), 2 * MIB)
  await tool('mkfs.vfat', [path])
  await tool('mmd', ['-i', path, '::EFI', '::EFI/BOOT'])
  await writeFile(join(folder, 'BOOTX64.EFI'), 'MZ')
  await tool('mcopy', ['-i', path, join(folder, 'BOOTX64.EFI'), '::EFI/BOOT/BOOTX64.EFI'])
  return path
}

/** A disk with those parts, the first at 1 MiB. `code`: the beginning of its first sector. */
export async function diskOf(
  path: string,
  label: 'gpt' | 'dos',
  parts: readonly Part[],
  code = '',
): Promise<string> {
  let end = MIB
  const lines: string[] = []
  const contents: [number, Buffer][] = []
  for (const { path: content, sizeBytes, type } of parts) {
    lines.push(`start=${end / SECTOR_BYTES}, size=${sizeBytes / SECTOR_BYTES}, type=${type}`)
    if (content !== undefined) contents.push([end, await readFile(content)])
    end += sizeBytes
  }
  await emptyDisk(path, end + MIB)
  await tool('sfdisk', ['-q', path], `label: ${label}\n${lines.join('\n')}\n`)
  const file = await open(path, 'r+')
  try {
    if (code !== '') await file.write(code, 0)
    for (const [offset, bytes] of contents) await file.write(bytes, 0, bytes.length, offset)
  } finally {
    await file.close()
  }
  return path
}
