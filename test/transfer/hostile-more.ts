import { gzipSync } from 'node:zlib'
import type { RefusalReason } from '../../src/disk/formats/contract.ts'
import { hostileFiles } from '../../src/disk/formats/hostile.fixture.ts'
import { type HostileFile, hostile, withBytes } from '../../src/disk/formats/hostile-file.fixture.ts'
import { buildOva } from '../../src/disk/formats/ova.fixture.ts'
import { buildQcow2, type Qcow2Recipe } from '../../src/disk/formats/qcow2.fixture.ts'
import { buildQed } from '../../src/disk/formats/qed.fixture.ts'
import { rawDisk } from '../../src/disk/formats/seeds.fixture.ts'
import { buildVdi } from '../../src/disk/formats/vdi.fixture.ts'
import { buildVhd } from '../../src/disk/formats/vhd.fixture.ts'
import { buildVhdx } from '../../src/disk/formats/vhdx.fixture.ts'
import { buildVmdk } from '../../src/disk/formats/vmdk.fixture.ts'

const MIB = 1024 ** 2
/** Disks of more than anybody has: all bits, the largest positive number, the smallest negative one, minus a sector. */
const SIZES: readonly (readonly [string, bigint])[] = [
  ['16 EiB less a byte', 2n ** 64n - 1n],
  ['2^63 less a byte', 2n ** 63n - 1n],
  ['2^63', 2n ** 63n],
  ['less than nothing', 2n ** 64n - 512n],
  ['the smallest negative number and a sector', 2n ** 63n + 512n],
]
/** Every way in which QEMU is told of a file, a device, a descriptor, a process or a host. */
const SPELLINGS: readonly (readonly [string, (path: string) => string])[] = [
  ['file URL', (path) => `file://${path}`],
  ['file URL with a host', (path) => `file://localhost${path}`],
  ['device', () => '/dev/sda'],
  ['host_device', () => 'host_device:/dev/sda'],
  ['fd', () => 'fd:3'],
  ['descriptor of the process', () => '/dev/fd/3'],
  ['root of the process', (path) => `/proc/self/root${path}`],
  ['fat', () => 'fat:rw:/etc'],
  ['nbd over a socket, the old way', (path) => `nbd:unix:${path}:exportname=x`],
  ['nbd URL', () => 'nbd://127.0.0.1:10809/x'],
  ['json of nbd', (path) => `json:{"driver":"nbd","server":{"type":"unix","path":"${path}"}}`],
  ['json of dots', (path) => `json:{"driver":"raw","file.driver":"file","file.filename":"${path}"}`],
  ['json of qcow2', (path) => `json:{"driver":"qcow2","file":{"driver":"file","filename":"${path}"}}`],
  ['json behind a blank', (path) => ` json:{"driver":"file","filename":"${path}"}`],
  ['blkdebug', (path) => `blkdebug::${path}`],
  ['ssh', () => 'ssh://root@127.0.0.1/etc/shadow'],
  ['ftp', () => 'ftp://127.0.0.1/x'],
  ['tftp', () => 'tftp://127.0.0.1/x'],
  ['https', () => 'https://[::ffff:127.0.0.1]/x'],
  ['home', () => '~/.ssh/id_ed25519'],
  ['one dot', () => '.'],
  ['a zero byte', (path) => `${path}\0.qcow2`],
]

const qcow2 = (recipe: Partial<Qcow2Recipe> = {}) =>
  buildQcow2({ virtualBytes: MIB, clusters: new Map([[0, Buffer.alloc(4096, 1)]]), ...recipe })

/** Those of the inspector's own tests, and what the attack classes have besides. */
export function allHostileFiles(): HostileFile[] {
  return [...hostileFiles(), ...spellings(), ...sizes(), ...confusions()]
}

function spellings(): HostileFile[] {
  return SPELLINGS.flatMap(([name, spell], index) => [
    hostile(1, 'backing-file', `qcow2 backing file, ${name}`, (path) =>
      // With and without the word for its format, which older files lack, in both versions.
      qcow2({
        version: index % 3 === 0 ? 2 : 3,
        backing: { name: spell(path), ...(index % 2 === 0 ? { format: 'raw' } : {}) },
      }),
    ),
    hostile(2, 'data-file', `qcow2 data file, ${name}`, (path) =>
      qcow2({ dataFile: { name: spell(path), hasBit: index % 2 === 0, hasRawBit: index % 3 === 0 } }),
    ),
    hostile(1, 'backing-file', `QED backing file, ${name}`, (path) =>
      buildQed({ virtualBytes: MIB, backingName: spell(path) }),
    ),
  ])
}

