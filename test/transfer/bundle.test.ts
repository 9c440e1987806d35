import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { ShownImage } from '../../src/wire/native/show.ts'
import { calotypeJson } from '../clean/command.ts'
import { randomOf } from '../disks/tokens.ts'
import { good, importSmall, personOf, taskEnd } from '../e2e/small-place.ts'
import { AWAY, HOME } from '../e2e/valid-calls.ts'
import { newSeed } from '../live/seed.ts'
import {
  bundleFor,
  exportedSha256,
  failToTakeIn,
  type Installation,
  inventoryOf,
  newInstallation,
  takeIn,
  verifyDeep,
  withOwnState,
} from './bundle-places.ts'
import { askNative, imageOf, reasonOf } from './import-doors.ts'
import { foreignDomainsOf, objectsOf } from './store-objects.ts'

// Two installations that have nothing in common but files that somebody carries from one to the other.

const CHUNK_BYTES = 256 * 1024
const CHUNK_COUNT = 48
const FLIP_COUNT = 20
/** In the content of the disk, so that it is in no file that is carried. */
const MARK = 'MARKED-content-that-nobody-reads'

/** An image of the makers' side, and the disk that it was made of. */
interface Made {
  readonly image: ShownImage
  readonly sha256: string
}

interface Both {
  /** Makes bundles, and believes those of the other. */
  readonly maker: Installation
  /** Takes them in, and believes nobody but whom its people name. */
  readonly taker: Installation
  readonly first: Made
  /** The first one with two chunks changed. */
  readonly second: Made
  /** Objects of the taker before anything came. */
  readonly before: readonly string[]
}

async function make(
  { place, person }: Installation,
  name: string,
  disk: Buffer,
  kind: string,
): Promise<Made> {
  const fileName = `${name}.raw`
  await writeFile(join(place.importDirectory, fileName), disk)
  const image = await imageOf(person, await askNative(person, { name, fileName, kind, osName: 'Debian 12' }))
  return { image, sha256: createHash('sha256').update(disk).digest('hex') }
}

/** Noise with a word in it that can be found, and zeroes. */
function newDisk(): Buffer {
  const disk = Buffer.alloc(CHUNK_COUNT * CHUNK_BYTES)
  randomBytes((CHUNK_COUNT - 8) * CHUNK_BYTES).copy(disk)
  for (let at = 1000; at < disk.length; at += CHUNK_BYTES) disk.write(MARK, at)
  return disk
}

async function newBoth(t: TestContext): Promise<Both> {
  await withOwnState(t)
  const taker = await newInstallation(t)
  const maker = await newInstallation(t, { CALOTYPE_BUNDLES_SIGNERS: taker.signer })
  assert.notEqual(maker.signer, taker.signer)
  // So that the taker has keys of its own for the domain that both call public.
  await importSmall(taker.person, 'base', 'own')
  const disk = newDisk()
  const first = await make(maker, 'v1', disk, 'base')
  randomBytes(2 * CHUNK_BYTES).copy(disk, 7 * CHUNK_BYTES)
  const second = await make(maker, 'v2', disk, 'base')
  return { maker, taker, first, second, before: await objectsOf(taker.place) }
}

