import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { crc32 } from 'node:zlib'
import { isFault } from '../image/fault.ts'
import type { DiskLayout } from './contract.ts'
import { findVolumes } from './disk-layout.ts'
import { MemoryMedium } from './memory-medium.fixture.ts'
import { emptyDisk, randomFrom, tool, withFolder } from './tools.fixture.ts'

const MEBIBYTE = 1024 * 1024
const DISK_BYTES = 128 * MEBIBYTE

async function partitioned(folder: string, script: string): Promise<MemoryMedium> {
  const path = await emptyDisk(join(folder, 'disk.raw'), DISK_BYTES)
  await tool('sfdisk', ['-q', path], script)
  return MemoryMedium.of(await readFile(path))
}

type Maker = 'ntfs' | 'ext4' | 'ext2' | 'vfat' | 'swap'

const MAKERS: Record<Maker, (path: string) => Promise<string>> = {
  ntfs: (path) => tool('mkntfs', ['-F', '-Q', '-q', path]),
  ext4: (path) => tool('mke2fs', ['-q', '-F', '-t', 'ext4', path]),
  ext2: (path) => tool('mke2fs', ['-q', '-F', '-t', 'ext2', path]),
  vfat: (path) => tool('mkfs.vfat', [path]),
  swap: (path) => tool('mkswap', ['-q', path]),
}

async function made(folder: string, maker: Maker, sizeBytes: number): Promise<Buffer> {
  const path = await emptyDisk(join(folder, maker), sizeBytes)
  await MAKERS[maker](path)
  return await readFile(path)
}

function told({ scheme, volumes }: DiskLayout): string[] {
  return [scheme, ...volumes.map(({ partition, kind, title }) => `${partition} ${kind} ${title}`)]
}

function isRefusal(reason: string): (error: unknown) => boolean {
  return (error) => isFault(error, 'conflict') && error.subject === 'volume' && error.reason === reason
}

/** A disk that takes its time, made for the first who asks; everybody has a copy. */
function madeOnce(make: (folder: string) => Promise<MemoryMedium>): () => Promise<MemoryMedium> {
  let disk: Promise<MemoryMedium> | undefined
  return async () => {
    disk ??= withFolder(make)
    return (await disk).copy()
  }
}

const GPT_SCRIPT = `label: gpt
start=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649
start=4096, size=16384, type=U
start=20480, size=2048, type=E3C9E316-0B5C-4DB8-817D-F92DF00215AE
start=24576, size=32768, type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7
start=57344, size=32768, type=L
start=90112, size=4096, type=S
start=94208, size=4096, type=L
start=98304, size=4096, type=L
`

const gptDisk = madeOnce(async (folder) => {
  const medium = await partitioned(folder, GPT_SCRIPT)
  await medium.write(2048 * 512, Buffer.alloc(30_000, 'boot'))
  await medium.write(4096 * 512, await made(folder, 'vfat', 16384 * 512))
  await medium.write(20480 * 512 + 700, Buffer.from('what was here before'))
  await medium.write(24576 * 512, await made(folder, 'ntfs', 32768 * 512))
  await medium.write(57344 * 512, await made(folder, 'ext4', 32768 * 512))
  await medium.write(90112 * 512, await made(folder, 'swap', 4096 * 512))
  await medium.write(98304 * 512 + 2_000_000, Buffer.from('something'))
  return medium
})

const GPT_TOLD = [
  'gpt',
  '1 boot-code boot code',
  '2 vfat FAT12',
  '3 empty Microsoft reserved',
  '4 ntfs NTFS',
  '5 ext4 ext4',
  '6 swap Linux swap',
  '7 empty empty',
  '8 other an unknown file system',
]

test('a GUID partition table: every kind of volume, and the gaps', async () => {
  const layout = await findVolumes(await gptDisk())
  assert.deepEqual(told(layout), GPT_TOLD)
  const tailBytes = 33 * 512
  assert.deepEqual(layout.gaps, [
    // Behind the table: no boot loader lives there.
    { offset: 34 * 512, lengthBytes: MEBIBYTE - 34 * 512 },
    { offset: 22528 * 512, lengthBytes: 2048 * 512 },
    { offset: 102400 * 512, lengthBytes: DISK_BYTES - 102400 * 512 - tailBytes },
  ])
  assert.equal(layout.volumes.at(-1)?.reason, 'unsupported')
})

