import assert from 'node:assert/strict'
import { createReadStream } from 'node:fs'
import { mkdir, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { waitForTask } from '../../demo/steps.ts'
import { buildOva } from '../../src/disk/formats/ova.fixture.ts'
import { buildVmdk } from '../../src/disk/formats/vmdk.fixture.ts'
import { EXPORT_FORMATS } from '../../src/disk/layouts/contract.ts'
import type { ShownImageWhole } from '../../src/wire/native/show.ts'
import { run } from '../disks/programs.ts'
import { seeded } from './chance.ts'
import { calotypeOk, startCalotype } from './command-line.ts'
import { assertIsDisk, makeDisk } from './disks.ts'
import { startFront } from './front.ts'
import { get, headerDigest, makeLink, sha256 } from './links.ts'
import {
  beginImport,
  collectNow,
  deleteImage,
  digestOf,
  imported,
  newTransferPlace,
  type TransferPlace,
} from './transfer-place.ts'

const MIB = 1024 ** 2
const DISK_BYTES = 120 * MIB
const ODD_BYTES = 21 * MIB + 5 * 512

/** A server with the image of one disk, whose raw file is `raw`. */
async function newImage(
  t: TestContext,
  sizeBytes: number,
): Promise<{ place: TransferPlace; image: ShownImageWhole; raw: string }> {
  const place = await newTransferPlace(t)
  const raw = join(place.imports, 'disk.raw')
  await makeDisk(raw, sizeBytes, 41)
  return { place, raw, image: await importFile(place, 'disk.raw') }
}

const importFile = async (place: TransferPlace, fileName: string) =>
  imported(place, await beginImport(place, { fileName }, fileName))

for (const sizeBytes of [DISK_BYTES, ODD_BYTES]) {
  test(`a disk of ${sizeBytes} bytes goes out in every format, and comes in again as the same image`, async (t) => {
    const { place, raw, image } = await newImage(t, sizeBytes)
    for (const format of EXPORT_FORMATS) {
      const path = join(place.imports, `out.${format}`)
      await calotypeOk(place, 'image', 'export', image.id, '--format', format, '-o', path)
      await assertIsDisk(path, format, raw)
      if (format !== 'raw') await run('qemu-img', ['check', '-q', '-f', format, path])
      const { size, blocks } = await stat(path)
      assert.ok(blocks * 512 < sizeBytes / 2, `${format}: ${blocks * 512} of ${size} bytes are on the disk`)
      const packed = `${path}.zst`
      const link = await makeLink(place, image.id, { format, compress: 'zstd' })
      await writeFile(packed, (await get(place, link)).body)
      await run('zstd', ['-dqc', '-o', `${path}.again`, packed])
      await run('cmp', [path, `${path}.again`])
    }
    const words = ['image', 'export', image.id, '--format', 'vhdx', '--compress', 'zstd']
    await calotypeOk(place, ...words, '-o', join(place.folder, 'out.vhdx.zst'))
    await run('zstd', ['-dqc', '-o', join(place.folder, 'out.vhdx'), join(place.folder, 'out.vhdx.zst')])
    await run('cmp', [join(place.folder, 'out.vhdx'), join(place.imports, 'out.vhdx')])
    const names = EXPORT_FORMATS.flatMap((format) => [`out.${format}`, `out.${format}.zst`])
    const again = names.map((fileName) => importFile(place, fileName))
    for (const one of await Promise.all(again)) assert.equal(digestOf(one), digestOf(image), one.name)
  })
}

test('any range of a download is that range of the whole, and says so', async (t) => {
  const { place, raw, image } = await newImage(t, ODD_BYTES)
  const random = seeded(t)
  for (const format of EXPORT_FORMATS) {
    const link = await makeLink(place, image.id, { format, digest: true })
    assert(link.taskId !== null)
    const { output } = await waitForTask(place.server, link.taskId)
    const { sizeBytes, sha256: told } = output as { sizeBytes: number; sha256: string }
    const whole = await get(place, link)
    const etag = whole.headers.get('etag') ?? ''
    assert.match(etag, /^"[^"]+"$/)
    assert.deepEqual([whole.status, whole.body.length], [200, sizeBytes])
    assert.deepEqual([link.sizeBytes, whole.headers.get('content-length')], [sizeBytes, String(sizeBytes)])
    assert.equal(sha256(whole.body).digest('hex'), told)
    assert.equal(headerDigest(whole, 'repr-digest'), told)
    assert.match(whole.headers.get('content-disposition') ?? '', new RegExp(`filename="disk.raw.${format}"`))
    if (format === 'raw') await assertBytes(raw, whole.body)

    const head = await get(place, link, {}, 'HEAD')
    for (const name of ['etag', 'content-length', 'accept-ranges', 'repr-digest', 'content-disposition'])
      assert.equal(head.headers.get(name), whole.headers.get(name), name)
    assert.deepEqual([head.status, head.body.length], [200, 0])

    const pieces: Buffer[] = []
    for (let at = 0; at < sizeBytes; ) {
      // Mostly of some chunks, now and then of some bytes.
      const lengthBytes = Math.min(1 + random(random(4) === 0 ? 5000 : 2 * MIB), sizeBytes - at)
      const headers = {
        range: `bytes=${at}-${at + lengthBytes - 1}`,
        'if-range': etag,
        'want-content-digest': 'sha-256=10',
      }
      const part = await get(place, link, headers)
      assert.equal(part.status, 206)
      assert.equal(part.headers.get('content-range'), `bytes ${at}-${at + lengthBytes - 1}/${sizeBytes}`)
      assert.equal(headerDigest(part, 'content-digest'), sha256(part.body).digest('hex'))
      assert.equal(headerDigest(part, 'repr-digest'), told)
      pieces.push(part.body)
      at += lengthBytes
    }
    assert.ok(Buffer.concat(pieces).equals(whole.body), format)

    const ask = async (range: string, more: Record<string, string> = {}) => {
      const { status, body, headers } = await get(place, link, { range, ...more })
      return { status, body, range: headers.get('content-range') }
    }
    const last = sizeBytes - 1
    const tail = await ask('bytes=-700')
    assert.deepEqual([tail.status, tail.range], [206, `bytes ${sizeBytes - 700}-${last}/${sizeBytes}`])
    assert.ok(tail.body.equals(whole.body.subarray(-700)))
    const rest = await ask(`bytes=${last - 9}-`)
    assert.ok(rest.status === 206 && rest.body.equals(whole.body.subarray(-10)))
    const beyond = await ask(`bytes=${last}-${sizeBytes + 100}`)
    assert.deepEqual([beyond.status, beyond.range], [206, `bytes ${last}-${last}/${sizeBytes}`])
    for (const range of [`bytes=${sizeBytes}-`, `bytes=${2 ** 60}-`, 'bytes=-0']) {
      const { status, range: told } = await ask(range)
      assert.deepEqual([status, told], [416, `bytes */${sizeBytes}`], range)
    }
    // What is no single range, or of another file, is answered with all of it.
    for (const [range, more] of [
      ['bytes=0-1,5-9', {}],
      ['bytes=9-3', {}],
      ['pages=1-2', {}],
      ['bytes=0-9', { 'if-range': '"another"' }],
    ] as const) {
      const all = await ask(range, more)
      assert.ok(all.status === 200 && all.body.equals(whole.body), `${range} ${JSON.stringify(more)}`)
    }
    assert.equal((await get(place, link, { 'if-none-match': etag })).status, 304)
    assert.equal((await get(place, link, { 'if-match': '"another"' })).status, 412)
    assert.equal((await get(place, link, { 'if-match': etag, range: 'bytes=0-0' })).status, 206)
  }
  await assert.rejects(makeLink(place, image.id, { format: 'raw', disk: 1 }), { kind: 'absent' })
  const packed = { format: 'raw', compress: 'zstd', digest: true } as const
  await assert.rejects(makeLink(place, image.id, packed), { kind: 'invalid' })
})

async function assertBytes(path: string, bytes: Buffer): Promise<void> {
  let at = 0
  for await (const piece of createReadStream(path)) {
    const { length } = piece as Buffer
    assert.ok((piece as Buffer).equals(bytes.subarray(at, at + length)), `from byte ${at} on`)
    at += length
  }
  assert.equal(at, bytes.length)
}

test('each of several disks goes out for itself', async (t) => {
  const place = await newTransferPlace(t)
  const fills = [3, 5, 7]
  const disks = fills.map((fill, index) =>
    buildVmdk({
      kind: 'streamOptimized',
      capacitySectors: 2048 * (index + 1),
      grains: new Map([[index, Buffer.alloc(4096, fill)]]),
    }),
  )
  await writeFile(join(place.imports, 'three.ova'), buildOva({ disks }))
  const image = await importFile(place, 'three.ova')
  const out = join(place.folder, 'out')
  await mkdir(out)
  const words = ['image', 'export', image.id, '--format', 'qcow2']
  await calotypeOk(place, ...words, '--all-disks', '-o', join(out, 'disk'))
  const names = fills.map((_fill, index) => `disk-${index}.qcow2`)
  assert.deepEqual((await readdir(out)).sort(), names)
  for (const [index, fill] of fills.entries()) {
    const raw = Buffer.alloc(MIB * (index + 1))
    raw.fill(fill, 4096 * index, 4096 * (index + 1))
    const { body } = await get(place, await makeLink(place, image.id, { format: 'raw', disk: index }))
    assert.ok(body.equals(raw))
    await writeFile(join(place.folder, 'raw'), raw)
    await assertIsDisk(join(out, `disk-${index}.qcow2`), 'qcow2', join(place.folder, 'raw'))
  }
})

test('a download whose image is deleted meanwhile ends, or is right; there is none any more', async (t) => {
  const { place, raw, image } = await newImage(t, DISK_BYTES)
  const link = await makeLink(place, image.id, { format: 'raw' })
  const response = await fetch(new URL(link.path, place.server.endpoint))
  const reader = response.body?.getReader()
  assert(reader !== undefined)
  const first = await reader.read()
  await deleteImage(place, image.id)
  await collectNow(place)
  let cameBytes = 0
  const file = createReadStream(raw, { highWaterMark: MIB })[Symbol.asyncIterator]()
  let wanted: Buffer = Buffer.alloc(0)
  try {
    for (let next = first; !next.done; next = await reader.read()) {
      const piece: Buffer = Buffer.from(next.value)
      while (wanted.length < piece.length)
        wanted = Buffer.concat([wanted, (await file.next()).value as Buffer])
      assert.ok(wanted.subarray(0, piece.length).equals(piece), `from byte ${cameBytes} on`)
      wanted = wanted.subarray(piece.length)
      cameBytes += piece.length
    }
    assert.equal(cameBytes, DISK_BYTES)
  } catch (error) {
    // Its chunks went before it had read them: it breaks off, and no client takes that for the whole.
    assert.ok(error instanceof TypeError, String(error))
    assert.ok(cameBytes < DISK_BYTES)
  }
  await file.return?.()
  t.diagnostic(`${cameBytes} of ${DISK_BYTES} bytes came`)
  assert.equal((await get(place, link)).status, 404)
  await assert.rejects(makeLink(place, image.id, { format: 'raw' }), { kind: 'absent' })
})

test('a download that the death of the server cuts goes on with the next one, where it was', async (t) => {
  const place = await newTransferPlace(t)
  const random = seeded(t)
  const raw = join(place.imports, 'noise.raw')
  await writeFile(raw, random.bytes(96 * MIB))
  const image = await importFile(place, 'noise.raw')
  const front = await startFront(place)
  t.after(() => front.close())
  const kills = [20 + random(20), 60 + random(20)].map((mebibytes) => mebibytes * MIB)
  t.diagnostic(`killed once ${kills.join(' and ')} bytes have come`)
  let killed: Promise<void> | undefined
  front.onBytes = ({ fromServerBytes }) => {
    const [next] = kills
    if (next === undefined || fromServerBytes < next || killed !== undefined) return
    kills.shift()
    killed = place.killAndRestart().then(() => {
      killed = undefined
    })
    return killed
  }
  const path = join(place.folder, 'noise.qcow2')
  const words = ['image', 'export', image.id, '--format', 'qcow2', '-o', path, '--part-size', '4MiB']
  const told = [...words, '--data', place.data, '--endpoint', front.endpoint.origin]
  const { exitCode, stderr } = await startCalotype(place, told).ended
  assert.equal(exitCode, 0, stderr)
  assert.deepEqual(kills, [])
  await assertIsDisk(path, 'qcow2', raw)
  // Four parts at once were under way when it died, and the one that it tells of the file.
  assert.ok(
    front.passed.fromServerBytes < 96 * MIB + 2 * 5 * 4 * MIB + MIB,
    `${front.passed.fromServerBytes}`,
  )
  await rm(path)

  // And the one whose own process ends: the next one goes on.
  const again = startCalotype(place, told)
  const before = front.passed.fromServerBytes
  await new Promise<void>((resolve) => {
    front.onBytes = ({ fromServerBytes }) => {
      if (fromServerBytes - before < 50 * MIB) return
      front.onBytes = () => {}
      again.process.kill('SIGINT')
      resolve()
    }
  })
  const stopped = await again.ended
  assert.notEqual(stopped.exitCode, 0)
  assert.ok((await stat(`${path}.part`)).size > 0, stopped.stderr)
  const middle = front.passed.fromServerBytes
  const last = await startCalotype(place, told).ended
  assert.equal(last.exitCode, 0, last.stderr)
  assert.ok(front.passed.fromServerBytes - middle < 80 * MIB, `${front.passed.fromServerBytes - middle}`)
  await assertIsDisk(path, 'qcow2', raw)
})
