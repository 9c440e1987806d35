import { ABSURD_BYTES, type HostileFile, hostile } from './hostile-file.fixture.ts'
import { buildVdi } from './vdi.fixture.ts'
import { buildVhd, type VhdShape } from './vhd.fixture.ts'
import { buildVhdx, type VhdxShape, writeRegion, writeVhdxItem } from './vhdx.fixture.ts'

const MIB = 1024 * 1024
const UNKNOWN_ID = '00112233445566778899aabbccddeeff'
const PARENT_LOCATOR = '2d5fd3a80bb34d45abf7d3d84834ab0c'

/** VHD, VHDX and VDI: parents, sizes and tables. */
export function hostileVirtual(): HostileFile[] {
  return [...vhd(), ...vhdx(), ...vdi()]
}

function vhd(): HostileFile[] {
  const footer =
    (patch: (bytes: Buffer) => void, shape: VhdShape = {}) =>
    () =>
      buildVhd({ ...shape, patchFooter: patch })
  const header = (patch: (bytes: Buffer) => void) => () => buildVhd({ patchHeader: patch })
  return [
    hostile(
      1,
      'parent',
      'VHD of the differencing kind',
      footer((bytes) => bytes.writeUInt32BE(4, 60)),
    ),
    hostile(
      1,
      'parent',
      'VHD with the id of a parent',
      header((bytes) => bytes.fill(1, 40, 56)),
    ),
    hostile(1, 'parent', 'VHD with the name of a parent', (path) =>
      buildVhd({ patchHeader: (bytes) => bytes.write(path, 64, 'utf16le') }),
    ),
    hostile(
      1,
      'parent',
      'VHD with a place of a parent',
      header((bytes) => bytes.write('W2ru', 576, 'latin1')),
    ),
    hostile(
      6,
      'tables',
      'VHD with 2^32 blocks',
      header((bytes) => bytes.writeUInt32BE(0xffffffff, 28)),
    ),
    hostile(
      6,
      'tables',
      'VHD with blocks of 2 GiB',
      header((bytes) => bytes.writeUInt32BE(2 ** 31, 32)),
    ),
    hostile(
      6,
      'tables',
      'VHD with a table on its own header',
      header((bytes) => bytes.writeBigUInt64BE(512n, 16)),
    ),
    hostile(6, 'tables', 'VHD with a block for two places', () => {
      const file = buildVhd()
      file.copy(file, 1536, 1540, 1544)
      return file
    }),
    hostile(6, 'truncated', 'VHD with a block behind its end', () => {
      const file = buildVhd()
      file.writeUInt32BE(0x00ffffff, 1536)
      return file
    }),
    hostile(
      8,
      'size',
      'VHD of 8 EiB',
      footer((bytes) => bytes.writeBigUInt64BE(ABSURD_BYTES / 2048n, 48)),
    ),
    hostile(
      8,
      'tables',
      'VHD of a number that is none',
      footer((bytes) => bytes.fill(0xff, 48, 56)),
    ),
    hostile(8, 'size', 'VHD with two sizes', () => buildVhd({ creator: 'vbox', geometry: [1, 4, 4] })),
    hostile(8, 'truncated', 'VHD of the fixed kind that is larger than its file', () =>
      buildVhd({ type: 'fixed', patchFooter: (bytes) => bytes.writeBigUInt64BE(BigInt(MIB), 48) }),
    ),
    ...[2, 3, 31].map((bit) =>
      hostile(
        9,
        'feature-bits',
        `VHD feature bit ${bit}`,
        footer((bytes) => bytes.writeUInt32BE((2 | (1 << bit)) >>> 0, 8)),
      ),
    ),
    hostile(
      9,
      'version',
      'VHD version 2',
      footer((bytes) => bytes.writeUInt32BE(0x00020000, 12)),
    ),
    hostile(
      9,
      'feature-bits',
      'VHD of kind 9',
      footer((bytes) => bytes.writeUInt32BE(9, 60)),
    ),
    hostile(12, 'corrupt', 'VHD whose two footers differ', () => {
      const file = buildVhd()
      return Buffer.concat([buildVhd({ sizeBytes: 8192 }).subarray(0, 512), file.subarray(512)])
    }),
    hostile(12, 'corrupt', 'VHD with a wrong checksum', () => {
      const file = buildVhd({ type: 'fixed' })
      file.writeUInt8(1, file.length - 512 + 70)
      return file
    }),
    hostile(
      12,
      'unclean',
      'VHD of a saved machine',
      footer((bytes) => bytes.writeUInt8(1, 84)),
    ),
  ]
}

