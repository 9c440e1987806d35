import assert from 'node:assert/strict'
import { test } from 'node:test'
import { refused } from './checks.fixture.ts'
import { DECLARABLE_FORMATS, type DeclaredFormat, type Inspection, type RefusalReason } from './contract.ts'
import { inspect } from './inspect.ts'
import { buildTar } from './ova.fixture.ts'
import { rawDisk, SEEDS } from './seeds.fixture.ts'
import { bufferSource, countingSource } from './source.ts'

const OPTIONS = { virtualBytesMax: 1024 ** 4 }

const inspectBytes = (bytes: Buffer, declared?: DeclaredFormat): Promise<Inspection> =>
  inspect(bufferSource(bytes), { ...OPTIONS, declared })

function seedBytes(name: string): Buffer {
  const seed = SEEDS.find((candidate) => candidate.name === name)
  assert.ok(seed !== undefined)
  return seed.make()
}

/** `bytes`, long enough, with `text` at an offset. */
function withText(bytes: Buffer, offset: number, text: string): Buffer {
  const file = Buffer.alloc(Math.max(bytes.length, Math.ceil((offset + text.length) / 512) * 512))
  bytes.copy(file)
  file.write(text, offset, 'latin1')
  return file
}

test('every kind of file is told by what it says, and is refused as anything else', async (t) => {
  for (const seed of SEEDS) {
    await t.test(seed.name, async () => {
      const bytes = seed.make()
      const found = await inspectBytes(bytes)
      assert.equal(found.is, seed.is)
      if (found.is === 'disk') assert.equal(found.disk.format, seed.format)
      for (const declared of DECLARABLE_FORMATS) {
        if (declared === seed.format || seed.is === 'packed') {
          assert.deepEqual(await inspectBytes(bytes, declared), found)
        } else await refused('other-format', () => inspectBytes(bytes, declared))
      }
    })
  }
})

test('a raw disk says which table it has, and is otherwise its bytes', async () => {
  const variants = await Promise.all(
    [rawDisk('GPT'), rawDisk('MBR'), rawDisk(undefined)].map((bytes) => inspectBytes(bytes, 'raw')),
  )
  assert.deepEqual(
    variants.map((found) => (found.is === 'disk' ? found.disk : undefined)),
    ['GPT', 'MBR', 'no partition table'].map((variant) => ({
      format: 'raw',
      offset: 0,
      lengthBytes: 32_768,
      virtualBytes: 32_768,
      variant,
    })),
  )
  // A disk with sectors of 4096 bytes has its table further on; the boot sector of a file system has none.
  const large = rawDisk('GPT')
  large.copy(large, 4096, 512, 528)
  large.fill(0, 512, 528)
  assert.equal(variantOf(await inspectBytes(large)), 'GPT')
  const fat = rawDisk('MBR')
  fat.fill(0x33, 440, 510)
  assert.equal(variantOf(await inspectBytes(fat)), 'no partition table')
})

function variantOf(found: Inspection): string | undefined {
  return found.is === 'disk' ? found.disk.variant : undefined
}

test('a raw file that cannot be a disk is refused', async () => {
  await refused('size', () => inspectBytes(Buffer.alloc(0)))
  await refused('size', () => inspectBytes(Buffer.alloc(511)))
  await refused('size', () => inspectBytes(Buffer.alloc(1024 * 1024 + 1), 'raw'))
  await refused('too-large', () =>
    inspect(bufferSource(rawDisk('MBR')), { virtualBytesMax: 32_767, declared: 'raw' }),
  )
  for (const mark of [
    'PK\x03\x04',
    '7z\xbc\xaf\x27\x1c',
    'BZh91AY&SY',
    'MSWIM\0\0\0',
    'WithoutFreeSpace',
    '<!DOCTYPE html>',
    '\x7fELF',
  ]) {
    await refused('unsupported', () => inspectBytes(withText(rawDisk(undefined), 0, mark)))
    await refused('unsupported', () => inspectBytes(withText(rawDisk(undefined), 0, mark), 'raw'))
  }
  await refused('unsupported', () => inspectBytes(withText(rawDisk(undefined), 257, 'ustar\u000000')))
  const dmg = withText(rawDisk('MBR'), 63 * 512, 'koly\0\0\0\x04\0\0\x02\0')
  await refused('unsupported', () => inspectBytes(dmg))
})

test('an ISO is refused as one, hybrid or not, whatever it is said to be', async () => {
  for (const [offset, text] of [
    [32_769, 'CD001'],
    [32_769, 'BEA01'],
    [32_769 + 2048, 'NSR02'],
    [32_769 + 5 * 2048, 'NSR03'],
    [32_777, 'CDROM'],
  ] as const) {
    for (const table of ['GPT', 'MBR', undefined] as const) {
      for (const declared of ['raw', 'qcow2', undefined] as const) {
        await refused('iso', () => inspectBytes(withText(rawDisk(table), offset, text), declared))
      }
    }
  }
})

test('a disk that is encrypted as a whole is refused; one that is encrypted inside is content', async () => {
  await refused('encrypted', () => inspectBytes(withText(rawDisk(undefined), 0, 'LUKS\xba\xbe\0\x01')))
  await refused('encrypted', () => inspectBytes(withText(rawDisk(undefined), 0, 'LUKS\xba\xbe\0\x02'), 'raw'))
  assert.equal(variantOf(await inspectBytes(withText(rawDisk('MBR'), 512, 'LUKS\xba\xbe\0\x02'))), 'MBR')
})