function sizes(): HostileFile[] {
  const patchedVdi = (size: bigint) => buildVdi({ patch: (file) => file.writeBigUInt64LE(size, 368) })
  const kinds: [string, RefusalReason, (size: bigint) => Buffer][] = [
    ['qcow2', 'too-large', (size) => qcow2({ patch: (file) => file.writeBigUInt64BE(size, 24) })],
    [
      'QED',
      'too-large',
      (size) => buildQed({ virtualBytes: MIB, patch: (file) => file.writeBigUInt64LE(size, 48) }),
    ],
    [
      'VMDK',
      'too-large',
      (size) => buildVmdk({ patchHeader: (header) => header.writeBigUInt64LE(size, 12) }),
    ],
    ['VDI', 'too-large', patchedVdi],
    [
      'VHD',
      'tables',
      (size) => buildVhd({ type: 'dynamic', patchFooter: (footer) => footer.writeBigUInt64BE(size, 48) }),
    ],
    [
      'fixed VHD',
      'tables',
      (size) => buildVhd({ type: 'fixed', patchFooter: (footer) => footer.writeBigUInt64BE(size, 48) }),
    ],
    [
      'VHDX',
      'tables',
      (size) => buildVhdx({ patchMetadata: (region) => region.writeBigUInt64LE(size, 0x10000 + 64) }),
    ],
    [
      'OVF',
      'archive',
      (size) =>
        buildOva({ changeOvf: (text) => text.replace(/ovf:capacity="\d+"/, `ovf:capacity="${size}"`) }),
    ],
  ]
  return kinds.flatMap(([kind, reason, make]) =>
    SIZES.map(([name, size]) => hostile(8, reason, `${kind} of ${name}`, () => make(size))),
  )
}

function confusions(): HostileFile[] {
  const two = (name: string, make: (path: string) => Buffer) =>
    hostile(4, 'several-formats', `file that is ${name}`, make)
  const footer = () => buildVhd({ type: 'fixed', sizeBytes: 512 }).subarray(-512)
  const volume = (file: Buffer) => withBytes(file, 16 * 2048, Buffer.from('\x01CD001\x01'.padEnd(2048, '\0')))
  const backed = (path: string) => qcow2({ backing: { name: path, format: 'raw' } })
  const gpt = (file: Buffer) => {
    const disk = rawDisk('GPT')
    return withBytes(withBytes(file, 446, disk.subarray(446, 512)), 512, disk.subarray(512, 1024))
  }
  return [
    two('qcow2 and tar', () => withBytes(qcow2(), 257, 'ustar\x0000')),
    two('qcow2 and a disk with a GPT', (path) => gpt(backed(path))),
    two('VHDX and VHD', () => Buffer.concat([buildVhdx(), footer()])),
    two('QED and VHD', () => Buffer.concat([buildQed({ virtualBytes: MIB }), footer()])),
    two('gzip and VHD', () => {
      const packed = gzipSync(rawDisk('MBR'))
      return Buffer.concat([packed, Buffer.alloc(512 - (packed.length % 512)), footer()])
    }),
    two('gzip and an ISO', () => volume(gzipSync(rawDisk('MBR')))),
    two('an OVA and an ISO', () => volume(buildOva())),
    two('a VDI and an ISO', () => volume(buildVdi())),
    hostile(4, 'iso', 'ISO that is said to be raw', () => volume(Buffer.alloc(64 * 1024)), 'raw'),
    hostile(
      4,
      'iso',
      'ISO with a disk’s partitions that is said to be raw',
      () => volume(gpt(Buffer.alloc(64 * 1024))),
      'raw',
    ),
    hostile(
      4,
      'other-format',
      'QED that is said to be qcow2',
      () => buildQed({ virtualBytes: MIB }),
      'qcow2',
    ),
    hostile(4, 'other-format', 'qcow2 with a backing file that is said to be VMDK', backed, 'vmdk'),
    hostile(4, 'other-format', 'VHDX that is said to be VHD', () => buildVhdx(), 'vhd'),
    hostile(4, 'other-format', 'raw disk that is said to be an OVA', () => rawDisk('GPT'), 'ova'),
  ]
}