function vhdx(): HostileFile[] {
  const of = (shape: VhdxShape) => () => buildVhdx(shape)
  const blocks = (patch: (table: Buffer) => void) => of({ patchBlocks: patch })
  const regions = (patch: (table: Buffer) => void) => of({ patchRegions: patch })
  const place = (unit: number, state = 6) => (BigInt(unit) << 20n) | BigInt(state)
  return [
    hostile(1, 'parent', 'VHDX with a parent', of({ flags: 2 })),
    hostile(1, 'parent', 'VHDX with the place of a parent', (path) =>
      buildVhdx({ patchMetadata: (region) => writeVhdxItem(region, PARENT_LOCATOR, Buffer.from(path)) }),
    ),
    hostile(
      1,
      'tables',
      'VHDX with a block that is half a parent’s',
      blocks((table) => table.writeBigUInt64LE(place(4, 7), 0)),
    ),
    hostile(
      6,
      'tables',
      'VHDX with a block on its own table',
      blocks((table) => table.writeBigUInt64LE(place(3), 0)),
    ),
    hostile(
      6,
      'truncated',
      'VHDX with a block behind its end',
      blocks((table) => table.writeBigUInt64LE(place(2 ** 40), 0)),
    ),
    hostile(6, 'tables', 'VHDX with a block for two places', () =>
      buildVhdx({
        blocks: new Map([[0, Buffer.alloc(MIB, 1)]]),
        patchBlocks: (table) => table.copy(table, 8, 0, 8),
      }),
    ),
    hostile(6, 'tables', 'VHDX with a table too short for its disk', of({ virtualBytes: 2 ** 40 })),
    hostile(
      6,
      'corrupt',
      'VHDX with 2^32 regions',
      regions((table) => table.writeUInt32LE(0xffffffff, 8)),
    ),
    hostile(
      6,
      'corrupt',
      'VHDX with one region on another',
      regions((table) => writeRegion(table, 16, '6677c22d23f600429d64115e9bfd4a08', 2 * MIB)),
    ),
    hostile(8, 'too-large', 'VHDX of 4 PiB', of({ virtualBytes: 2 ** 52 })),
    hostile(8, 'size', 'VHDX of half a sector more', of({ virtualBytes: 4 * MIB + 256 })),
    hostile(
      9,
      'feature-bits',
      'VHDX with an unknown flag of a region',
      regions((table) => table.writeUInt32LE(3, 16 + 28)),
    ),
    hostile(9, 'feature-bits', 'VHDX with a region that is needed and unknown', () =>
      buildVhdx({
        patchRegions: (table) => {
          table.writeUInt32LE(3, 8)
          writeRegion(table, 80, UNKNOWN_ID, 4 * MIB)
        },
      }),
    ),
    hostile(9, 'feature-bits', 'VHDX with metadata that is needed and unknown', () =>
      buildVhdx({ patchMetadata: (region) => writeVhdxItem(region, UNKNOWN_ID, Buffer.alloc(8)) }),
    ),
    hostile(9, 'feature-bits', 'VHDX parameter bit 7', of({ flags: 128 })),
    hostile(9, 'version', 'VHDX version 2', of({ patchHeader: (header) => header.writeUInt16LE(2, 66) })),
    hostile(
      12,
      'unclean',
      'VHDX with a log to replay',
      of({ patchHeader: (header) => header.fill(1, 48, 64) }),
    ),
    hostile(12, 'corrupt', 'VHDX whose region tables differ', () => {
      const file = buildVhdx()
      file.writeUInt8(1, 0x40000 + 1000)
      return file
    }),
    hostile(12, 'unsupported', 'VHDX with sectors of 4096 bytes', of({ logicalSectorBytes: 4096 })),
  ]
}

function vdi(): HostileFile[] {
  const of = (patch: (file: Buffer) => void) => () => buildVdi({ patch })
  return [
    hostile(1, 'parent', 'VDI of the differencing kind', () => buildVdi({ type: 4 })),
    hostile(1, 'parent', 'VDI of the undo kind', () => buildVdi({ type: 3 })),
    hostile(
      1,
      'parent',
      'VDI with the id of a parent',
      of((file) => file.fill(1, 440, 456)),
    ),
    hostile(
      1,
      'parent',
      'VDI with the id of a link',
      of((file) => file.fill(1, 424, 440)),
    ),
    hostile(
      6,
      'tables',
      'VDI with 2^32 blocks',
      of((file) => file.writeUInt32LE(0xffffffff, 384)),
    ),
    hostile(
      6,
      'tables',
      'VDI with its map on its header',
      of((file) => file.writeUInt32LE(0, 340)),
    ),
    hostile(6, 'truncated', 'VDI with a block behind its end', () =>
      buildVdi({ patch: (file) => file.writeUInt32LE(1, 512) }),
    ),
    hostile(6, 'tables', 'VDI with a block for two places', () =>
      buildVdi({
        places: new Map([
          [0, 0],
          [1, 0],
        ]),
      }),
    ),
    hostile(
      8,
      'too-large',
      'VDI of 8 EiB',
      of((file) => file.writeBigUInt64LE(ABSURD_BYTES, 368)),
    ),
    hostile(
      8,
      'size',
      'VDI of half a sector more',
      of((file) => file.writeBigUInt64LE(BigInt(2 * MIB - 256), 368)),
    ),
    hostile(
      9,
      'feature-bits',
      'VDI flag 9',
      of((file) => file.writeUInt32LE(512, 80)),
    ),
    hostile(
      9,
      'version',
      'VDI version 1.2',
      of((file) => file.writeUInt32LE(0x00010002, 68)),
    ),
    hostile(
      12,
      'unsupported',
      'VDI with blocks of another size',
      of((file) => file.writeUInt32LE(4096, 376)),
    ),
  ]
}
