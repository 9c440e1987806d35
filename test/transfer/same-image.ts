import assert from 'node:assert/strict'
import { createReadStream } from 'node:fs'
import { copyFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import type { ShownImageWhole } from '../../src/wire/native/show.ts'
import { run } from '../disks/programs.ts'
import { HOME } from '../e2e/failure-steps.ts'
import { calotypeFed, calotypeOk } from './command-line.ts'
import { assertIsDisk, convert, makeDisk } from './disks.ts'
import { type Origin, startOrigin } from './origin.ts'
import {
  type Begun,
  beginImport,
  digestOf,
  getImage,
  imported,
  newTransferPlace,
  type TransferPlace,
} from './transfer-place.ts'
import { sendByTus } from './tus.ts'

const MIB = 1024 ** 2

export type Made = readonly [name: string, format: string, ...more: string[]]

/** Whatever holds disks of any multiple of 512. */
export const ODD_VARIANTS: readonly Made[] = [
  ['qcow2-2', 'qcow2', '-o', 'compat=0.10'],
  ['qcow2-3-zstd', 'qcow2', '-c', '-o', 'compression_type=zstd'],
  ['qcow2-extended', 'qcow2', '-o', 'extended_l2=on,cluster_size=128k'],
  ['qcow2-small', 'qcow2', '-o', 'cluster_size=512'],
  ['vmdk-sparse', 'vmdk', '-o', 'subformat=monolithicSparse'],
  ['vmdk-stream', 'vmdk', '-o', 'subformat=streamOptimized'],
  ['vdi-dynamic', 'vdi'],
  ['vdi-static', 'vdi', '-o', 'static=on'],
  ['vhd-dynamic', 'vpc', '-o', 'subformat=dynamic,force_size=on'],
  ['vhd-fixed', 'vpc', '-o', 'subformat=fixed,force_size=on'],
  ['qed', 'qed'],
]
/** Each kind of work once: as it is, a stream of compressed pieces, and packed. By every way. */
export const KINDS = ['disk.raw', 'vmdk-stream', 'disk.qcow2.zst']
const PACKERS = [
  ['gz', 'gzip', '-1k'],
  ['xz', 'xz', '-0kT1'],
  ['zst', 'zstd', '-q', '-1'],
] as const

/** The ways in, beside the import folder. */
export const WAYS = ['tus', 'address', 'command line', 'pipe'] as const

export interface Files {
  readonly place: TransferPlace
  readonly origin: Origin
}

/** Brings one file of the import folder in by another way than that. */
export async function bring(
  { place, origin }: Files,
  way: (typeof WAYS)[number],
  fileName: string,
  name: string,
): Promise<ShownImageWhole> {
  const path = join(place.imports, fileName)
  if (way === 'tus') {
    // Parts that are neither whole chunks nor whole sectors.
    const chunkSize = 5 * MIB + 777
    return imported(place, await sendByTus(place.server, path, name, { chunkSize }))
  }
  if (way === 'address') return imported(place, await beginImport(place, { url: origin.url(fileName) }, name))
  const words = ['image', 'import', '--name', name, '--region', HOME, '--json', '--part-size', '7MiB']
  const said =
    way === 'pipe'
      ? await calotypeFed(place, createReadStream(path), ...words, '-')
      : await calotypeOk(place, ...words, path)
  const { image } = JSON.parse(said) as { image: ShownImageWhole }
  return getImage(place, image.id)
}

export async function newFiles(t: TestContext): Promise<Files> {
  const place = await newTransferPlace(t)
  const origin = await startOrigin(place.imports)
  t.after(() => origin.close())
  return { place, origin }
}

/** The raw disk as an image, which everything else that is made of it has to equal. */
export async function importRaw(place: TransferPlace, fileName: string): Promise<ShownImageWhole> {
  return imported(place, await beginImport(place, { fileName }, fileName))
}

/**
 * A disk of so many bytes, in whatever it may come: each file is the same image as the raw one, with the same facts. Comes
 * from the import folder, and by every way where `isWanted` says so.
 */
export async function assertSameImages(
  t: TestContext,
  sizeBytes: number,
  variants: readonly Made[],
  isWanted: (way: (typeof WAYS)[number], fileName: string, index: number) => boolean,
): Promise<void> {
  const files = await newFiles(t)
  const { place } = files
  const raw = join(place.imports, 'disk.raw')
  await makeDisk(raw, sizeBytes, sizeBytes)
  const wanted = await importRaw(place, 'disk.raw')
  assert.equal(wanted.osType, 'Linux')
  assert.equal(wanted.osName, 'Debian GNU/Linux 12 (bookworm)')
  assert.match(wanted.imported?.format ?? '', /^raw \(GPT\)$/)
  const exported = join(place.folder, 'exported.raw')
  await calotypeOk(place, 'image', 'export', wanted.id, '--format', 'raw', '-o', exported)
  await assertIsDisk(exported, 'raw', raw)

  const names: string[] = []
  for (const [name, format, ...more] of variants) {
    await convert(raw, join(place.imports, name), format, ...more)
    names.push(name)
  }
  await copyFile(join(place.imports, 'qcow2-3-zstd'), join(place.imports, 'disk.qcow2'))
  for (const source of ['disk.raw', 'disk.qcow2']) {
    for (const [ending, program, ...words] of PACKERS) {
      await run(program, [...words, join(place.imports, source)])
      names.push(`${source}.${ending}`)
    }
  }
  const check = (image: ShownImageWhole, told: string) => {
    assert.equal(digestOf(image), digestOf(wanted), told)
    assert.deepEqual(image.disks, wanted.disks, told)
    assert.deepEqual(image.config, wanted.config, told)
    assert.deepEqual([image.osType, image.osName], [wanted.osType, wanted.osName], told)
  }
  const begun: (readonly [string, Begun])[] = []
  for (const fileName of names) begun.push([fileName, await beginImport(place, { fileName }, fileName)])
  for (const [fileName, one] of begun) check(await imported(place, one), fileName)
  await Promise.all(
    WAYS.map(async (way) => {
      for (const fileName of ['disk.raw', ...names].filter((name, index) => isWanted(way, name, index))) {
        const told = `${fileName} by ${way}`
        check(await bring(files, way, fileName, told), told)
      }
    }),
  )
}
