import assert from 'node:assert/strict'
import { test } from 'node:test'
import { refused } from './checks.fixture.ts'
import { bufferSource, countingSource } from './source.ts'
import { buildVmdk, vmdkDescriptor } from './vmdk.fixture.ts'
import { inspectVmdk, vmdkInspector } from './vmdk.ts'

const OPTIONS = { virtualBytesMax: 2 ** 41 }
const CAPACITY = 128

const described = (kind: 'monolithicSparse' | 'streamOptimized', descriptor: string) =>
  inspectVmdk(bufferSource(buildVmdk({ kind, descriptor, capacitySectors: CAPACITY })), OPTIONS)

test('descriptions as products write them are taken', async () => {
  const workstation = [
    '# Disk DescriptorFile\nversion=1\nencoding="windows-1252"\nCID=12ab34cd\nparentCID=ffffffff',
    'isNativeSnapshot="no"\ncreateType="monolithicSparse"\n\n# Extent description',
    `RW ${CAPACITY} SPARSE "Windows 10 x64.vmdk"\n\n# The Disk Data Base\n#DDB\n`,
    'ddb.adapterType = "lsilogic"\nddb.longContentID = "0123456789abcdef0123456789abcdef"',
    'ddb.uuid = "60 00 C2 9a 11 22 33 44-55 66 77 88 99 aa bb cc"\n',
  ].join('\n')
  await described('monolithicSparse', workstation)
  await described('monolithicSparse', workstation.replaceAll('\n', '\r\n'))
  // A name in GBK: whichever alphabet it is in, nobody opens it.
  await described('monolithicSparse', workstation.replace('Windows 10 x64', '\xcf\xb5\xcd\xb3'))
  const box = vmdkDescriptor(
    'streamOptimized',
    [`RW ${CAPACITY} SPARSE "box.vmdk"`],
    'ddb.uuid.parent="00000000-0000-0000-0000-000000000000"',
  )
  await described('streamOptimized', box)
  const ovfTool = vmdkDescriptor('streamOptimized', [`RDONLY ${CAPACITY} SPARSE "dest-0.vmdk"`])
  await described('streamOptimized', ovfTool.replaceAll('"streamOptimized"', 'streamOptimized'))
})

test('a number that tools could not read is refused, wherever it stands', async () => {
  const text = vmdkDescriptor('monolithicSparse', [`RW ${CAPACITY} SPARSE "x"`])
  for (const bad of ['CID=iffffffe', 'CID=', 'CID="fffffffe"', '# CID=-\nCID=fffffffe']) {
    await refused('corrupt', () =>
      described(
        'monolithicSparse',
        text.replace('CID=fffffffe', () => bad),
      ),
    )
  }
})

test('the end of a longer text may be left behind the text, and nothing more', async () => {
  const text = vmdkDescriptor('monolithicSparse', [`RW ${CAPACITY} SPARSE "x"`])
  await described('monolithicSparse', `${text}\0${text.slice(-7)}`)
  await refused('corrupt', () => described('monolithicSparse', `${text}\0${text.slice(-8)}`))
  await refused('corrupt', () => described('monolithicSparse', `${text}\0\0\0\0\0\0\0\0x`))
})

test('a name that could lead out of its folder is refused, and so is a text that nobody can read twice alike', async () => {
  const extent = (name: string) => vmdkDescriptor('monolithicSparse', [`RW ${CAPACITY} SPARSE "${name}"`])
  for (const name of ['/etc/passwd', '../x', 'a/b', 'C:x', 'a\\b', '.', '..', '']) {
    await refused('extents', () => described('monolithicSparse', extent(name)))
  }
  await refused('corrupt', () =>
    described('monolithicSparse', `${extent('x')}\ncreateType="monolithicSparse"`),
  )
  await refused('corrupt', () => described('monolithicSparse', `${extent('x')}\nunknownKey="x"`))
  await refused('corrupt', () => described('monolithicSparse', `${extent('x')}\n\x1b[2J`))
})

test('grains of zeros are told by a bit, and are a place in the header without it', async () => {
  const make = (flags: number) => {
    const file = buildVmdk({ version: 2, patchHeader: (header) => header.writeUInt32LE(flags, 8) })
    file.writeUInt32LE(1, file.readUInt32LE(file.readUInt32LE(56) * 512) * 512 + 4)
    return bufferSource(file)
  }
  assert.equal((await inspectVmdk(make(0b101), OPTIONS)).virtualBytes, CAPACITY * 512)
  await refused('tables', () => inspectVmdk(make(0b1), OPTIONS))
})

test('a second directory has to be inside the file, and nothing more', async () => {
  const make = (sector: bigint) =>
    bufferSource(
      buildVmdk({
        patchHeader: (header) => {
          header.writeUInt32LE(0b11, 8)
          header.writeBigUInt64LE(sector, 48)
        },
      }),
    )
  await inspectVmdk(make(6n), OPTIONS)
  await refused('truncated', () => inspectVmdk(make(99_999n), OPTIONS))
  await refused('truncated', () => inspectVmdk(make(2n ** 64n - 1n), OPTIONS))
  await refused('tables', () => inspectVmdk(make(0n), OPTIONS))
})

test('a large file is read in aligned blocks, each once', async () => {
  const grains = new Map(Array.from({ length: 600 }, (_, index) => [index * 3, Buffer.alloc(4096, index)]))
  const file = buildVmdk({ kind: 'streamOptimized', capacitySectors: 8 * 2000, grains })
  const source = countingSource(bufferSource(file))
  await inspectVmdk(source, OPTIONS)
  assert.ok(source.count.longestBytes <= 256 * 1024)
  assert.ok(source.count.bytes <= 2 * file.length)
})

test('text is a VMDK where some tool would take it for one, and only there', async () => {
  const matches = (text: string) => vmdkInspector.matches(bufferSource(Buffer.from(text.padEnd(1024, '\0'))))
  for (const text of [
    '# Disk DescriptorFile\n',
    ' \n# disk descriptorfile',
    '# x\n\nversion=1\n',
    '\n \nCID=12\n',
    'createType="vmfs"\n',
  ]) {
    assert.ok(await matches(text), text)
  }
  for (const text of [
    '#!/bin/sh\nversion=1.2.3-x; exit\n'.replace('version', 'echo version'),
    'a version=1\n',
    '',
    'KDM',
  ]) {
    assert.ok(!(await matches(text)), text)
  }
})
