import assert from 'node:assert/strict'
import { readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { buildOva } from '../../src/disk/formats/ova.fixture.ts'
import { SEEDS } from '../../src/disk/formats/seeds.fixture.ts'
import { run } from '../disks/programs.ts'
import { calotypeOk } from './command-line.ts'
import { assertIsDisk, convert, makeDisk } from './disks.ts'
import { assertSameImages, bring, importRaw, newFiles, ODD_VARIANTS, WAYS } from './same-image.ts'
import { type Begun, beginImport, digestOf, imported } from './transfer-place.ts'

const MIB = 1024 ** 2
const ODD_BYTES = 33 * MIB + 7 * 512

test('a disk of sectors that make no whole chunk is the same image in whatever it comes', async (t) => {
  const isWanted = (way: (typeof WAYS)[number], fileName: string) =>
    way === 'tus' && (fileName === 'disk.raw' || fileName === 'vmdk-stream')
  await assertSameImages(t, ODD_BYTES, ODD_VARIANTS, isWanted)
})

test('files made by hand are the disk that QEMU reads out of them', async (t) => {
  const { place } = await newFiles(t)
  const formats = { vhd: 'vpc' } as Readonly<Record<string, string>>
  const begun: (readonly [string, Begun, Begun])[] = []
  const disks = SEEDS.filter(({ is }) => is === 'disk')
  for (const [index, { name, format, make }] of disks.entries()) {
    const [fileName, rawName] = [`hand-${index}`, `hand-${index}.raw`]
    await writeFile(join(place.imports, fileName), make())
    const [source, target] = [join(place.imports, fileName), join(place.imports, rawName)]
    await run('qemu-img', ['convert', '-f', formats[format] ?? format, '-O', 'raw', source, target])
    const [one, other] = [{ fileName }, { fileName: rawName }]
    begun.push([name, await beginImport(place, one, name), await beginImport(place, other, `${name}, raw`)])
  }
  assert.ok(begun.length >= 13)
  for (const [name, one, other] of begun) {
    assert.equal(digestOf(await imported(place, one)), digestOf(await imported(place, other)), name)
  }
})

test('an archive of a machine is an image with its disks, in their order', async (t) => {
  const files = await newFiles(t)
  const { place } = files
  const sizes = [26 * MIB, ODD_BYTES]
  const disks = await Promise.all(
    sizes.map(async (sizeBytes, index) => {
      const raw = join(place.folder, `${index}.raw`)
      await makeDisk(raw, sizeBytes, 20 + index)
      await convert(raw, `${raw}.vmdk`, 'vmdk', '-o', 'subformat=streamOptimized')
      return { raw, vmdk: await readFile(`${raw}.vmdk`) }
    }),
  )
  for (const count of [1, 2]) {
    const fileName = `machine-${count}.ova`
    await writeFile(
      join(place.imports, fileName),
      buildOva({ disks: disks.slice(0, count).map((disk) => disk.vmdk) }),
    )
    const image = await imported(place, await beginImport(place, { fileName }, fileName))
    assert.match(image.imported?.format ?? '', /^ova: vmdk \(streamOptimized/)
    assert.deepEqual(
      image.disks.map((disk) => disk.sizeBytes),
      sizes.slice(0, count),
    )
    const { cpuCount, memoryBytes, firmware } = image.config
    assert.deepEqual([cpuCount, memoryBytes, firmware], [2, 2048 * MIB, 'uefi'])
    // What is in the disk is believed before what the archive says of it.
    assert.equal(image.osName, 'Debian GNU/Linux 12 (bookworm)')
    const stem = join(place.folder, `out-${count}`)
    const words = ['image', 'export', image.id, '--format', 'raw', '--all-disks']
    await calotypeOk(place, ...words, '-o', stem)
    for (let i = 0; i < count; i++) await assertIsDisk(`${stem}-${i}.raw`, 'raw', disks[i]?.raw ?? '')
    for (const way of count === 1 ? [] : WAYS)
      assert.equal(digestOf(await bring(files, way, fileName, way)), digestOf(image), way)
    const packed = `${fileName}.gz`
    await run('gzip', ['-1k', join(place.imports, fileName)])
    const again = await imported(place, await beginImport(place, { fileName: packed }, packed))
    assert.equal(digestOf(again), digestOf(image))
  }
})

test('what a file says of itself beside its disk is of no matter: another name, another declared format', async (t) => {
  const { place } = await newFiles(t)
  const raw = join(place.imports, 'disk.raw')
  await makeDisk(raw, ODD_BYTES, 31)
  await convert(raw, join(place.imports, 'disk.qcow2'), 'qcow2')
  await rename(join(place.imports, 'disk.qcow2'), join(place.imports, 'disk.vmdk'))
  const wanted = await importRaw(place, 'disk.raw')
  for (const wish of [{}, { format: 'qcow2' }]) {
    const image = await imported(place, await beginImport(place, { fileName: 'disk.vmdk' }, 'named', wish))
    assert.equal(digestOf(image), digestOf(wanted))
  }
})