test('the last copy of a GUID partition table stands in for the first; without both the disk is refused', async () => {
  const medium = await gptDisk()
  await medium.write(512 + 40, Buffer.of(99))
  assert.deepEqual(told(await findVolumes(medium)), GPT_TOLD)
  const other = await gptDisk()
  await other.write(1024 + 5, Buffer.of(99))
  assert.deepEqual(told(await findVolumes(other)), GPT_TOLD)
  // Half of the last copy is enough to lose it.
  await other.write(DISK_BYTES - 33 * 512 + 5, Buffer.of(99))
  await assert.rejects(findVolumes(other), isRefusal('damaged'))
})

/** A table by hand, for what sfdisk would not write. */
async function withGuidTable(
  sectorBytes: number,
  partitions: readonly (readonly [first: number, last: number])[],
): Promise<MemoryMedium> {
  const medium = new MemoryMedium(64 * MEBIBYTE)
  const sectors = medium.sizeBytes / sectorBytes
  const entries = Buffer.alloc(128 * 128)
  for (const [index, [first, last]] of partitions.entries()) {
    Buffer.from('AF3DC60F838472478E793D69D8477DE4', 'hex').copy(entries, index * 128)
    entries.writeBigUInt64LE(BigInt(first), index * 128 + 32)
    entries.writeBigUInt64LE(BigInt(last), index * 128 + 40)
  }
  const tableSectors = Math.ceil(entries.length / sectorBytes)
  for (const [here, there, table] of [
    [1, sectors - 1, 2],
    [sectors - 1, 1, sectors - 1 - tableSectors],
  ] as const) {
    const header = Buffer.alloc(92)
    header.write('EFI PART')
    header.writeUInt32LE(0x10000, 8)
    header.writeUInt32LE(92, 12)
    for (const [at, value] of [
      [24, here],
      [32, there],
      [40, 2 + tableSectors],
      [48, sectors - 2 - tableSectors],
      [72, table],
    ] as const) {
      header.writeBigUInt64LE(BigInt(value), at)
    }
    header.writeUInt32LE(128, 80)
    header.writeUInt32LE(128, 84)
    header.writeUInt32LE(crc32(entries), 88)
    header.writeUInt32LE(crc32(header), 16)
    await medium.write(here * sectorBytes, header)
    await medium.write(table * sectorBytes, entries)
  }
  await medium.write(446, Buffer.from('00000200eeffffff01000000ffffffff', 'hex'))
  await medium.write(510, Buffer.of(0x55, 0xaa))
  return medium
}

test('sectors of 4096 bytes, overlapping partitions and those outside', async () => {
  const large = await findVolumes(await withGuidTable(4096, [[512, 1023]]))
  assert.deepEqual(large.volumes, [
    { offset: 2 * MEBIBYTE, lengthBytes: 2 * MEBIBYTE, partition: 1, kind: 'empty', title: 'empty' },
  ])
  assert.deepEqual(large.gaps.at(-1), { offset: 4 * MEBIBYTE, lengthBytes: 60 * MEBIBYTE - 5 * 4096 })
  for (const partitions of [
    [
      [4096, 8191],
      [8191, 9000],
    ],
    [[4096, 4_000_000_000]],
    [[8192, 4096]],
    [[1, 4096]],
  ] as const) {
    await assert.rejects(findVolumes(await withGuidTable(512, partitions)), isRefusal('damaged'))
  }
})

test('a hybrid MBR must say the same as the GUID table', async () => {
  const medium = await withGuidTable(512, [[4096, 8191]])
  const entry = Buffer.alloc(16)
  entry.writeUInt8(7, 4)
  entry.writeUInt32LE(4096, 8)
  entry.writeUInt32LE(4096, 12)
  await medium.write(462, entry)
  assert.deepEqual(told(await findVolumes(medium)), ['gpt', '1 empty empty'])
  entry.writeUInt32LE(5000, 12)
  await medium.write(462, entry)
  await assert.rejects(findVolumes(medium), isRefusal('unsupported'))
})

const MBR_SCRIPT = `label: dos
start=2048, size=32768, type=7, bootable
start=34816, size=2048, type=41
start=36864, size=131072, type=f
start=38912, size=32768, type=83
start=73728, size=4096, type=82
start=79872, size=16384, type=c
`

const mbrDisk = madeOnce(async (folder) => {
  const medium = await partitioned(folder, MBR_SCRIPT)
  await medium.write(2048 * 512, await made(folder, 'ntfs', 32768 * 512))
  await medium.write(38912 * 512, await made(folder, 'ext2', 32768 * 512))
  await medium.write(73728 * 512, await made(folder, 'swap', 4096 * 512))
  await medium.write(79872 * 512, await made(folder, 'vfat', 16384 * 512))
  return medium
})

