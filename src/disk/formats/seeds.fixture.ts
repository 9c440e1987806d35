import { gzipSync, zstdCompressSync } from 'node:zlib'
import { BUNDLE_MARK } from './bundle-mark.ts'
import { buildOva } from './ova.fixture.ts'
import { buildQcow2 } from './qcow2.fixture.ts'
import { buildQed } from './qed.fixture.ts'
import { buildVdi } from './vdi.fixture.ts'
import { buildVhd } from './vhd.fixture.ts'
import { buildVhdx } from './vhdx.fixture.ts'
import { buildVmdk } from './vmdk.fixture.ts'

export interface Seed {
  readonly name: string
  /** What `inspect` says of it. */
  readonly is: 'disk' | 'archive' | 'packed' | 'bundle'
  readonly format: 'raw' | 'qcow2' | 'vmdk' | 'vhd' | 'vhdx' | 'vdi' | 'qed' | 'ova' | 'packing' | 'bundle'
  make(): Buffer
  /** Changed before its checksums are made over it, so that what lies behind them is reached as well. */
  readonly deep?: readonly ((change: (bytes: Buffer) => void) => Buffer)[]
}

const MIB = 1024 * 1024

/** A raw disk of `sectorCount` sectors with a table of one partition. */
export function rawDisk(table: 'GPT' | 'MBR' | undefined, sectorCount = 64): Buffer {
  const disk = Buffer.alloc(sectorCount * 512)
  disk.fill('guest', 40 * 512, 50 * 512)
  if (table === undefined) return disk
  disk.writeUInt8(table === 'GPT' ? 0xee : 0x83, 446 + 4)
  disk.writeUInt32LE(1, 446 + 8)
  disk.writeUInt32LE(sectorCount - 1, 446 + 12)
  disk.writeUInt16LE(0xaa55, 510)
  if (table === 'GPT') disk.write('EFI PART\0\0\x01\0\x5c\0\0\0', 512, 'latin1')
  return disk
}

/** One small file of every kind that is taken. */
export const SEEDS: readonly Seed[] = [
  { name: 'raw', is: 'disk', format: 'raw', make: () => rawDisk(undefined) },
  { name: 'raw, MBR', is: 'disk', format: 'raw', make: () => rawDisk('MBR') },
  { name: 'raw, GPT', is: 'disk', format: 'raw', make: () => rawDisk('GPT') },
  {
    name: 'qcow2, version 2',
    is: 'disk',
    format: 'qcow2',
    make: () =>
      buildQcow2({
        version: 2,
        virtualBytes: MIB,
        clusters: new Map<number, Buffer | { compressed: Buffer }>([
          [0, Buffer.alloc(4096, 'a')],
          [7, { compressed: Buffer.alloc(4096, 'b') }],
        ]),
      }),
  },
  {
    name: 'qcow2, version 3',
    is: 'disk',
    format: 'qcow2',
    make: () =>
      buildQcow2({
        virtualBytes: MIB / 8,
        clusterBits: 9,
        clusters: new Map<number, Buffer | 'zero' | { compressed: Buffer }>([
          [0, Buffer.alloc(512, 'a')],
          [1, 'zero'],
          [70, { compressed: Buffer.alloc(512, 'b') }],
          [71, { compressed: Buffer.alloc(512, 'c') }],
        ]),
        extensions: [[0x6803f857, Buffer.alloc(96)]],
      }),
  },
  {
    name: 'qcow2, snapshots and bitmaps',
    is: 'disk',
    format: 'qcow2',
    make: () =>
      buildQcow2({
        virtualBytes: MIB,
        clusterBits: 10,
        compression: 'zstd',
        snapshotNames: ['one', 'two'],
        bitmapNames: ['three'],
        clusters: new Map([[5, Buffer.alloc(1024, 'a')]]),
      }),
  },
  {
    name: 'qcow2, extended L2',
    is: 'disk',
    format: 'qcow2',
    make: () =>
      buildQcow2({
        virtualBytes: 4 * MIB,
        clusterBits: 14,
        hasExtendedL2: true,
        clusters: new Map([[0, { bytes: Buffer.alloc(16_384, 'a'), dataParts: 3, zeroParts: 4 }]]),
      }),
  },
  {
    name: 'QED',
    is: 'disk',
    format: 'qed',
    make: () =>
      buildQed({
        virtualBytes: MIB,
        clusters: new Map<number, Buffer | 'zero'>([
          [0, Buffer.alloc(4096, 'a')],
          [1, 'zero'],
        ]),
      }),
  },
  ...(['monolithicSparse', 'streamOptimized'] as const).map(
    (kind): Seed => ({
      name: `VMDK, ${kind}`,
      is: 'disk',
      format: 'vmdk',
      make: () => buildVmdk({ kind }),
    }),
  ),
  ...(['fixed', 'dynamic'] as const).map(
    (type): Seed => ({
      name: `VHD, ${type}`,
      is: 'disk',
      format: 'vhd',
      make: () => buildVhd({ type }),
      deep: [
        (change) => buildVhd({ type, patchFooter: change }),
        ...(type === 'dynamic'
          ? [(change: (bytes: Buffer) => void) => buildVhd({ type, patchHeader: change })]
          : []),
      ],
    }),
  ),
  {
    name: 'VHDX',
    is: 'disk',
    format: 'vhdx',
    make: () => buildVhdx(),
    deep: [
      (change) => buildVhdx({ patchHeader: change }),
      (change) => buildVhdx({ patchRegions: change }),
      (change) => buildVhdx({ patchMetadata: change }),
      (change) => buildVhdx({ patchBlocks: change }),
    ],
  },
  { name: 'VDI', is: 'disk', format: 'vdi', make: () => buildVdi() },
  {
    name: 'OVA',
    is: 'archive',
    format: 'ova',
    make: () => buildOva(),
    deep: [
      (change) =>
        buildOva({
          changeOvf: (ovf) => {
            const bytes = Buffer.from(ovf)
            change(bytes)
            return bytes.toString('latin1')
          },
        }),
      (change) => {
        const disk = buildVmdk({ kind: 'streamOptimized' })
        change(disk)
        return buildOva({ disks: [disk] })
      },
      (change) =>
        buildOva({
          changeEntries: (entries) => entries.map((entry) => ({ ...entry, patch: change })),
        }),
    ],
  },
  { name: 'gzip', is: 'packed', format: 'packing', make: () => gzipSync(rawDisk('MBR')) },
  { name: 'zstd', is: 'packed', format: 'packing', make: () => zstdCompressSync(rawDisk('MBR')) },
  {
    name: 'xz',
    is: 'packed',
    format: 'packing',
    make: () => Buffer.concat([Buffer.from('\xfd7zXZ\0', 'latin1'), Buffer.alloc(100, 'x')]),
  },
  {
    name: 'bundle',
    is: 'bundle',
    format: 'bundle',
    make: () => Buffer.concat([BUNDLE_MARK, Buffer.alloc(1000, 'b')]),
  },
]
