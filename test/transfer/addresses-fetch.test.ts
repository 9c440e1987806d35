import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { buildQcow2 } from '../../src/disk/formats/qcow2.fixture.ts'
import type { ShownImage, ShownTask } from '../../src/wire/native/show.ts'
import { idle } from '../e2e/harness.ts'
import { good, type Person, until } from '../e2e/small-place.ts'
import { HOME } from '../e2e/valid-calls.ts'
import {
  type Answer,
  assertNothingTold,
  type Depot,
  digestOf,
  importFrom,
  MIB,
  newDepot,
  newFile,
  requestsOf,
  SIGNED,
  SIZE_BYTES,
  SIZE_BYTES_MAX,
  sha256,
  WORDS,
} from './depot.ts'
import { type ServedFile, serveEndless, serveFile } from './file-origin.ts'
import { endOf, imageOf, reasonOf } from './import-doors.ts'
import { objectsOf } from './store-objects.ts'

// Fetching from an address that the settings allow: what a download that goes wrong ends in, and that nothing is left.

test('fetching through a real server', async (t) => {
  const depot = await newDepot(t)
  await t.test('as UCloud tools go about it: import, then look until it is made or is not', () =>
    assertToolsSeeIt(depot),
  )
  await t.test('a download that broke goes on where it was, or begins again where the file is another', () =>
    assertGoesOn(depot),
  )
  await t.test('a length that is wrong, a file without an end, and a wrong checksum', () =>
    assertMeasured(depot),
  )
  await t.test('nothing of all this is left once the images are deleted', () => assertNothingLeft(depot))
  await assertNothingTold(depot)
})

/** Packer's ucloud-import: an empty ImageSet or an error would end its wait. */
async function assertToolsSeeIt({ person, origin, paths }: Depot): Promise<void> {
  const file = newFile()
  paths.set('/packer.raw', (request, response) => serveFile(request, response, file))
  const backed = buildQcow2({ virtualBytes: MIB, backing: { name: '/etc/passwd', format: 'raw' } })
  paths.set('/backed.qcow2', (request, response) => serveFile(request, response, newFile(backed)))
  paths.set('/denied.raw', (_, response) => response.writeHead(403).end(WORDS.inside))
  for (const [path, Format, wanted] of [
    ['/packer.raw', 'RAW', 'Available'],
    ['/packer.raw', 'VMDK', 'Unavailable'],
    ['/backed.qcow2', 'qcow2', 'Unavailable'],
    ['/denied.raw', 'RAW', 'Unavailable'],
    ['/absent.raw', 'RAW', 'Unavailable'],
  ] as const) {
    const { ImageId } = await good<{ ImageId: string }>(
      person.uhost('ImportCustomImage', {
        ...{ Region: HOME, ImageName: 'packer', ImageDescription: 'made by a tool' },
        ...{ UFileUrl: `${origin.origin}${path}${SIGNED}`, Format, Auth: 'true' },
        ...{ OsType: 'CentOS', OsName: 'CentOS 7.2 64-bit' },
      }),
    )
    const seen = new Set<string>()
    const image = await until(`${path} to be ${wanted}`, async () => {
      type List = { readonly ImageSet: readonly { State: string; ImageId: string; OsName: string }[] }
      const { ImageSet } = await good<List>(person.uhost('DescribeImage', { Region: HOME, ImageId }))
      assert.equal(ImageSet.length, 1)
      seen.add(ImageSet[0]?.State ?? '')
      return ImageSet[0]?.State === 'Making' ? undefined : ImageSet[0]
    })
    assert.deepEqual([image.ImageId, image.OsName], [ImageId, 'CentOS 7.2 64-bit'])
    assert.equal(image.State, wanted, path)
    seen.delete('Making')
    assert.deepEqual([...seen], [wanted])
  }
}

async function assertGoesOn(depot: Depot): Promise<void> {
  const { paths, person } = depot
  const file = newFile()
  const other = newFile()
  const [digest, otherDigest] = await Promise.all([digestOf(depot, file.bytes), digestOf(depot, other.bytes)])
  const broken = (path: string, after: ServedFile, habits = {}) => {
    let count = 0
    paths.set(path, (request, response) => {
      if (count++ === 0) serveFile(request, response, file, { breaksAt: SIZE_BYTES / 2 })
      else serveFile(request, response, after, habits)
    })
  }
  broken('/same.raw', file)
  broken('/changed.raw', other)
  broken('/deaf.raw', other, { ignoresIfRange: true })
  const unmarked = { bytes: file.bytes, etag: undefined }
  let unmarkedCount = 0
  paths.set('/unmarked.raw', (request, response) =>
    serveFile(request, response, unmarked, unmarkedCount++ === 0 ? { breaksAt: MIB } : {}),
  )
  const begun = await Promise.all(
    (['/same.raw', '/changed.raw', '/deaf.raw', '/unmarked.raw'] as const).map(async (path) => {
      const bytes = path === '/same.raw' || path === '/unmarked.raw' ? file.bytes : other.bytes
      const checksum = { algorithm: 'sha256', hex: sha256(bytes) }
      return { path, image: await imageOf(person, await importFrom(depot, path, { checksum })) }
    }),
  )
  for (const { path, image } of begun) {
    const isOther = path === '/changed.raw' || path === '/deaf.raw'
    assert.equal(image.digest, isOther ? otherDigest : digest, path)
    assert.equal(image.imported?.fileBytes, SIZE_BYTES)
  }
  const [first, second, ...more] = requestsOf(depot, '/same.raw')
  assert.deepEqual([first?.headers.range, more], [undefined, []])
  const offset = Number(/^bytes=(\d+)-$/.exec(second?.headers.range ?? '')?.[1])
  assert.ok(offset > 0 && offset <= SIZE_BYTES / 2, `went on at ${offset}`)
  assert.equal(second?.headers['if-range'], file.etag)
  assert.equal(requestsOf(depot, '/changed.raw').length, 2)
  // It sent a part of another file, so the whole was asked for.
  assert.deepEqual(
    requestsOf(depot, '/deaf.raw').map(({ headers }) => headers.range !== undefined),
    [false, true, false],
  )
  assert.deepEqual(
    requestsOf(depot, '/unmarked.raw').map(({ headers }) => headers.range),
    [undefined, undefined],
  )
}

