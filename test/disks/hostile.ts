import { type FileHandle, open } from 'node:fs/promises'
import { randomOf } from './tokens.ts'

// Disks that nobody's file system has written: with a few bytes changed where they matter, or made up to be absurd.

const RECORD_BYTES = 1024

interface Patch {
  readonly what: string
  apply(disk: Disk): Promise<void>
}

/** Bytes of a file, in the reach of those who change them. */
class Disk {
  readonly file: FileHandle
  readonly random: () => number

  constructor(file: FileHandle, seed: number) {
    this.file = file
    this.random = randomOf(seed)
  }

  below(count: number): number {
    return Math.floor(this.random() * count)
  }

  async read(offset: number, lengthBytes: number): Promise<Buffer> {
    return (await this.file.read(Buffer.alloc(lengthBytes), 0, lengthBytes, offset)).buffer
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    await this.file.write(bytes, 0, bytes.length, offset)
  }

  /** Changes `count` bytes of a range, more often to one of those that bring trouble. */
  async scatter(offset: number, lengthBytes: number, count: number): Promise<void> {
    for (let i = 0; i < count; i++) {
      const value = [0, 0xff, 0x80, 0x7f, 1][this.below(8)] ?? this.below(256)
      await this.write(offset + this.below(lengthBytes), Buffer.of(value))
    }
  }
}

/** Byte offset and size of records as the boot sector of an NTFS volume at 0 says it. */
async function mftOf(disk: Disk): Promise<{ readonly offset: number; readonly clusterBytes: number }> {
  const boot = await disk.read(0, 512)
  const clusterBytes = boot.readUInt16LE(11) * boot.readUInt8(13)
  return { offset: Number(boot.readBigUInt64LE(48)) * clusterBytes, clusterBytes }
}

interface FoundAttribute {
  readonly record: number
  /** Of its header, from the start of the disk. */
  readonly offset: number
  readonly type: number
  readonly isResident: boolean
  readonly lengthBytes: number
}

/** Attributes of the first records in use, as far as they can be followed. */
async function attributesOf(disk: Disk, recordCount: number): Promise<readonly FoundAttribute[]> {
  const { offset } = await mftOf(disk)
  const found: FoundAttribute[] = []
  for (let record = 0; record < recordCount; record++) {
    const start = offset + record * RECORD_BYTES
    const bytes = await disk.read(start, RECORD_BYTES)
    if (bytes.toString('latin1', 0, 4) !== 'FILE' || (bytes.readUInt16LE(22) & 1) === 0) continue
    for (let at = bytes.readUInt16LE(20); at + 16 <= RECORD_BYTES; ) {
      const [type, lengthBytes] = [bytes.readUInt32LE(at), bytes.readUInt32LE(at + 4)]
      if (type === 0xffff_ffff || lengthBytes < 16 || at + lengthBytes > RECORD_BYTES) break
      found.push({ record, offset: start + at, type, isResident: bytes[at + 8] === 0, lengthBytes })
      at += lengthBytes
    }
  }
  return found
}

async function someAttribute(disk: Disk, fits: (one: FoundAttribute) => boolean): Promise<FoundAttribute> {
  const all = (await attributesOf(disk, 200)).filter(fits)
  const one = all[disk.below(all.length)]
  if (one === undefined) throw new Error('the disk has no such attribute')
  return one
}

const NTFS_PATCHES: readonly Patch[] = [
  {
    what: 'bytes of the boot sector',
    apply: (disk) => disk.scatter(3, 80, 3),
  },
  {
    what: 'bytes of the records',
    async apply(disk) {
      const { offset } = await mftOf(disk)
      await disk.scatter(offset, 200 * RECORD_BYTES, 60)
    },
  },
  {
    what: 'bytes of one record',
    async apply(disk) {
      const { offset } = await mftOf(disk)
      await disk.scatter(offset + disk.below(200) * RECORD_BYTES, 400, 8)
    },
  },
  {
    what: 'an absurd size',
    async apply(disk) {
      const one = await someAttribute(disk, ({ isResident }) => !isResident)
      const size = Buffer.alloc(8)
      size.writeBigUInt64LE(2n ** 62n - 1n)
      await disk.write(one.offset + ([24, 40, 48, 56][disk.below(4)] ?? 24), size)
    },
  },
  {
    what: 'runs that go on and on',
    async apply(disk) {
      const one = await someAttribute(disk, ({ isResident, lengthBytes }) => !isResident && lengthBytes >= 72)
      const [start] = await disk.read(one.offset + 32, 1)
      const runs = Buffer.from([0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0x01])
      await disk.write(one.offset + (start ?? 64), runs.subarray(0, one.lengthBytes - (start ?? 64)))
    },
  },
  {
    what: 'a directory in a circle',
    async apply(disk) {
      // The parent in names of directories becomes one of their own descendants, or themselves.
      const names = (await attributesOf(disk, 200)).filter(({ type, record }) => type === 0x30 && record > 23)
      for (let i = 0; i < 12; i++) {
        const [one, other] = [names[disk.below(names.length)], names[disk.below(names.length)]]
        if (one === undefined || other === undefined) return
        const { offset } = await mftOf(disk)
        const reference = Buffer.alloc(8)
        reference.writeUIntLE(other.record, 0, 6)
        const [low = 0, high = 0] = await disk.read(offset + other.record * RECORD_BYTES + 16, 2)
        reference.writeUInt16LE(low | (high << 8), 6)
        await disk.write(one.offset + 24, reference)
      }
    },
  },
  {
    what: 'blocks of an index that name each other',
    async apply(disk) {
      const { clusterBytes } = await mftOf(disk)
      const { size } = await disk.file.stat()
      let left = 40
      for (let at = 0; at < size && left > 0; at += clusterBytes) {
        const head = await disk.read(at, 4)
        if (head.toString('latin1') !== 'INDX') continue
        left--
        await disk.scatter(at + 16, clusterBytes - 16, 3)
      }
    },
  },
]