test('images are carried from one installation to another', async (t) => {
  const both = await newBoth(t)
  const { maker, taker, first, second, before } = both

  let full = { path: '', sizeBytes: 0 }
  await t.test('a bundle is believed only if its maker is named', async () => {
    full = await bundleFor(maker, first.image.id, await inventoryOf(taker, 'empty'), 'full')
    assert.ok(!(await readFile(full.path)).includes(MARK), 'a bundle shows nothing of what is in it')
    const strangers = [
      await failToTakeIn(taker, full.path),
      await failToTakeIn(taker, full.path, '--signer', 'ab'.repeat(32)),
      await failToTakeIn(taker, full.path, '--signer', taker.signer),
    ]
    for (const { stderr } of strangers) {
      assert.match(stderr, /is not believed here/)
      assert.ok(stderr.includes(maker.signer), 'it names the key, to be compared with what its maker tells')
    }
    assert.deepEqual(await objectsOf(taker.place), before)
    assert.deepEqual(await foreignDomainsOf(taker.place), [], 'nor did its keys stay')
  })

  let carried = first.image
  await t.test('it is the very image there, checked again and readable', async () => {
    const image = await takeIn(taker, full.path, '--signer', maker.signer)
    assert.equal(image.digest, first.image.digest)
    assert.deepEqual(image.disks, first.image.disks)
    assert.deepEqual([image.name, image.kind, image.osName], ['carried', 'custom', 'Debian 12'])
    assert.equal(await exportedSha256(taker, image.id), first.sha256)
    await verifyDeep(taker)
    carried = image
  })

  let step = { path: '', sizeBytes: 0 }
  await t.test('the next one carries only what is new', async () => {
    step = await bundleFor(maker, second.image.id, await inventoryOf(taker, 'with-v1'), 'step')
    // Two chunks of noise, a page, and what says so.
    assert.ok(step.sizeBytes > 2 * CHUNK_BYTES && step.sizeBytes < 3 * CHUNK_BYTES, `${step.sizeBytes}`)
    assert.ok(full.sizeBytes > 10 * step.sizeBytes, `${full.sizeBytes} and ${step.sizeBytes}`)
    await assertDamageIsSeen(t, both, step.path)
    const image = await takeIn(taker, step.path, '--signer', maker.signer)
    assert.equal(image.digest, second.image.digest)
    assert.equal(await exportedSha256(taker, image.id), second.sha256)
    await verifyDeep(taker)
  })

  await t.test('so is one that only a project of its maker has', async () => {
    const own = await make(maker, 'own', randomBytes(CHUNK_BYTES), 'custom')
    const { path } = await bundleFor(maker, own.image.id, await inventoryOf(taker, 'with-v2'), 'custom')
    const image = await takeIn(taker, path, '--signer', maker.signer)
    assert.equal(image.digest, own.image.digest)
    assert.equal(await exportedSha256(taker, image.id), own.sha256)
    assert.equal((await foreignDomainsOf(taker.place)).length, 2, 'keys of both domains of its maker')
  })

  await t.test('a bundle is for one installation, and one region that holds what it builds on', async () => {
    // Its maker believes itself, and still cannot open what it sealed for the other.
    const { stderr } = await failToTakeIn(maker, step.path)
    assert.match(stderr, /made for another installation/)
    const elsewhere = await askNative(taker.person, await asFile(taker, step.path, { region: AWAY }, maker))
    const query = { region: AWAY }
    assert.ok(elsewhere.is === 'begun')
    type Shown = { readonly taskId: string | null; readonly reason: string | null }
    const path = `/v1/images/${elsewhere.imageId}`
    const shown = () => good<Shown>(taker.person.native('GET', path, { query }))
    const { taskId } = await shown()
    if (taskId !== null) await taskEnd(taker.person, taskId)
    assert.match((await shown()).reason ?? '', /does not hold.*new inventory/)
  })

  await t.test('it comes back to where it was made, and goes on from where it came to', async () => {
    // To itself: all that it names is there.
    const own = await bundleFor(maker, second.image.id, await inventoryOf(maker, 'own'), 'own')
    assert.ok(own.sizeBytes < 64 * 1024, `${own.sizeBytes}`)
    assert.equal((await takeIn(maker, own.path)).digest, second.image.digest)
    // The other's key stands in the settings, so nobody has to name it.
    const back = await bundleFor(taker, carried.id, await inventoryOf(maker, 'back'), 'back')
    const image = await takeIn(maker, back.path)
    assert.equal(image.digest, first.image.digest)
    assert.equal(await exportedSha256(maker, image.id), first.sha256)
    await verifyDeep(maker)
  })

  await t.test('keys of others are there after a start, and go along with a copy', async () => {
    await taker.place.restart()
    assert.equal(await exportedSha256(taker, carried.id), first.sha256)
    await calotypeJson(taker.place, 'image', 'copy', carried.id, '--region', HOME, '--to', AWAY, '--wait')
    await verifyDeep(taker)
  })

  await t.test('who has rights in one project alone makes no bundles', () => assertRightIsOfAccounts(both))

  await t.test('nothing is left of it once it is deleted', async () => {
    for (const region of [HOME, AWAY]) {
      const { images } = await good<{ images: ShownImage[] }>(
        taker.person.native('GET', '/v1/images', { query: { region, limit: '500' } }),
      )
      for (const { id, name } of images) {
        if (name === 'own') continue
        await good(taker.person.native('DELETE', `/v1/images/${id}`, { query: { region } }))
      }
    }
    assert.deepEqual(await objectsOf(taker.place), before)
    // And what was made for what it had is nothing to it now.
    const { stderr } = await failToTakeIn(taker, step.path, '--signer', maker.signer)
    assert.match(stderr, /does not hold.*new inventory/)
    assert.deepEqual(await objectsOf(taker.place), before)
    await verifyDeep(taker)
  })
})

