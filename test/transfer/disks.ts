import assert from 'node:assert/strict'
import { mkdir, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { sparseContent } from '../../src/disk/fixture.ts'
import { copyInto, makeFile, run } from '../disks/programs.ts'

const MIB = 1024 ** 2
const SECTOR_BYTES = 512

/**
 * A raw disk with a GPT and an ext4 in it, a few of its megabytes full, most of it holes. Its size may be any multiple of
 * 512 above 8 MiB.
 */
export async function makeDisk(path: string, sizeBytes: number, seed: number): Promise<void> {
  const volumeBytes = Math.floor(sizeBytes / MIB - 3) * MIB
  const tree = `${path}.tree`
  const volume = `${path}.volume`
  await mkdir(join(tree, 'etc'), { recursive: true })
  await writeFile(
    join(tree, 'etc', 'os-release'),
    'ID=debian\nNAME="Debian GNU/Linux"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\n',
  )
  await writeFile(join(tree, 'noise'), sparseContent(3 * MIB, seed))
  await writeFile(join(tree, 'text'), 'What compresses well, and again. '.repeat(60_000))
  await makeFile(volume, volumeBytes)
  await run('mke2fs', ['-q', '-F', '-t', 'ext4', '-d', tree, volume])
  await makeFile(path, sizeBytes)
  await copyInto(volume, path, MIB)
  const part = `start=${MIB / SECTOR_BYTES}, size=${volumeBytes / SECTOR_BYTES}, type=L\n`
  await run('sfdisk', ['--quiet', path], `label: gpt\n${part}`)
  await Promise.all([tree, volume].map((one) => rm(one, { recursive: true })))
}

/** A file in QEMU's format of that name, out of a raw one. */
export const convert = (raw: string, path: string, format: string, ...more: string[]): Promise<string> =>
  run('qemu-img', ['convert', '-f', 'raw', '-O', format, ...more, raw, path])

/** Throws unless a file in QEMU's format of that name is exactly this disk. */
export async function assertIsDisk(path: string, format: string, raw: string): Promise<void> {
  if (format === 'raw') return void (await run('cmp', [path, raw]))
  await run('qemu-img', ['compare', '-f', format, '-F', 'raw', path, raw])
  const told = JSON.parse(await run('qemu-img', ['info', '--output=json', '-f', format, path]))
  assert.equal(told['virtual-size'], (await stat(raw)).size)
}
