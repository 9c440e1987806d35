import { ABSURD_BYTES, type HostileFile, hostile, withBytes } from './hostile-file.fixture.ts'
import { buildVmdk, type VmdkShape, vmdkDescriptor } from './vmdk.fixture.ts'

const EXTENT = 'RW 128 SPARSE "disk.vmdk"'

/** VMDK: text that leads to other files, in each of the places where some reader looks for it, and absurd tables. */
export function hostileVmdk(): HostileFile[] {
  return [...textFiles(), ...embedded(), ...hiddenTexts(), ...parents(), ...others()]
}

const sparse = (shape: VmdkShape = {}) => buildVmdk(shape)
const stream = (shape: VmdkShape = {}) => buildVmdk({ kind: 'streamOptimized', ...shape })
const described = (extents: string[], kind = 'monolithicSparse', more = '') =>
  sparse({ descriptor: vmdkDescriptor(kind, extents, more) })

function textFiles(): HostileFile[] {
  const text = (kind: string, extent: string) => vmdkDescriptor(kind, [extent])
  const whole = (content: string) => withBytes(Buffer.alloc(4096), 0, content)
  const kinds: [string, (path: string) => string][] = [
    ['monolithicFlat', (path) => `RW 128 FLAT "${path}" 0`],
    ['twoGbMaxExtentFlat', (path) => `RW 128 FLAT "${path}" 0`],
    ['twoGbMaxExtentSparse', (path) => `RW 128 SPARSE "${path}"`],
    ['vmfs', (path) => `RW 128 VMFS "${path}"`],
    ['vmfsSparse', (path) => `RW 128 VMFSSPARSE "${path}"`],
    ['seSparse', (path) => `RW 128 SESPARSE "${path}"`],
  ]
  return [
    ...kinds.map(([kind, extent]) =>
      hostile(3, 'extents', `VMDK descriptor, ${kind}`, (path) => whole(text(kind, extent(path)))),
    ),
    hostile(3, 'extents', 'VMDK descriptor behind blanks', (path) =>
      whole(`  \r\n   \n\n${text('monolithicFlat', `RW 128 FLAT "${path}" 0`)}`),
    ),
    hostile(3, 'extents', 'VMDK descriptor behind comments', (path) =>
      whole(
        `${'# nothing to see\n'.repeat(20)}version=1\ncreateType="monolithicFlat"\nRW 128 FLAT "${path}" 0\n`,
      ),
    ),
    hostile(3, 'extents', 'VMDK descriptor with line ends of two kinds', (path) =>
      whole(text('monolithicFlat', `RW 128 FLAT "${path}" 0`).replaceAll('\n', '\r\n')),
    ),
    hostile(3, 'unsupported', 'VMDK of ESX, COWD', () => withBytes(Buffer.alloc(4096), 0, 'COWD')),
    hostile(3, 'unsupported', 'VMDK of ESX, space-efficient', () =>
      withBytes(Buffer.alloc(4096), 0, Buffer.from('bebafeca00000000', 'hex')),
    ),
  ]
}

function embedded(): HostileFile[] {
  const extents: [string, (path: string) => string[]][] = [
    ['flat', (path) => [`RW 128 FLAT "${path}" 0`]],
    ['a path', (path) => [`RW 128 SPARSE "${path}"`]],
    ['a path of Windows', () => ['RW 128 SPARSE "C:\\disk.vmdk"']],
    ['the folder above', () => ['RW 128 SPARSE ".."']],
    ['a second one', (path) => [EXTENT, `RW 128 FLAT "${path}" 0`]],
    ['a device', () => ['RW 128 FLAT "/dev/sda" 0']],
    ['zeros', () => ['RW 128 ZERO']],
    ['none', () => []],
    ['another access', () => ['RDONLY 128 SPARSE "disk.vmdk"']],
  ]
  return [
    ...extents.map(([name, make]) =>
      hostile(3, 'extents', `VMDK with an embedded descriptor, extent ${name}`, (path) =>
        described(make(path)),
      ),
    ),
    hostile(3, 'extents', 'VMDK with the type of another kind', () =>
      described([EXTENT], 'twoGbMaxExtentSparse'),
    ),
    hostile(13, 'extents', 'VMDK with a type for a shell', (path) => described([EXTENT], `$(touch ${path})`)),
    hostile(13, 'extents', 'VMDK with a name for a shell', (path) =>
      described([`RW 128 SPARSE ";touch ${path};.vmdk"`]),
    ),
    hostile(12, 'corrupt', 'VMDK with another size in its text', () =>
      described(['RW 129 SPARSE "disk.vmdk"']),
    ),
    hostile(12, 'corrupt', 'VMDK with a text of no lines', () => sparse({ descriptor: 'x'.repeat(2048) })),
  ]
}

/** qemu takes the text for the whole truth where the header says a disk of nothing, wherever the header says it is. */
function hiddenTexts(): HostileFile[] {
  const flat = (path: string) => vmdkDescriptor('monolithicFlat', [`RW 128 FLAT "${path}" 0`])
  return [
    hostile(3, 'extents', 'VMDK of no size with a descriptor', (path) =>
      sparse({ descriptor: flat(path), patchHeader: (header) => header.writeBigUInt64LE(0n, 12) }),
    ),
    hostile(3, 'extents', 'VMDK with a descriptor at a late offset', (path) => {
      const file = sparse({ patchHeader: (header) => header.writeBigUInt64LE(32n, 28) })
      return withBytes(file, 32 * 512, flat(path))
    }),
    hostile(3, 'extents', 'VMDK without a descriptor', () =>
      sparse({ patchHeader: (header) => header.fill(0, 28, 44) }),
    ),
    hostile(3, 'corrupt', 'VMDK with more text behind the end of it', (path) =>
      withBytes(sparse(), 4 * 512, `parentFileNameHint="${path}"`),
    ),
    hostile(3, 'extents', 'streamOptimized VMDK with a flat extent', (path) =>
      stream({ descriptor: flat(path) }),
    ),
    hostile(3, 'corrupt', 'streamOptimized VMDK with another disk in its footer', () =>
      stream({ patchFooter: (footer) => footer.writeBigUInt64LE(64n, 12) }),
    ),
    hostile(3, 'extents', 'streamOptimized VMDK with a descriptor in its footer alone', () =>
      stream({ patchFooter: (footer) => footer.writeBigUInt64LE(9n, 28) }),
    ),
    hostile(3, 'corrupt', 'streamOptimized VMDK whose footer and header name two directories', () =>
      stream({ patchHeader: (header) => header.writeBigUInt64LE(8n, 56) }),
    ),
  ]
}