/** A wish for a file that is put into the import folder. */
async function asFile({ place }: Installation, path: string, more: object, from: Installation) {
  const fileName = 'carried.bundle'
  await writeFile(join(place.importDirectory, fileName), await readFile(path))
  return { name: 'refused', fileName, signer: from.signer, ...more }
}

/** No byte can change unseen, and nothing of a bundle that was refused stays. */
async function assertDamageIsSeen(t: TestContext, { maker, taker }: Both, path: string): Promise<void> {
  const { place, person } = taker
  const objects = await objectsOf(taker.place)
  const bytes = await readFile(path)
  const next = randomOf(newSeed(t))
  const below = (end: number) => Math.floor(next() * end)
  // Behind the mark that says it is a bundle; as much at its end, where what says what is in it stands, as before.
  const places = Array.from({ length: FLIP_COUNT }, (_, index) =>
    index % 2 === 0 ? 8 + below(bytes.length - 8) : bytes.length - 1 - below(2048),
  )
  const asked = places.map(async (at, index) => {
    const fileName = `flip-${index}`
    const damaged = Buffer.from(bytes)
    damaged[at] = (damaged[at] ?? 0) ^ (1 << below(8))
    await writeFile(join(place.importDirectory, fileName), damaged)
    const wish = { name: 'damaged', fileName, signer: maker.signer }
    const reason = await reasonOf(person, await askNative(person, wish))
    assert.match(reason, /bundle (is damaged|is not whole|is of a later version)/, `byte ${at}: ${reason}`)
    await rm(join(place.importDirectory, fileName))
  })
  await Promise.all(asked)
  // One that ends early, and one that goes on.
  for (const [index, other] of [bytes.subarray(0, -1), Buffer.concat([bytes, Buffer.alloc(1)])].entries()) {
    const fileName = `cut-${index}`
    await writeFile(join(place.importDirectory, fileName), other)
    const wish = { name: 'damaged', fileName, signer: maker.signer }
    assert.match(await reasonOf(person, await askNative(person, wish)), /not whole/)
  }
  assert.deepEqual(await objectsOf(taker.place), objects)
  const { images } = await good<{ images: ShownImage[] }>(
    person.native('GET', '/v1/images', { query: { region: HOME, limit: '500' } }),
  )
  type List = { readonly projects: readonly { chargedBytes: number }[] }
  const { projects } = await good<List>(person.native('GET', '/v1/projects'))
  const kept = images.filter(({ state }) => state === 'available')
  const keptBytes = kept.reduce((sum, image) => sum + (image.dataBytes ?? 0), 0)
  assert.deepEqual(
    projects.map(({ chargedBytes }) => chargedBytes),
    [keptBytes],
  )
}

/** A bundle holds the keys of all that a project stored, and of base images. */
async function assertRightIsOfAccounts({ maker, taker, first }: Both): Promise<void> {
  const { place, person } = maker
  const { projects } = await good<{ projects: { id: string }[] }>(person.native('GET', '/v1/projects'))
  const project = projects[0]?.id ?? ''
  const made = await good<{ accessKeyId: string; accessKeySecret: string }>(
    person.native('POST', '/v1/users', { body: { name: 'carrier' } }),
  )
  const document = { Version: '1', Statement: [{ Effect: 'Allow', Action: 'calotype:*', Resource: '*' }] }
  await good(person.native('PUT', '/v1/policies/all-of-it', { body: { document } }))
  const inventory = await readFile(await inventoryOf(taker, 'rights'), 'utf8')
  const other = personOf(place, made)
  const path = `/v1/images/${first.image.id}/exports`
  const bundle = { region: HOME, project, bundle: { inventory } }
  const disk = { region: HOME, project, format: 'raw' }
  await good(
    person.native('POST', '/v1/attachments', { body: { user: 'carrier', policy: 'all-of-it', project } }),
  )
  assert.equal((await other.native('POST', path, { body: disk })).status, 201)
  assert.equal((await other.native('POST', path, { body: bundle })).status, 403)
  await good(person.native('POST', '/v1/attachments', { body: { user: 'carrier', policy: 'all-of-it' } }))
  assert.equal((await other.native('POST', path, { body: bundle })).status, 201)
}
