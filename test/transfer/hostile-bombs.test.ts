import assert from 'node:assert/strict'
import { createReadStream, createWriteStream } from 'node:fs'
import { readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { test } from 'node:test'
import { createZstdCompress, deflateSync, gzipSync } from 'node:zlib'
import { waitForTask } from '../../demo/steps.ts'
import { buildOva } from '../../src/disk/formats/ova.fixture.ts'
import { buildQcow2 } from '../../src/disk/formats/qcow2.fixture.ts'
import { buildQed } from '../../src/disk/formats/qed.fixture.ts'
import { rawDisk } from '../../src/disk/formats/seeds.fixture.ts'
import { buildVmdk } from '../../src/disk/formats/vmdk.fixture.ts'
import type { Place } from '../e2e/harness.ts'
import { manyMembers, packed, zeros } from './hostile-bombs.ts'
import { assertHoldsAsBefore, heldAfterHarmless, newHostilePlace } from './hostile-place.ts'
import { byFolder, byUpload, createUpload, sendPart, type Way, whyRefused } from './hostile-ways.ts'
import { beginImport, getImage } from './transfer-place.ts'

const MIB = 1024 ** 2
const MEMBER_COUNT = 1_000_000
/** Of the server, whatever comes: what all its threads take, their caches and the buffers on their way. */
const RESIDENT_BYTES_MAX = 1024 * MIB

/** The most memory that the server has had. */
async function residentBytesMost({ server }: Place): Promise<number> {
  const status = await readFile(`/proc/${server.process?.pid}/status`, 'utf8')
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024
}

const BOMBS: readonly (readonly [name: string, why: RegExp, make: () => Buffer])[] = [
  ['gzip of 10 GiB', /unpacks to more than the 1024 MiB/, () => zeros('gzip')],
  ['zstd of 10 GiB', /unpacks to more than 2000 times its size/, () => zeros('zstd')],
  ['xz of 10 GiB', /unpacks to more than/, () => zeros('xz')],
  ['gzip of the zstd of 10 GiB', /packed twice/, () => gzipSync(zeros('zstd'))],
  ['xz of the gzip of a disk', /packed twice/, () => packed('xz', gzipSync(rawDisk('MBR')))],
  ['zstd of an OVA of 8 EiB', /larger than/, () => packed('zstd', absurdOva())],
  ['xz of a qcow2 of 16 EiB', /larger than/, () => packed('xz', absurdQcow2())],
  [
    'gzip of a QED with a backing file',
    /another file/,
    () => packed('gzip', buildQed({ virtualBytes: MIB, backingName: '/x' })),
  ],
  [
    'gzip followed by a qcow2',
    /damaged or cut off|follows the end/,
    () => Buffer.concat([gzipSync(rawDisk('MBR')), absurdQcow2()]),
  ],
]

const absurdQcow2 = () => buildQcow2({ virtualBytes: MIB, patch: (file) => file.fill(0xff, 24, 32) })
const absurdOva = () =>
  buildOva({
    disks: [buildVmdk({ patchHeader: (header) => header.fill(0xff, 12, 20) })],
    changeOvf: (text) => text.replace(/ovf:capacity="\d+"/, 'ovf:capacity="65536"'),
  })

test('bombs are refused before they have cost anything', async (t) => {
  const place = await newHostilePlace(t, { CALOTYPE_IMPORTS_DISK_BYTES_MAX: String(1024 * MIB) })
  const before = await heldAfterHarmless(place)

  for (const [index, [name, why, make]] of BOMBS.entries()) {
    await t.test(name, async () => {
      const bytes = make()
      const way: Way = index % 2 === 0 ? byUpload : byFolder
      assert.match(await way(place, { name, bytes }), why)
      assert.deepEqual(await place.tools.startedQemu(), [])
    })
  }

  await t.test('a million members of an archive, packed and as they are', async () => {
    const path = join(place.imports, 'many.ova')
    await pipeline(Readable.from(manyMembers(MEMBER_COUNT)), createWriteStream(path))
    assert.ok((await stat(path)).size > MEMBER_COUNT * 512)
    const begun = await beginImport(place, { fileName: 'many.ova' }, 'many')
    assert.match(await whyRefused(place, { name: 'many' }, begun), /holds more than \d+ files/)

    const squeezed = join(place.folder, 'many.zst')
    await pipeline(createReadStream(path), createZstdCompress(), createWriteStream(squeezed))
    const { size } = await stat(squeezed)
    const url = await createUpload(place, 'many.zst', size)
    const sent = await sendPart(
      url,
      0,
      Readable.toWeb(createReadStream(squeezed)) as ReadableStream<Uint8Array>,
    )
    assert(sent.is === 'begun', JSON.stringify(sent))
    assert.match(await whyRefused(place, { name: 'many.zst' }, sent), /holds more than \d+ files/)
    await rm(path)
    assert.deepEqual(await place.tools.startedQemu(), [])
  })

  // These are what they say they are; what is wrong is found by whoever unpacks a grain, in its cage.
  const inside: readonly (readonly [string, () => Buffer])[] = [
    [
      'VMDK grain of 1 MiB',
      () => buildVmdk({ kind: 'streamOptimized', packGrain: () => deflateSync(Buffer.alloc(MIB)) }),
    ],
    [
      'VMDK grain of anything',
      () => buildVmdk({ kind: 'streamOptimized', packGrain: () => Buffer.alloc(100, 'x') }),
    ],
    ['qcow2 cluster of anything', garbageQcow2],
  ]
  for (const [name, make] of inside) {
    await t.test(name, async () => {
      await writeFile(join(place.imports, 'inside'), make())
      const begun = await beginImport(place, { fileName: 'inside' }, name)
      const task = await waitForTask(place.server, begun.taskId)
      t.diagnostic(`${name}: ${task.state} ${task.faultKind} ${task.reason}`)
      assert.equal(task.state, 'failed')
      assert.match(task.reason ?? '', /^[A-Z].*\.$/)
      assert.equal((await getImage(place, begun.imageId)).state, 'failed')
    })
  }

  const mostBytes = await residentBytesMost(place)
  t.diagnostic(`the server had at most ${Math.round(mostBytes / MIB)} MiB of memory`)
  assert.ok(mostBytes < RESIDENT_BYTES_MAX, `the server had ${mostBytes} bytes of memory`)
  await place.tools.forget()
  await assertHoldsAsBefore(place, before)
})

/** Bytes that no zlib wrote, where the table says that a packed cluster is. */
const garbageQcow2 = () =>
  buildQcow2({
    virtualBytes: MIB,
    clusters: new Map([[0, { compressed: Buffer.alloc(4096, 'packed ') }]]),
    patch(file, { l2, clusterBytes }) {
      const [table = 0] = l2
      const offset = file.readUInt32BE(table + 4)
      file.fill(0xff, offset, Math.ceil((offset + 1) / clusterBytes) * clusterBytes)
    },
  })