test('an MBR with logical partitions', async () => {
  const medium = await mbrDisk()
  const withoutCode = await findVolumes(medium)
  assert.deepEqual(withoutCode.gaps[0], { offset: 512, lengthBytes: MEBIBYTE - 512 })
  await medium.write(0, Buffer.from([0xeb, 0x63]))
  const layout = await findVolumes(medium)
  assert.deepEqual(told(layout), [
    'mbr',
    '1 ntfs NTFS',
    '2 boot-code boot code',
    '5 ext4 ext2',
    '6 swap Linux swap',
    '7 vfat FAT12',
  ])
  const covered = [...layout.gaps, ...layout.volumes].reduce((sum, { lengthBytes }) => sum + lengthBytes, 0)
  // All but the boot loader's first MiB and the three sectors of tables in the extended partition.
  assert.equal(covered, DISK_BYTES - MEBIBYTE - 3 * 512)
})

test('a chain of logical partitions that goes in circles or astray is refused', async () => {
  const original = await mbrDisk()
  const first = 36864 * 512
  for (const [at, value] of [
    [first + 462 + 8, 0],
    [first + 462 + 8, 4_000_000],
    [first + 446 + 8, 0],
    [first + 446 + 12, 4_000_000],
    [first + 508, 0],
  ] as const) {
    const medium = original.copy()
    const bytes = Buffer.alloc(4)
    bytes.writeUInt32LE(value)
    await medium.write(at, bytes)
    await assert.rejects(findVolumes(medium), isRefusal('damaged'), `${at - first} ${value}`)
  }
})

test('a disk without a table is one volume', () =>
  withFolder(async (folder) => {
    for (const [maker, kind] of [
      ['ntfs', 'ntfs'],
      ['ext4', 'ext4'],
      ['ext2', 'ext4'],
      ['vfat', 'vfat'],
      ['swap', 'swap'],
    ] as const) {
      const bytes = await made(folder, maker, 20 * MEBIBYTE)
      const { scheme, volumes, gaps } = await findVolumes(MemoryMedium.of(bytes))
      assert.deepEqual([scheme, volumes.length, volumes[0]?.kind, gaps], ['none', 1, kind, []])
      assert.deepEqual([volumes[0]?.offset, volumes[0]?.lengthBytes], [0, bytes.length])
    }
  }))

test('an empty disk of any size is told apart at once; a byte at its end is found', async () => {
  const medium = new MemoryMedium(4 * 1024 ** 4)
  assert.deepEqual(told(await findVolumes(medium)), ['none', '0 empty empty'])
  assert.ok(medium.counts.readBytes < 2 * MEBIBYTE)
  await medium.write(medium.sizeBytes - 1, Buffer.of(1))
  assert.deepEqual(told(await findVolumes(medium)), ['none', '0 other an unknown file system'])
  for (const sizeBytes of [0, 1, 511, 512, 1000, 4096, 70_000]) {
    assert.deepEqual(told(await findVolumes(new MemoryMedium(sizeBytes))), ['none', '0 empty empty'])
  }
})

test('an empty table: without data nothing is there, with data it is not known', async () => {
  const medium = new MemoryMedium(64 * MEBIBYTE)
  await medium.write(440, Buffer.of(1, 2, 3, 4))
  await medium.write(510, Buffer.of(0x55, 0xaa))
  assert.deepEqual(await findVolumes(medium), {
    scheme: 'mbr',
    volumes: [],
    gaps: [{ offset: MEBIBYTE, lengthBytes: 63 * MEBIBYTE }],
  })
  await medium.write(30 * MEBIBYTE, Buffer.of(1))
  assert.deepEqual(told(await findVolumes(medium)), ['none', '0 other an unknown file system'])
})

const LUKS = 'LUKS\xba\xbe\0\x02'
const RAID = Buffer.alloc(256)
RAID.writeUInt32LE(0xa92b4efc, 0)
RAID.writeUInt32LE(1, 4)

const SIGNED: readonly (readonly [title: string, reason: string, offset: number, bytes: string | Buffer])[] =
  [
    ['LUKS', 'encrypted', 0, LUKS],
    ['LUKS', 'encrypted', 0x4000, 'SKUL\xba\xbe\0\x02'],
    ['BitLocker', 'encrypted', 3, '-FVE-FS-'],
    ['BitLocker', 'encrypted', 424, Buffer.from('3bd66749292ed84a8399f6a339e3d001', 'hex')],
    ['ReFS', 'unsupported', 3, 'ReFS\0\0\0\0'],
    ['XFS', 'unsupported', 0, 'XFSB'],
    ['btrfs', 'unsupported', 65600, '_BHRfS_M'],
    ['LVM', 'unsupported', 512, `LABELONE${'\0'.repeat(16)}LVM2 001`],
    ['ISO 9660', 'unsupported', 32769, 'CD001'],
    ['DRBD', 'unsupported', 8 * MEBIBYTE - 4096 + 60, '\x83\x74\x02\x6d'],
    ['Linux RAID', 'unsupported', 8 * MEBIBYTE - 65536, Buffer.from('fc4e2ba900000000', 'hex')],
    ['Linux RAID', 'unsupported', 0, RAID],
  ]

