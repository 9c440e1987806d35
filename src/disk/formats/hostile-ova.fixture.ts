import { type HostileFile, hostile, withBytes } from './hostile-file.fixture.ts'
import { buildOva, buildTar, type OvaShape, type TarEntry } from './ova.fixture.ts'
import { buildQcow2 } from './qcow2.fixture.ts'
import { buildVmdk } from './vmdk.fixture.ts'

const EMPTY = Buffer.alloc(0)

/** OVA: an archive, a description and a manifest that mean different things to different readers. */
export function hostileOva(): HostileFile[] {
  return [...members(), ...manifests(), ...descriptions(), ...disks()]
}

const withMore = (...more: TarEntry[]) => buildOva({ more })
const ova = (shape: OvaShape) => () => buildOva(shape)
const ovf = (from: string | RegExp, to: string) =>
  ova({
    changeOvf: (text) => {
      const changed = text.replace(from, to)
      if (changed === text) throw new Error(`The fixture has no ${from}.`)
      return changed
    },
  })

function members(): HostileFile[] {
  const names: [string, (path: string) => string][] = [
    ['in the folder above', () => '../x'],
    ['with a full path', (path) => path.slice(0, 99)],
    ['in a folder', () => 'folder/x'],
    ['with a path of Windows', () => '..\\x'],
    ['of nothing', () => ''],
    ['of a folder', () => '..'],
    ['with a line end', () => 'x\ny'],
    ['in another case', () => 'MACHINE-DISK1.VMDK'],
    ['of one that is there', () => 'machine-disk1.vmdk'],
    ['that turns the writing around', () => 'x\u202efdp.vmdk'],
  ]
  const types: [string, string][] = [
    ['symbolic link', '2'],
    ['hard link', '1'],
    ['device', '3'],
    ['folder', '5'],
    ['pipe', '6'],
    ['sparse file', 'S'],
    ['long name', 'L'],
    ['long link', 'K'],
    ['header for all', 'g'],
  ]
  const pax = (record: string) => () =>
    withMore({ name: 'pax', bytes: Buffer.from(record), type: 'x' }, { name: 'x', bytes: EMPTY })
  return [
    ...names.map(([name, spell]) =>
      hostile(10, 'archive', `OVA with a member ${name}`, (path) =>
        withMore({ name: spell(path), bytes: EMPTY }),
      ),
    ),
    ...types.map(([name, type]) =>
      hostile(10, 'archive', `OVA with a ${name}`, (path) =>
        withMore({ name: 'x', bytes: EMPTY, type, linkName: path.slice(0, 99) }),
      ),
    ),
    hostile(10, 'archive', 'OVA with a symbolic link and then its file', (path) =>
      withMore(
        { name: 'x', bytes: EMPTY, type: '2', linkName: path.slice(0, 99) },
        { name: 'x', bytes: Buffer.from('x') },
      ),
    ),
    hostile(10, 'archive', 'OVA with a zero in a name', () =>
      withMore({ name: 'x', bytes: EMPTY, patch: (header) => header.write('y', 2, 'latin1') }),
    ),
    hostile(10, 'archive', 'OVA with a folder in front of a name', () =>
      withMore({ name: 'x', bytes: EMPTY, patch: (header) => header.write('..', 345, 'latin1') }),
    ),
    hostile(10, 'archive', 'OVA with 5 000 members', () =>
      withMore(...Array.from({ length: 5000 }, (_, index) => ({ name: `x${index}`, bytes: EMPTY }))),
    ),
    hostile(10, 'archive', 'OVA with a name in a second header', pax('17 path=../../x\n\n'.slice(0, 17))),
    hostile(11, 'archive', 'OVA with two sizes of a member', pax('12 size=512\n')),
    hostile(10, 'archive', 'OVA with a sparse map in a second header', pax('22 GNU.sparse.major=1\n')),
    hostile(6, 'truncated', 'OVA with a member of 8 EiB', () =>
      withMore({
        name: 'x',
        bytes: EMPTY,
        patch: (header) => header.write(`80${'00'.repeat(4)}001fffffffffff`, 124, 'hex'),
      }),
    ),
    hostile(4, 'archive', 'OVA with bytes behind its end', () =>
      withBytes(buildOva(), buildOva().length + 512, 'more'),
    ),
    hostile(4, 'archive', 'OVA with an archive behind it', () => Buffer.concat([buildOva(), buildOva()])),
    hostile(12, 'archive', 'tar of anything', () => buildTar([{ name: 'x', bytes: Buffer.from('x') }])),
    hostile(12, 'truncated', 'OVA without an end', () => buildOva().subarray(0, -1024)),
  ]
}

function manifests(): HostileFile[] {
  return [
    hostile(11, 'checksum', 'OVA with a disk that is not the manifest’s', () =>
      buildOva({ changeManifest: (text) => text.replace(/= [0-9a-f]{8}/g, '= 00000000') }),
    ),
    hostile(11, 'archive', 'OVA whose manifest tells two digests of a file', () =>
      buildOva({
        changeManifest: (text) => `${text}SHA256(machine.ovf)= ${'0'.repeat(64)}\n`,
      }),
    ),
    hostile(11, 'archive', 'OVA with two manifests', () =>
      withMore({ name: 'other.mf', bytes: Buffer.from(`SHA256(machine.ovf)= ${'0'.repeat(64)}\n`) }),
    ),
    hostile(11, 'archive', 'OVA with two descriptions', () =>
      withMore({ name: 'other.ovf', bytes: Buffer.from('<Envelope/>') }),
    ),
    hostile(11, 'archive', 'OVA whose manifest leaves a disk out', () =>
      buildOva({ changeManifest: (text) => `${text.split('\n')[0]}\n` }),
    ),
    hostile(11, 'archive', 'OVA whose manifest names a file that is not there', () =>
      buildOva({ changeManifest: (text) => `${text}SHA256(x.vmdk)= ${'0'.repeat(64)}\n` }),
    ),
    hostile(12, 'archive', 'OVA with a manifest of anything', () =>
      buildOva({ changeManifest: () => 'SHA256(machine.ovf)= ../../etc/passwd\n' }),
    ),
  ]
}

