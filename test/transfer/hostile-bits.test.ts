import assert from 'node:assert/strict'
import { test } from 'node:test'
import { inspect } from '../../src/disk/formats/inspect.ts'
import { buildOva } from '../../src/disk/formats/ova.fixture.ts'
import { buildQcow2 } from '../../src/disk/formats/qcow2.fixture.ts'
import { buildQed } from '../../src/disk/formats/qed.fixture.ts'
import { bufferSource } from '../../src/disk/formats/source.ts'
import { buildVdi } from '../../src/disk/formats/vdi.fixture.ts'
import { buildVhd } from '../../src/disk/formats/vhd.fixture.ts'
import { buildVhdx } from '../../src/disk/formats/vhdx.fixture.ts'
import { buildVmdk } from '../../src/disk/formats/vmdk.fixture.ts'
import { isFault } from '../../src/image/fault.ts'
import { assertHoldsAsBefore, heldAfterHarmless, newHostilePlace } from './hostile-place.ts'
import { byFolder, forEach } from './hostile-ways.ts'

const MIB = 1024 ** 2

/** Undefined where the file is taken. Anything but a refusal of the file is thrown. */
async function whyNot(file: Buffer): Promise<string | undefined> {
  try {
    await inspect(bufferSource(file), { virtualBytesMax: 2 ** 41 })
    return undefined
  } catch (error) {
    if (isFault(error, 'invalid') && error.subject === 'file') return error.reason
    throw error
  }
}

const qcow2 = (patch: (file: Buffer) => void) =>
  buildQcow2({ virtualBytes: MIB, clusters: new Map([[0, Buffer.alloc(4096, 1)]]), patch })
const flip = (bytes: Buffer, offset: number, bit: number) =>
  bytes.writeUInt8(bytes.readUInt8(offset + (bit >> 3)) ^ (1 << (bit & 7)), offset + (bit >> 3))

/** Words of flags, the bits that mean no harm in each, and how a file with one of them turned around is made. */
const WORDS: readonly (readonly [
  name: string,
  bitCount: number,
  harmless: readonly number[],
  make: (bit: number) => Buffer,
])[] = [
  // Counted from the first byte on. Those that are left: a qcow2 that was not closed, or whose counts are made lazily; marks
  // of line ends and of zeroed grains in a VMDK; 'temporary' and 'reserved' in a VHD; blocks that stay, and a region that a
  // reader may do without, in a VHDX; blocks in order in a VDI.
  ['qcow2 incompatible', 64, [56], (bit) => qcow2((file) => flip(file, 72, bit))],
  ['qcow2 compatible', 64, [56], (bit) => qcow2((file) => flip(file, 80, bit))],
  ['qcow2 autoclear', 64, [], (bit) => qcow2((file) => flip(file, 88, bit))],
  ['QED features', 64, [], (bit) => buildQed({ virtualBytes: MIB, patch: (file) => flip(file, 16, bit) })],
  ['QED compatible', 64, [], (bit) => buildQed({ virtualBytes: MIB, patch: (file) => flip(file, 24, bit) })],
  ['QED autoclear', 64, [], (bit) => buildQed({ virtualBytes: MIB, patch: (file) => flip(file, 32, bit) })],
  ['VMDK flags', 32, [0, 2], (bit) => buildVmdk({ patchHeader: (header) => flip(header, 8, bit) })],
  [
    'VMDK stream flags',
    32,
    [0, 2],
    (bit) =>
      buildVmdk({
        kind: 'streamOptimized',
        patchHeader: (header) => flip(header, 8, bit),
        patchFooter: (footer) => flip(footer, 8, bit),
      }),
  ],
  [
    'VHD features',
    32,
    [24, 25],
    (bit) => buildVhd({ type: 'dynamic', patchFooter: (footer) => flip(footer, 8, bit) }),
  ],
  [
    'VHD type',
    32,
    [],
    (bit) => buildVhd({ type: 'dynamic', patchFooter: (footer) => flip(footer, 60, bit) }),
  ],
  [
    'VHDX file parameters',
    32,
    [0],
    (bit) => buildVhdx({ patchMetadata: (region) => flip(region, 0x10004, bit) }),
  ],
  ['VHDX region flags', 32, [0], (bit) => buildVhdx({ patchRegions: (table) => flip(table, 16 + 28, bit) })],
  ['VHDX log id', 128, [], (bit) => buildVhdx({ patchHeader: (header) => flip(header, 48, bit) })],
  ['VDI flags', 32, [8], (bit) => buildVdi({ patch: (file) => flip(file, 80, bit) })],
  ['VDI type', 32, [], (bit) => buildVdi({ patch: (file) => flip(file, 76, bit) })],
]

