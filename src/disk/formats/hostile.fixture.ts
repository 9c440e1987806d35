import { gzipSync, zstdCompressSync } from 'node:zlib'
import { type HostileFile, hostile, withBytes } from './hostile-file.fixture.ts'
import { hostileOva } from './hostile-ova.fixture.ts'
import { hostileQcow2 } from './hostile-qcow2.fixture.ts'
import { hostileVirtual } from './hostile-virtual.fixture.ts'
import { hostileVmdk } from './hostile-vmdk.fixture.ts'
import { buildOva } from './ova.fixture.ts'
import { buildQcow2 } from './qcow2.fixture.ts'
import { buildVdi } from './vdi.fixture.ts'
import { buildVhd } from './vhd.fixture.ts'
import { buildVmdk } from './vmdk.fixture.ts'

export type { HostileFile } from './hostile-file.fixture.ts'

const MIB = 1024 * 1024

/** Files of the attack classes 1 to 4 and 6 to 13, of every format: none of them may be opened by any tool. */
export function hostileFiles(): HostileFile[] {
  return [
    ...hostileQcow2(),
    ...hostileVmdk(),
    ...hostileVirtual(),
    ...hostileOva(),
    ...confusions(),
    ...packings(),
  ]
}

/** One file that is two things, or another thing than is said. */
function confusions(): HostileFile[] {
  const qcow2 = () => buildQcow2({ virtualBytes: MIB, clusters: new Map([[0, Buffer.alloc(4096, 1)]]) })
  const whole = (file: Buffer) => withBytes(file, Math.ceil(file.length / 512) * 512 - 1, Buffer.alloc(1))
  const withFooter = (file: Buffer) =>
    Buffer.concat([whole(file), buildVhd({ type: 'fixed', sizeBytes: 512 }).subarray(-512)])
  const withVolume = (file: Buffer) =>
    withBytes(file, 16 * 2048, Buffer.from('\x01CD001\x01'.padEnd(2048, '\0')))
  const withPartitions = (file: Buffer) => {
    const table = Buffer.alloc(66)
    table.writeUInt8(0x83, 4)
    table.writeUInt32LE(1, 8)
    table.writeUInt32LE(64, 12)
    table.writeUInt16LE(0xaa55, 64)
    return withBytes(file, 446, table)
  }
  const two = (name: string, make: (canaryPath: string) => Buffer) =>
    hostile(4, 'several-formats', `file that is ${name}`, make)
  return [
    two('qcow2 and VHD', () => withFooter(qcow2())),
    two('VMDK and VHD', () => withFooter(buildVmdk())),
    two('VDI and VHD', () => withFooter(buildVdi())),
    two('OVA and VHD', () => withFooter(buildOva())),
    two('VMDK and VDI', () => withBytes(buildVmdk(), 64, Buffer.from('7f10dabe', 'hex'))),
    two('qcow2 and ISO', () => withVolume(qcow2())),
    two('an ISO with a backing file', (path) =>
      withVolume(buildQcow2({ virtualBytes: MIB, backing: { name: path } })),
    ),
    two('qcow2 and a disk with partitions', () => withPartitions(qcow2())),
    two('VDI and a disk with partitions', () => withPartitions(buildVdi())),
    hostile(4, 'other-format', 'qcow2 that is said to be raw', qcow2, 'raw'),
    hostile(
      4,
      'other-format',
      'qcow2 with a backing file that is said to be raw',
      (path) => buildQcow2({ virtualBytes: MIB, backing: { name: path } }),
      'raw',
    ),
    hostile(4, 'other-format', 'fixed VHD that is said to be raw', () => buildVhd({ type: 'fixed' }), 'raw'),
    hostile(4, 'other-format', 'VDI that is said to be VMDK', () => buildVdi(), 'vmdk'),
    hostile(4, 'other-format', 'VMDK that is said to be OVA', () => buildVmdk(), 'ova'),
    hostile(4, 'other-format', 'raw disk that is said to be qcow2', () => Buffer.alloc(MIB), 'qcow2'),
  ]
}

function packings(): HostileFile[] {
  const packed = (
    attackClass: number,
    reason: HostileFile['reason'],
    name: string,
    make: HostileFile['make'],
  ): HostileFile => ({ ...hostile(attackClass, reason, name, make), stage: 'unpacking' })
  return [
    // 10 000 times as much as goes in, which no disk that anybody uses is packed by.
    packed(7, 'too-large', 'zstd of 256 MiB of zeros', () => zstdCompressSync(Buffer.alloc(256 * MIB))),
    packed(7, 'packing', 'gzip in gzip', () => gzipSync(gzipSync(Buffer.alloc(MIB)))),
    packed(7, 'packing', 'gzip that is cut short', () => gzipSync(Buffer.alloc(MIB)).subarray(0, 500)),
    packed(1, 'backing-file', 'gzip of a qcow2 with a backing file', (path) =>
      gzipSync(buildQcow2({ virtualBytes: MIB, backing: { name: path, format: 'raw' } })),
    ),
    packed(3, 'extents', 'zstd of a VMDK descriptor', (path) =>
      zstdCompressSync(Buffer.from(`# Disk DescriptorFile\nversion=1\nRW 128 FLAT "${path}" 0\n`)),
    ),
  ]
}
