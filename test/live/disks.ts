import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { ensureRunDirectory } from '../../src/data-directory.ts'
import type { KeptSpec } from '../../src/host/tools/folders.ts'
import { findId } from '../../src/image/ids.ts'
import { HOME } from '../e2e/failure-steps.ts'
import type { Place } from '../e2e/harness.ts'

// Disks as QEMU's own tools read them: those of images as guests do, through the server's NBD export, those of machines
// from the files that QEMU writes, past everything of ours but the image behind them.

const environment = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` }

export const run = async (program: string, args: readonly string[]) =>
  (await promisify(execFile)(program, args, { env: environment, maxBuffer: 64 * 1024 ** 2 })).stdout

const json = (options: object) => `json:${JSON.stringify(options)}`
const nbd = (socketPath: string, exportName: string) => ({
  driver: 'raw',
  file: { driver: 'nbd', server: { type: 'unix', path: socketPath }, export: exportName },
})

/** A disk of an image, as a name that QEMU's tools take. */
export async function imageDisk(place: Place, digest: string, index: number): Promise<string> {
  const socketPath = join(await ensureRunDirectory(place.data), 'images.sock')
  return json(nbd(socketPath, `${HOME}/${digest}/${index}`))
}

/**
 * A disk of a machine as it is now. What a running guest has not flushed is not there yet, so it must have been told to
 * and be idle.
 */
export async function machineDisk(place: Place, machineId: string, index: number): Promise<string> {
  const folder = join(place.data, 'machines', String(findId('machine', machineId)))
  const { spec } = JSON.parse(await readFile(join(folder, 'spec.json'), 'utf8')) as { spec: KeptSpec }
  const disk = spec.disks[index]
  assert(disk !== undefined)
  const name = disk.overlay === undefined ? `${disk.id}.qcow2` : `${disk.id}-${disk.overlay}.qcow2`
  return json({
    driver: 'qcow2',
    file: { driver: 'file', filename: join(folder, name) },
    backing: disk.base === undefined ? null : nbd(disk.base.socketPath, disk.base.exportName),
  })
}

/** Throws with the offset of the first difference. Nothing is locked: a guest may have one of them. */
export async function assertSameDisk(one: string, other: string, what: string): Promise<void> {
  try {
    await run('qemu-img', ['compare', '-U', one, other])
  } catch (error) {
    const { stdout, stderr } = error as { stdout: string; stderr: string }
    assert.fail(`${what}: ${stdout}${stderr}`)
  }
}

export async function copyDisk(source: string, path: string): Promise<void> {
  await run('qemu-img', ['convert', '-O', 'raw', source, path])
}

const at = (path: string, startBytes: number) => (startBytes === 0 ? path : `${path}?offset=${startBytes}`)

/** Throws unless the file system needs no repair, the replay of its journal included. */
export async function assertClean(path: string, startBytes = 0): Promise<void> {
  const said = await run('dumpe2fs', ['-h', at(path, startBytes)])
  assert.doesNotMatch(said, /needs_recovery/, `${path}: the journal would have to be replayed`)
  try {
    await run('e2fsck', ['-fn', at(path, startBytes)])
  } catch (error) {
    assert.fail(`${path}: ${(error as { stdout: string }).stdout}`)
  }
}

/** The text of a file in a file system that nobody mounts. */
export const textOf = (path: string, file: string, startBytes = 0) =>
  run('debugfs', ['-R', `cat ${file}`, at(path, startBytes)])