test('every bit of every word of flags is refused when it is turned, but for those that mean no harm', async () => {
  for (const [name, bitCount, harmless, make] of WORDS) {
    const taken: number[] = []
    for (let bit = 0; bit < bitCount; bit++) {
      if ((await whyNot(make(bit))) === undefined) taken.push(bit)
    }
    assert.deepEqual(taken, harmless, name)
  }
})

/** What stands in a field instead of what belongs there. */
const ODD_VALUES = [
  '',
  ' ',
  '0',
  '-1',
  '1e308',
  'NaN',
  '18446744073709551616',
  '../../../etc/passwd',
  '/etc/passwd',
  'machine-disk1.vmdk/../x',
  'file:///etc/passwd',
  '$(touch x);`touch x`|touch x',
  'toString',
  '__proto__',
  'ovf:/disk/disk1/../disk1',
  '\u202e\ufeff\ud83d',
  '&amp;#0;',
  '&#x0;',
  '<a',
  ']]>',
  'x'.repeat(70_000),
]

/** Every value of an attribute, every text of an element, every name of either, each with something odd in its place. */
function oddTexts(text: string): string[] {
  const places = [
    ...text.matchAll(/="([^"]*)"|>([^<>\s][^<>]*)<|[< ]([A-Za-z:]+)[= >]|= ([0-9a-f]{64})|\(([^)]*)\)/g),
  ]
  return places.flatMap((match) => {
    const old = match.slice(1).find((group) => group !== undefined) ?? ''
    const start = match.index + match[0].indexOf(old, match[0].startsWith('="') ? 2 : 0)
    return ODD_VALUES.map((value) => text.slice(0, start) + value + text.slice(start + old.length))
  })
}

/** Archives with one odd field each: in the description, in the manifest, in the header of a member. */
function oddArchives(): (() => Buffer)[] {
  const texts = { ovf: '', manifest: '' }
  buildOva({
    changeOvf: (ovf) => (texts.ovf = ovf),
    changeManifest: (manifest) => (texts.manifest = manifest),
  })
  const fields = [0, 100, 108, 116, 124, 136, 156, 157, 257, 263, 265, 297, 329, 337, 345]
  const words = [
    '',
    '../x',
    '/x',
    '777777777777',
    '-1',
    '\xff\xff\xff\xff\xff\xff\xff\xff',
    '9',
    'x\0y',
    'ustar  \0',
  ]
  return [
    ...oddTexts(texts.ovf).map((odd) => () => buildOva({ changeOvf: () => odd })),
    // The same without a manifest, which would only tell that something was changed.
    ...oddTexts(texts.manifest).map((odd) => () => buildOva({ changeManifest: () => odd })),
    ...fields.flatMap((field) =>
      words.map(
        (word) => () =>
          buildOva({
            changeEntries: (entries) =>
              entries.map((entry, index) =>
                index === 2 ? { ...entry, patch: (header) => header.write(word, field, 'latin1') } : entry,
              ),
          }),
      ),
    ),
  ]
}

test('an archive with any field odd is taken or refused, and never does more than that', async (t) => {
  const archives = oddArchives()
  const refused: (() => Buffer)[] = []
  for (const make of archives) {
    if ((await whyNot(make())) !== undefined) refused.push(make)
  }
  t.diagnostic(`${archives.length} archives, ${refused.length} refused`)
  assert.ok(refused.length > archives.length / 2)

  const place = await newHostilePlace(t)
  const before = await heldAfterHarmless(place)
  const some = refused.filter((_, index) => index % Math.floor(refused.length / 60) === 0)
  await forEach(some, async (make, index) => {
    const reason = await byFolder(place, { name: `odd-${index}`, bytes: make(), declared: 'ova' })
    assert.match(reason, /^[A-Z].*\.$/)
  })
  assert.deepEqual(await place.tools.startedQemu(), [])
  await assertHoldsAsBefore(place, before)
})