test('what is known and cannot be cleaned says what it is', async () => {
  for (const [title, reason, offset, bytes] of SIGNED) {
    const medium = new MemoryMedium(8 * MEBIBYTE)
    await medium.write(offset, Buffer.from(bytes as string, 'latin1'))
    const [volume] = (await findVolumes(medium)).volumes
    assert.deepEqual([volume?.kind, volume?.title, volume?.reason], ['other', title, reason])
  }
  for (const signature of ['S1SUSPEND\0', 'LINHIB0001', 'ULSUSPEND\0']) {
    const medium = new MemoryMedium(8 * MEBIBYTE)
    await medium.write(4086, Buffer.from(signature))
    assert.equal((await findVolumes(medium)).volumes[0]?.reason, 'hibernated')
  }
})

test('two file systems at once, a file system beneath a table, and a member of a RAID are nobody else', () =>
  withFolder(async (folder) => {
    const ntfs = MemoryMedium.of(await made(folder, 'ntfs', 20 * MEBIBYTE))
    await ntfs.write(1024, (await made(folder, 'ext4', 20 * MEBIBYTE)).subarray(1024, 2048))
    assert.deepEqual(told(await findVolumes(ntfs)), ['none', '0 other two file systems at once'])

    const ext4 = MemoryMedium.of(await made(folder, 'ext4', 20 * MEBIBYTE))
    await ext4.write(20 * MEBIBYTE - 65536, Buffer.from('fc4e2ba900000000', 'hex'))
    assert.deepEqual(told(await findVolumes(ext4)), ['none', '0 other two file systems at once'])

    const member = await mbrDisk()
    await member.write(DISK_BYTES - 65536, Buffer.from('fc4e2ba900000000', 'hex'))
    assert.deepEqual(told(await findVolumes(member)), ['none', '0 other Linux RAID'])

    const dynamic = await partitioned(folder, 'label: dos\nstart=2048, size=32768, type=42\n')
    assert.deepEqual(told(await findVolumes(dynamic)), ['none', '0 other a Windows dynamic disk'])
    assert.deepEqual((await findVolumes(dynamic)).gaps, [])
  }))

test('an external journal and an ext4 without its journal are not ext4', () =>
  withFolder(async (folder) => {
    const bytes = await made(folder, 'ext4', 20 * MEBIBYTE)
    const journal = Buffer.from(bytes)
    journal.writeUInt32LE(bytes.readUInt32LE(1024 + 96) | 8, 1024 + 96)
    assert.deepEqual(told(await findVolumes(MemoryMedium.of(journal))), ['none', '0 other a journal of ext4'])
    const without = Buffer.from(bytes)
    without.writeUInt32LE(0, 1024 + 224)
    assert.match(told(await findVolumes(MemoryMedium.of(without)))[1] ?? '', /^0 other .* on another disk$/)
  }))

test('mutated tables are read or refused, and what is found never overlaps', async () => {
  const seed = Math.floor(Math.random() * 2 ** 31)
  console.log(`seed: ${seed}`)
  const random = randomFrom(seed)
  const disks = [
    { medium: await mbrDisk(), tables: [0, 36864 * 512, 71680 * 512, 77824 * 512] },
    { medium: await gptDisk(), tables: [0, 512, 1024, 1536] },
  ]
  let refused = 0
  for (let round = 0; round < 300; round++) {
    const { medium: original, tables } = disks[round % 2] ?? assert.fail()
    const medium = original.copy()
    for (let count = 1 + Math.floor(random() * 4); count > 0; count--) {
      const table = tables[Math.floor(random() * tables.length)] ?? 0
      const at = table + (random() < 0.7 && round % 2 === 0 ? 446 + random() * 66 : random() * 512)
      await medium.write(Math.floor(at), Buffer.of(Math.floor(random() * 256)))
    }
    try {
      const { volumes, gaps } = await findVolumes(medium)
      let end = 0
      for (const { offset, lengthBytes } of [...volumes, ...gaps].sort((a, b) => a.offset - b.offset)) {
        assert.ok(offset >= end && lengthBytes > 0)
        end = offset + lengthBytes
      }
      assert.ok(end <= medium.sizeBytes)
    } catch (error) {
      if (!isFault(error, 'conflict') || error.subject !== 'volume') throw error
      refused++
    }
  }
  assert.ok(refused > 0)
})