test('a file that is two things is refused, whatever it is said to be', async (t) => {
  const table = rawDisk('MBR').subarray(446, 512)
  const cases: readonly (readonly [name: string, bytes: Buffer])[] = [
    ['qcow2 with partitions', overlay(seedBytes('qcow2, version 2'), 446, table)],
    ['QED with partitions', overlay(seedBytes('QED'), 446, table)],
    ['VDI with partitions', overlay(seedBytes('VDI'), 446, table)],
    ['VHDX with partitions', overlay(seedBytes('VHDX'), 446, table)],
    ['dynamic VHD with partitions', overlay(seedBytes('VHD, dynamic'), 446, table)],
    ['tar with partitions', tarWith(446, table)],
    ['LUKS with partitions', withText(rawDisk('MBR'), 0, 'LUKS\xba\xbe')],
    ['gzip with partitions', withText(rawDisk('MBR'), 0, '\x1f\x8b\x08')],
    ['a bundle with partitions', withText(rawDisk('MBR'), 0, 'CALOBNDL')],
    ['ISO with qcow2', withText(seedBytes('qcow2, version 2'), 32_769, 'CD001')],
    ['ISO with QED', withText(seedBytes('QED'), 32_769, 'CD001')],
    ['ISO with VMDK', withText(seedBytes('VMDK, monolithicSparse'), 32_769, 'CD001')],
    ['ISO with OVA', withText(seedBytes('OVA'), 32_769, 'CD001')],
    ['ISO with LUKS', withText(withText(rawDisk(undefined), 0, 'LUKS\xba\xbe'), 32_769, 'CD001')],
    ['qcow2 with tar', tarWith(0, seedBytes('qcow2, version 2').subarray(0, 72))],
    ['qcow2 with half a tar', withText(seedBytes('qcow2, version 2'), 257, 'ustar\u000000')],
    ['fixed VHD over qcow2', withText(seedBytes('VHD, fixed'), 0, 'QFI\xfb\0\0\0\x03')],
    ['fixed VHD over VMDK', withText(seedBytes('VHD, fixed'), 0, 'KDMV\x01\0\0\0')],
    ['qcow2 with an Apple trailer', atEnd(seedBytes('qcow2, version 2'), 'koly\0\0\0\x04\0\0\x02\0')],
    ['qcow2 with the footer of a VHD', Buffer.concat([seedBytes('qcow2, version 2'), vhdFooter()])],
    ['zstd with the footer of a VHD', Buffer.concat([seedBytes('zstd'), vhdFooter()])],
  ]
  for (const [name, bytes] of cases) {
    await t.test(name, async () => {
      for (const declared of [undefined, 'raw', 'qcow2', 'vhd'] as const) {
        await refused('several-formats', () => inspectBytes(bytes, declared))
      }
    })
  }
})

function overlay(bytes: Buffer, offset: number, patch: Buffer): Buffer {
  const file = Buffer.from(bytes)
  patch.copy(file, offset)
  return file
}

/** With these bytes in its first header, and a sum that is right. */
function tarWith(offset: number, bytes: Buffer): Buffer {
  const patch = (header: Buffer) => {
    bytes.copy(header, offset)
  }
  return buildTar([{ name: 'machine.ovf', bytes: Buffer.alloc(512), patch }])
}

function atEnd(bytes: Buffer, text: string): Buffer {
  return withText(bytes, bytes.length - 512, text)
}

function vhdFooter(): Buffer {
  return seedBytes('VHD, fixed').subarray(-512)
}

test('a file that does not say what it is said to be is refused', async () => {
  for (const declared of DECLARABLE_FORMATS) {
    if (declared !== 'raw') await refused('other-format', () => inspectBytes(rawDisk('MBR'), declared))
  }
})

test('the marks of all formats cost a handful of reads of the two ends', async () => {
  const source = countingSource({
    sizeBytes: 2 ** 50,
    read: (_offset, lengthBytes) => Promise.resolve(Buffer.alloc(lengthBytes)),
  })
  await inspect(source, { virtualBytesMax: 2 ** 50 })
  assert.ok(source.count.calls < 20 && source.count.bytes < 1024 * 1024, JSON.stringify(source.count))
})

test('what the source says passes through, and an abort ends the work', async () => {
  const broken = { sizeBytes: 4096, read: () => Promise.reject(new Error('the source is gone')) }
  await assert.rejects(inspect(broken, OPTIONS), /the source is gone/)
  await assert.rejects(
    inspect(bufferSource(seedBytes('qcow2, version 3')), { ...OPTIONS, signal: AbortSignal.abort() }),
    { name: 'AbortError' },
  )
})

test('each reason says one thing', async () => {
  // No text of a file comes into a message: these hold a mark that is searched for.
  const secret = 'SeCrEt'
  const reasons: RefusalReason[] = []
  for (const name of ['qcow2, version 3', 'QED', 'VDI']) {
    const bytes = seedBytes(name)
    for (let at = 4; at < 104; at += 4) {
      const file = overlay(bytes, at, Buffer.from(secret))
      const error: unknown = await inspectBytes(file).catch((thrown: unknown) => thrown)
      if (!(error instanceof Error)) continue
      assert.ok(!error.message.includes(secret))
      if ('reason' in error) reasons.push(error.reason as RefusalReason)
    }
  }
  assert.ok(new Set(reasons).size >= 5, reasons.join(' '))
})