function parents(): HostileFile[] {
  const lines: [string, (path: string) => string][] = [
    ['parentFileNameHint', (path) => `parentFileNameHint="${path}"`],
    ['parentFileNameHint in a comment', (path) => `# parentFileNameHint="${path}"`],
    ['parentFileNameHint in a value', (path) => `ddb.comment = "parentFileNameHint=${path}"`],
    ['ddb.nativeParentHint', (path) => `ddb.nativeParentHint = "${path}"`],
    ['ddb.uuid.parent', () => 'ddb.uuid.parent="01234567-89ab-cdef-0123-456789abcdef"'],
  ]
  return [
    ...lines.map(([name, line]) =>
      hostile(1, 'parent', `VMDK with ${name}`, (path) => sparse({ moreDescriptor: line(path) })),
    ),
    hostile(1, 'parent', 'VMDK with the id of a parent', () =>
      sparse({
        descriptor: vmdkDescriptor('monolithicSparse', [EXTENT]).replace('=ffffffff', '=12345678'),
      }),
    ),
    hostile(3, 'extents', 'VMDK with changeTrackPath', (path) =>
      sparse({ moreDescriptor: `changeTrackPath="${path}"` }),
    ),
  ]
}

function others(): HostileFile[] {
  const header = (patch: (header: Buffer) => void) => () => sparse({ patchHeader: patch })
  const table = (patch: (file: Buffer, table: number) => void) => () => {
    const file = sparse()
    patch(file, file.readUInt32LE(file.readUInt32LE(56) * 512) * 512)
    return file
  }
  return [
    hostile(6, 'truncated', 'VMDK with a directory longer than its file', () => {
      const capacity = 2 ** 32
      const descriptor = vmdkDescriptor('monolithicSparse', [`RW ${capacity} SPARSE "disk.vmdk"`])
      const grow = (bytes: Buffer) => bytes.writeBigUInt64LE(BigInt(capacity), 12)
      return sparse({ descriptor, patchHeader: grow }).subarray(0, 4096)
    }),
    hostile(
      6,
      'tables',
      'VMDK with a grain for two places',
      table((file, at) => file.copy(file, at + 4, at, at + 4)),
    ),
    hostile(
      6,
      'tables',
      'VMDK with its header as a grain',
      table((file, at) => file.writeUInt32LE(1, at)),
    ),
    hostile(
      6,
      'truncated',
      'VMDK with a grain behind its end',
      table((file, at) => file.writeUInt32LE(99999, at)),
    ),
    hostile(
      6,
      'tables',
      'VMDK with grains of 1 GiB',
      header((bytes) => bytes.writeBigUInt64LE(0x200000n, 20)),
    ),
    hostile(
      6,
      'tables',
      'VMDK with tables of 2^31 entries',
      header((bytes) => bytes.writeUInt32LE(2 ** 31, 44)),
    ),
    hostile(7, 'tables', 'streamOptimized VMDK whose grain says 1 GiB', () => {
      const file = stream()
      file.writeUInt32LE(2 ** 30, firstGrain(file) + 8)
      return file
    }),
    hostile(7, 'tables', 'streamOptimized VMDK with one grain for all', () => {
      const file = stream()
      const directory = file.readUInt32LE(file.length - 2 * 512 + 56) * 512
      const at = file.readUInt32LE(directory) * 512
      for (let grain = 1; grain < 16; grain++) file.copy(file, at + grain * 4, at, at + 4)
      return file
    }),
    hostile(
      8,
      'too-large',
      'VMDK of 8 EiB',
      header((bytes) => bytes.writeBigUInt64LE(ABSURD_BYTES / 512n, 12)),
    ),
    hostile(
      8,
      'too-large',
      'VMDK of 2^64 sectors',
      header((bytes) => bytes.fill(0xff, 12, 20)),
    ),
    ...[3, 15, 18, 31].map((bit) =>
      hostile(
        9,
        'feature-bits',
        `VMDK flag ${bit}`,
        header((bytes) => bytes.writeUInt32LE((1 | (1 << bit)) >>> 0, 8)),
      ),
    ),
    hostile(
      9,
      'version',
      'VMDK version 4',
      header((bytes) => bytes.writeUInt32LE(4, 4)),
    ),
    hostile(9, 'encrypted', 'VMDK that is encrypted', () =>
      sparse({ moreDescriptor: 'encryption.keySafe = "vmware:key/list/(pair)"' }),
    ),
    hostile(
      12,
      'unclean',
      'VMDK that was not closed',
      header((bytes) => bytes.writeUInt8(1, 72)),
    ),
    hostile(12, 'truncated', 'VMDK of its first sector', () => sparse().subarray(0, 512)),
  ]
}

/** Of the first grain's marker in a small stream: right behind the room for text. */
function firstGrain(file: Buffer): number {
  return Number(file.readBigUInt64LE(64)) * 512
}
