import { execFileSync } from 'node:child_process'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { buildOvf, buildTar } from '../../src/disk/formats/ova.fixture.ts'
import { buildVmdk } from '../../src/disk/formats/vmdk.fixture.ts'

const MIB = 1024 ** 2
const MEMBER_BYTES = 64 * MIB
const BLOCK_BYTES = 512

/** At least 10 GiB of zeros, packed: several members follow each other, as all three packings allow. */
export function zeros(packing: 'gzip' | 'zstd' | 'xz'): Buffer {
  return repeated(packed(packing, Buffer.alloc(MEMBER_BYTES)), (10 * 1024 * MIB) / MEMBER_BYTES)
}

export function packed(packing: 'gzip' | 'zstd' | 'xz', bytes: Buffer): Buffer {
  switch (packing) {
    case 'gzip':
      return gzipSync(bytes)
    case 'zstd':
      return zstdCompressSync(bytes)
    case 'xz':
      return execFileSync('xz', ['-1', '--stdout'], { input: bytes, maxBuffer: MEMBER_BYTES })
    default:
      return packing satisfies never
  }
}

const repeated = (bytes: Buffer, count: number) => Buffer.concat(Array.from({ length: count }, () => bytes))

/** An archive that begins as an OVA does, and has a million members of nothing. */
export function* manyMembers(count: number): Generator<Buffer> {
  const ovf = Buffer.from(buildOvf([{ name: 'machine-disk1.vmdk', bytes: buildVmdk() }]))
  yield buildTar([{ name: 'machine.ovf', bytes: ovf }], Buffer.alloc(0))
  const template = buildTar([{ name: 'x0000000', bytes: Buffer.alloc(0) }], Buffer.alloc(0))
  const zeroSum = Number.parseInt(template.toString('latin1', 148, 154), 8)
  const perPiece = 2048
  for (let first = 0; first < count; first += perPiece) {
    const piece = repeated(template, Math.min(perPiece, count - first))
    for (let at = 0; at < piece.length; at += BLOCK_BYTES) {
      const digits = String(first + at / BLOCK_BYTES).padStart(7, '0')
      let sum = zeroSum
      for (const digit of digits) sum += Number(digit)
      piece.write(digits, at + 1, 'latin1')
      piece.write(sum.toString(8).padStart(6, '0'), at + 148, 'latin1')
    }
    yield piece
  }
  yield Buffer.alloc(2 * BLOCK_BYTES)
}
