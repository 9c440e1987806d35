import { ABSURD_BYTES, type HostileFile, hostile } from './hostile-file.fixture.ts'
import { buildQcow2, type Qcow2Places, type Qcow2Recipe } from './qcow2.fixture.ts'
import { buildQed } from './qed.fixture.ts'

const MIB = 1024 * 1024

/** qcow2 and QED: names of other files, and tables that cost more than they are worth. */
export function hostileQcow2(): HostileFile[] {
  return [...backingFiles(), ...dataFiles(), ...tables(), ...sizes(), ...features()]
}

function qcow2(recipe: Partial<Qcow2Recipe> = {}): Buffer {
  return buildQcow2({ virtualBytes: MIB, clusters: new Map([[0, Buffer.alloc(4096, 1)]]), ...recipe })
}

function backingFiles(): HostileFile[] {
  const spellings: [string, (canaryPath: string) => string][] = [
    ['absolute', (path) => path],
    ['relative', (path) => `../../../../../..${path}`],
    ['json', (path) => `json:{"driver":"raw","file":{"driver":"file","filename":"${path}"}}`],
    ['file protocol', (path) => `file:${path}`],
    ['nbd', () => 'nbd:127.0.0.1:10809'],
    ['nbd over a socket', (path) => `nbd+unix:///?socket=${path}`],
    ['http', () => 'http://169.254.169.254/latest/meta-data/'],
    ['descriptor', () => '/dev/fdset/0'],
    ['process', () => '/proc/self/environ'],
    ['shell', (path) => `$(cat ${path})`],
  ]
  return [
    ...spellings.map(([name, spell]) =>
      hostile(name === 'shell' ? 13 : 1, 'backing-file', `qcow2 backing file, ${name}`, (path) =>
        qcow2({ backing: { name: spell(path), format: 'raw' } }),
      ),
    ),
    hostile(1, 'backing-file', 'qcow2 version 2 backing file', (path) =>
      qcow2({ version: 2, backing: { name: path } }),
    ),
    hostile(1, 'backing-file', 'qcow2 backing format without a file', () =>
      qcow2({ backing: { format: 'raw' } }),
    ),
    hostile(1, 'backing-file', 'QED backing file', (path) =>
      buildQed({ virtualBytes: MIB, backingName: path }),
    ),
  ]
}

function dataFiles(): HostileFile[] {
  return [
    hostile(2, 'data-file', 'qcow2 data file, bit and name', (path) =>
      qcow2({ dataFile: { hasBit: true, name: path } }),
    ),
    hostile(2, 'data-file', 'qcow2 data file, name alone', (path) => qcow2({ dataFile: { name: path } })),
    hostile(2, 'data-file', 'qcow2 data file, bit alone', () => qcow2({ dataFile: { hasBit: true } })),
    hostile(2, 'data-file', 'qcow2 data file, raw', (path) =>
      qcow2({ dataFile: { hasBit: true, name: path, hasRawBit: true } }),
    ),
  ]
}

function tables(): HostileFile[] {
  const patched = (patch: (file: Buffer, places: Qcow2Places) => void) => () => qcow2({ patch })
  return [
    hostile(
      6,
      'tables',
      'qcow2 huge L1',
      patched((file) => file.writeUInt32BE(0x7fffffff, 36)),
    ),
    hostile(
      6,
      'tables',
      'qcow2 huge refcount table',
      patched((file) => file.writeUInt32BE(0x7fffffff, 56)),
    ),
    hostile(
      6,
      'tables',
      'qcow2 table that is its own data',
      patched((file, { l2 }) => {
        const table = l2[0] ?? 0
        file.writeBigUInt64BE((1n << 63n) | BigInt(table), table)
      }),
    ),
    hostile(
      7,
      'truncated',
      'qcow2 compressed cluster longer than the file',
      patched((file, { l2 }) => {
        // 16 sectors from the last one on, of 4 KiB clusters.
        const place = (1n << 62n) | (15n << 58n) | BigInt(file.length - 512)
        file.writeBigUInt64BE(place, l2[0] ?? 0)
      }),
    ),
    hostile(12, 'tables', 'qcow2 clusters of 2^31', () =>
      qcow2({ patch: (file) => file.writeUInt32BE(31, 20) }),
    ),
  ]
}

function sizes(): HostileFile[] {
  return [
    hostile(8, 'too-large', 'qcow2 of 8 EiB', () =>
      qcow2({ patch: (file) => file.writeBigUInt64BE(ABSURD_BYTES, 24) }),
    ),
    hostile(8, 'size', 'qcow2 of half a sector', () =>
      qcow2({ patch: (file) => file.writeBigUInt64BE(256n, 24) }),
    ),
  ]
}

function features(): HostileFile[] {
  return [
    ...[5n, 17n, 63n].map((bit) =>
      hostile(9, 'feature-bits', `qcow2 incompatible bit ${bit}`, () => qcow2({ incompatible: 1n << bit })),
    ),
    hostile(9, 'feature-bits', 'qcow2 compatible bit 9', () => qcow2({ compatible: 1n << 9n })),
    hostile(9, 'feature-bits', 'qcow2 autoclear bit 9', () => qcow2({ autoclear: 1n << 9n })),
    hostile(9, 'version', 'qcow2 version 4', () => qcow2({ patch: (file) => file.writeUInt32BE(4, 4) })),
    hostile(9, 'feature-bits', 'QED feature bit 9', () =>
      buildQed({ virtualBytes: MIB, features: 1n << 9n }),
    ),
  ]
}