const EXT4_PATCHES: readonly Patch[] = [
  {
    what: 'bytes of the superblock',
    apply: (disk) => disk.scatter(1024, 256, 4),
  },
  {
    what: 'bytes of the group descriptors',
    apply: (disk) => disk.scatter(4096, 256, 6),
  },
  {
    what: 'bytes of the inodes',
    async apply(disk) {
      const table = await inodeTable(disk)
      await disk.scatter(table, 300 * 256, 200)
    },
  },
  {
    what: 'sizes and extents',
    async apply(disk) {
      const table = await inodeTable(disk)
      for (let i = 0; i < 40; i++) {
        const inode = table + (1 + disk.below(300)) * 256
        // The upper half of the size, and the head of the extents or their first entry.
        await disk.scatter(inode + 108, 4, 2)
        await disk.scatter(inode + 40, 24, 4)
      }
    },
  },
  {
    what: 'directories in a circle',
    async apply(disk) {
      const { size } = await disk.file.stat()
      let left = 30
      for (let at = 0; at < size && left > 0; at += 4096) {
        const head = await disk.read(at, 4096)
        // '.' with 12 bytes and '..' behind it.
        if (head.readUInt16LE(4) !== 12 || head[8] !== 0x2e || head[20] !== 0x2e || head[21] !== 0x2e)
          continue
        left--
        const other = Buffer.alloc(4)
        other.writeUInt32LE(2 + disk.below(300))
        await disk.write(at + 24, other)
      }
    },
  },
]

async function inodeTable(disk: Disk): Promise<number> {
  const descriptor = await disk.read(4096, 64)
  return descriptor.readUInt32LE(8) * 4096
}

/** How a disk without a table can be changed, whose NTFS begins at 0, or its ext4 with blocks of 4 KiB. */
export const HOSTILE = {
  ntfs: NTFS_PATCHES.map(({ what }) => what),
  // Without checksums in it most changes get past the first look.
  ext4: EXT4_PATCHES.map(({ what }) => what),
} as const

/** Changes a disk in the nth of these ways; where and to what the seed decides. */
export async function mutate(path: string, type: 'ntfs' | 'ext4', way: number, seed: number): Promise<void> {
  const patch = (type === 'ntfs' ? NTFS_PATCHES : EXT4_PATCHES)[way]
  if (patch === undefined) throw new Error(`there is no way ${way}`)
  const file = await open(path, 'r+')
  try {
    await patch.apply(new Disk(file, seed))
  } finally {
    await file.close()
  }
}

/** As Windows marks a volume that it did not leave cleanly: a flag in the record of $Volume and in its copy. */
export async function markNtfsDirty(path: string): Promise<void> {
  const file = await open(path, 'r+')
  try {
    const disk = new Disk(file, 0)
    const one = (await attributesOf(disk, 4)).find(({ type, record }) => type === 0x70 && record === 3)
    if (one === undefined) throw new Error('the disk has no $Volume')
    const head = await disk.read(one.offset, 24)
    const flagsAt = one.offset + head.readUInt16LE(20) + 10
    await disk.write(flagsAt, Buffer.of(1))
    const boot = await disk.read(0, 512)
    const { offset, clusterBytes } = await mftOf(disk)
    const mirror = Number(boot.readBigUInt64LE(56)) * clusterBytes
    await disk.write(mirror + (flagsAt - offset), Buffer.of(1))
  } finally {
    await file.close()
  }
}

/** A disk that begins with these bytes, and has others further on. */
export async function writeStart(
  path: string,
  sizeBytes: number,
  start: string | Buffer,
  at = 0,
): Promise<void> {
  const file = await open(path, 'w')
  try {
    await file.truncate(sizeBytes)
    const bytes = typeof start === 'string' ? Buffer.from(start, 'latin1') : start
    await file.write(bytes, 0, bytes.length, at)
    await file.write(Buffer.from([0x55, 0xaa]), 0, 2, 510)
    await file.write(Buffer.alloc(4096, 'something'), 0, 4096, 1024 ** 2)
  } finally {
    await file.close()
  }
}