function descriptions(): HostileFile[] {
  const nested = `${'<a>'.repeat(100_000)}${'</a>'.repeat(100_000)}`
  const attributes = Array.from({ length: 10_000 }, (_, index) => ` a${index}=""`).join('')
  return [
    hostile(
      11,
      'archive',
      'OVF with two names for one file',
      ovf('ovf:href="', 'href="other.vmdk" ovf:href="'),
    ),
    hostile(
      11,
      'archive',
      'OVF with one file for two names',
      ovf('</References>', '<File ovf:href="machine-disk1.vmdk" ovf:id="again"/></References>'),
    ),
    hostile(
      11,
      'archive',
      'OVF with two firmwares',
      ovf('<vmw:Config', '<vmw:ExtraConfig vmw:key="firmware" vmw:value="bios"/><vmw:Config'),
    ),
    hostile(10, 'archive', 'OVF with a path', ovf('href="machine-disk1.vmdk"', 'href="../../etc/passwd"')),
    hostile(
      14,
      'archive',
      'OVF with an address',
      ovf('href="machine-disk1.vmdk"', 'href="http://169.254.169.254/"'),
    ),
    hostile(
      13,
      'unsupported',
      'OVF with a compression for a shell',
      ovf('<File', '<File ovf:compression="gzip;touch x"'),
    ),
    hostile(
      13,
      'unsupported',
      'OVF with a format for a shell',
      ovf(/ovf:format="[^"]*"/, 'ovf:format="$(touch x)"'),
    ),
    hostile(1, 'parent', 'OVF with a disk on another', ovf('<Disk ', '<Disk ovf:parentRef="base" ')),
    hostile(6, 'archive', 'OVF that is deep', ovf('<Info>Disks</Info>', nested)),
    hostile(6, 'archive', 'OVF that is wide', ovf('<Info>Disks</Info>', '<a/>'.repeat(50_000))),
    hostile(6, 'archive', 'OVF with attributes without end', ovf('<Info>Disks</Info>', `<a${attributes}/>`)),
    hostile(6, 'archive', 'OVF that is long', ovf('<Info>Disks</Info>', `<a>${'x'.repeat(1024 * 1024)}</a>`)),
    hostile(
      7,
      'archive',
      'OVF with entities of entities',
      ovf(
        '<Envelope',
        `<!DOCTYPE a [<!ENTITY a "${'a'.repeat(64)}"><!ENTITY b "${'&a;'.repeat(64)}">]><Envelope`,
      ),
    ),
    hostile(
      10,
      'archive',
      'OVF with an entity of a file',
      ovf('<Envelope', '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]><Envelope'),
    ),
    hostile(12, 'archive', 'OVF that is cut short', ovf(/<\/VirtualSystem>[\s\S]*/, '')),
    hostile(12, 'archive', 'OVF of another root', ova({ changeOvf: () => '<Machine/>' })),
    hostile(12, 'archive', 'OVF of nothing', ova({ changeOvf: () => '' })),
    hostile(12, 'archive', 'OVF with a capacity of words', ovf(/ovf:capacity="\d+"/, 'ovf:capacity="ten"')),
    hostile(12, 'archive', 'OVF with a disk that is nowhere', ovf('ovf:/disk/disk1', 'ovf:/disk/disk2')),
    hostile(12, 'archive', 'OVF with a disk that nobody has', ovf('ResourceType>17<', 'ResourceType>15<')),
    hostile(
      12,
      'unsupported',
      'OVF of several machines',
      ovf('</Envelope>', '<VirtualSystem ovf:id="b"/></Envelope>'),
    ),
    hostile(
      12,
      'unsupported',
      'OVF of a group of machines',
      ovf('</Envelope>', '<VirtualSystemCollection/></Envelope>'),
    ),
    hostile(12, 'unsupported', 'OVF with a disk without a file', ovf('ovf:fileRef="file1"', '')),
    hostile(8, 'size', 'OVF with another size than its disk', ovf(/ovf:capacity="\d+"/, 'ovf:capacity="1"')),
  ]
}

function disks(): HostileFile[] {
  return [
    hostile(1, 'extents', 'OVA with a qcow2 for a VMDK', (path) =>
      buildOva({
        disks: [buildQcow2({ virtualBytes: 65536, backing: { name: path, format: 'raw' } })],
        changeOvf: (text) => text.replace(/ovf:capacity="\d+"/, 'ovf:capacity="65536"'),
      }),
    ),
    hostile(3, 'parent', 'OVA with a VMDK that has a parent', (path) =>
      buildOva({ disks: [buildVmdk({ moreDescriptor: `parentFileNameHint="${path}"` })] }),
    ),
    hostile(8, 'too-large', 'OVA with a VMDK of 8 EiB', () =>
      buildOva({
        disks: [buildVmdk({ patchHeader: (header) => header.fill(0xff, 12, 20) })],
        changeOvf: (text) => text.replace(/ovf:capacity="\d+"/, 'ovf:capacity="65536"'),
      }),
    ),
  ]
}