async function assertMeasured(depot: Depot): Promise<void> {
  const { paths, person } = depot
  const file = newFile()
  const announce =
    (lengthBytes: number, bytes = file.bytes): Answer =>
    (request, response) => {
      if (request.headers.range !== undefined) return serveFile(request, response, file)
      response.writeHead(200, { ETag: file.etag, 'Content-Length': lengthBytes })
      response.write(bytes, () => response.destroy())
    }
  // More than comes: what came is all there is, says the server when it is asked for the rest.
  paths.set('/long.raw', announce(SIZE_BYTES + MIB))
  const long = await imageOf(person, await importFrom(depot, '/long.raw'))
  assert.equal(long.digest, await digestOf(depot, file.bytes))

  // Less than there is: a whole file for all that can be seen, but for its checksum.
  paths.set('/short.raw', announce(SIZE_BYTES / 2, file.bytes.subarray(0, SIZE_BYTES / 2)))
  const right = { algorithm: 'sha256', hex: sha256(file.bytes) }
  const short = await reasonOf(person, await importFrom(depot, '/short.raw', { checksum: right }))
  assert.match(short, /sha256 is [0-9a-f]{64}, not the one given/)
  paths.set('/right.raw', (request, response) => serveFile(request, response, file))
  const sums = { sha256: 64, sha512: 128, sha1: 40, md5: 32 }
  const wrong = Object.entries(sums).map(async ([algorithm, digits]) => {
    const checksum = { algorithm, hex: 'a'.repeat(digits) }
    const reason = await reasonOf(person, await importFrom(depot, '/right.raw', { checksum }))
    assert.match(reason, new RegExp(`${algorithm} is [0-9a-f]{${digits}}, not the one given`))
  })
  await Promise.all(wrong)
  // More than is taken in: said so, or found out.
  paths.set('/huge.raw', announce(2 ** 41))
  assert.match(await reasonOf(person, await importFrom(depot, '/huge.raw')), /larger than 8388608 bytes/)
  const endless = serveEndless(randomBytes(256 * 1024))
  paths.set('/endless.raw', endless.listener)
  assert.match(await reasonOf(person, await importFrom(depot, '/endless.raw')), /larger than 8388608 bytes/)
  // What was on its way in buffers of both sides is all that came more.
  assert.ok(endless.sentBytes() < 4 * SIZE_BYTES_MAX, `${endless.sentBytes()} bytes were sent`)

  // One that never keeps its word is asked again for a while; whoever does not want to wait cancels.
  paths.set('/liar.raw', (_, response) => {
    response.writeHead(200, { 'Content-Length': 1000 })
    response.write('x'.repeat(500), () => response.destroy())
  })
  const begun = await importFrom(depot, '/liar.raw')
  await until('a second try', async () => requestsOf(depot, '/liar.raw').length > 1 || undefined)
  await cancelImport(person, begun.is === 'begun' ? begun.imageId : '')
  assert.equal((await endOf(person, begun)).task.state, 'cancelled')
  await until('the last connection to end', async () => depot.origin.openCount() === 0 || undefined)
}

async function cancelImport(person: Person, imageId: string): Promise<void> {
  const { tasks } = await good<{ tasks: ShownTask[] }>(
    person.native('GET', '/v1/tasks', { query: { live: 'true' } }),
  )
  const task = tasks.find((one) => one.imageId === imageId)
  assert.ok(task !== undefined, 'the import still runs')
  await good(person.native('DELETE', `/v1/tasks/${task.id}`))
}

/** No image, no charge, no object of the store. */
async function assertNothingLeft({ place, person }: Depot): Promise<void> {
  const query = { region: HOME, limit: '500' }
  const { images } = await good<{ images: ShownImage[] }>(person.native('GET', '/v1/images', { query }))
  const charged = async () => {
    type List = { readonly projects: readonly { chargedBytes: number }[] }
    const { projects } = await good<List>(person.native('GET', '/v1/projects'))
    return projects.map(({ chargedBytes }) => chargedBytes)
  }
  const kept = images.filter(({ state }) => state === 'available')
  assert.deepEqual(await charged(), [kept.reduce((sum, image) => sum + (image.dataBytes ?? 0), 0)])
  for (const { id } of images) {
    await good(person.native('DELETE', `/v1/images/${id}`, { query: { region: HOME } }))
  }
  await idle(place.server)
  assert.deepEqual(await charged(), [0])
  assert.deepEqual(await objectsOf(place), [])
}
