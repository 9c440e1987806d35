import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { open, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { ROOT, stopServer } from '../../demo/server.ts'
import type { ShownImage, ShownMachine, ShownTask } from '../../src/wire/native/show.ts'
import { idle } from './harness.ts'
import {
  good,
  launch,
  newSmallPlace,
  type Person,
  personOf,
  type SmallPlace,
  taskEnd,
  until,
} from './small-place.ts'
import { AWAY, HOME } from './valid-calls.ts'

const DISK_BYTES = 4 * 1024 ** 2
const CHUNK_BYTES = 256 * 1024
/** What a machine writes over of its base: so much of its image is its own. */
const OWN_COUNT = 8
/** They hardly shrink: most of each is still what the base has at random. */
const OWN_BYTES = 0.99 * OWN_COUNT * CHUNK_BYTES

interface Ran {
  readonly exitCode: number | null
  readonly stdout: string
  readonly stderr: string
}

/** `calotype …` as its user runs it, in a process of its own. */
async function calotype(place: SmallPlace, ...argv: string[]): Promise<Ran> {
  const child = spawn(join(ROOT, 'bin/calotype'), [...argv, '--data', place.data], {
    env: { ...process.env, CALOTYPE_HOST_DRIVER: 'simulated', CALOTYPE_LOG_LEVEL: 'error' },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const said = { stdout: '', stderr: '' }
  child.stdout.on('data', (chunk: Buffer) => (said.stdout += chunk))
  child.stderr.on('data', (chunk: Buffer) => (said.stderr += chunk))
  const exitCode = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', resolve)
  })
  return { exitCode, ...said }
}

async function ok(place: SmallPlace, ...argv: string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await calotype(place, ...argv)
  assert.equal(exitCode, 0, `${argv.join(' ')}\n${stdout}${stderr}`)
  return stdout
}
const json = async (place: SmallPlace, ...argv: string[]) => JSON.parse(await ok(place, ...argv, '--json'))

async function storedBytes(place: SmallPlace, region: string): Promise<number> {
  const folder = join(place.data, 'regions', region, 'objects')
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  const files = entries.filter((entry) => entry.isFile())
  const sizes = await Promise.all(
    files.map(async (entry) => (await stat(join(entry.parentPath, entry.name))).size),
  )
  return sizes.reduce((sum, size) => sum + size, 0)
}

/** The files of a region's packs, the smallest first. */
async function packsOf(place: SmallPlace, region: string): Promise<string[]> {
  const folder = join(place.data, 'regions', region, 'objects', 'packs')
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))
  const sized = await Promise.all(files.map(async (path) => ({ path, sizeBytes: (await stat(path)).size })))
  return sized.sort((a, b) => a.sizeBytes - b.sizeBytes).map(({ path }) => path)
}

/** Writes over a few bytes of a pack's first chunk. */
async function damage(pack: string): Promise<void> {
  const file = await open(pack, 'r+')
  await file.write(Buffer.from('flip'), 0, 4, 70_000)
  await file.close()
}

/** A machine whose disk holds what no other one's does: most of it from its base, and a few chunks of its own. */
async function newMachine(place: SmallPlace, person: Person, name: string): Promise<string> {
  await writeFile(join(place.importDirectory, `${name}.raw`), randomBytes(DISK_BYTES))
  const made = await json(
    ...([place, 'image', 'import', `${name}.raw`, '--name', `base ${name}`, '--kind', 'base'] as const),
    ...['--region', HOME, '--wait'],
  )
  const [machine = ''] = await launch(person, made.imageId)
  const lines = Array.from({ length: OWN_COUNT }, (_, i) => `write 0 ${i * CHUNK_BYTES} ${name} was here\n`)
  const body = { region: HOME, bytes: Buffer.from(lines.join('')).toString('base64') }
  await good(person.native('POST', `/v1/machines/${machine}/console`, { body }))
  return machine
}

async function capture(place: SmallPlace, machine: string, name: string): Promise<string> {
  const made = await json(
    ...([place, 'image', 'create', '--machine', machine, '--name', name] as const),
    ...['--region', HOME, '--wait'],
  )
  return made.imageId
}

const imagesOf = async (person: Person, region: string) =>
  (await good<{ images: ShownImage[] }>(person.native('GET', '/v1/images', { query: { region } }))).images
const namesOf = async (person: Person, region: string) =>
  (await imagesOf(person, region)).map((image) => image.name).sort()

test('the store: collecting, counting, losing its databases, and quotas', async (t: TestContext) => {
  const place = await newSmallPlace(t)
  const root = personOf(place)
  const first = await newMachine(place, root, 'first')
  const second = await newMachine(place, root, 'second')
  const kept = await capture(place, first, 'kept')
  const doomed = await capture(place, second, 'doomed')

  await t.test('what a deleted image alone needed goes with a collection, and nothing else', async () => {
    await ok(place, 'image', 'delete', doomed, '--region', HOME)
    await idle(place.server)
    const before = await storedBytes(place, HOME)
    const paper = await json(place, 'store', 'gc', '--dry-run', '--region', HOME)
    const [would] = paper.regions
    assert.equal(would.isDryRun, true)
    assert.ok(would.condemnedBytes > OWN_BYTES, JSON.stringify(would))
    assert.equal(await storedBytes(place, HOME), before)
    const kind = (what: string) => would.items.find((item: { what: string }) => item.what === what)
    assert.match(kind('image').why, /nobody refers to it/)

    // Within the grace it is condemned and stays.
    const grace = await json(place, 'store', 'gc', '--region', HOME, '--grace', '24')
    assert.ok(grace.regions[0].waitingBytes > OWN_BYTES && grace.regions[0].removedBytes === 0)
    assert.equal(await storedBytes(place, HOME), before)

    const text = await ok(place, 'store', 'gc', '--region', HOME, '--grace', '0')
    assert.match(text, /removed +pack +packs\/\w\w\/\w{12}…/)
    const after = await storedBytes(place, HOME)
    assert.ok(before - after > OWN_BYTES, `${before} - ${after}`)
    assert.match(await ok(place, 'store', 'gc', '--region', HOME, '--grace', '0'), /^Nothing to collect\.\n/)
    await ok(place, 'verify', '--deep')
  })

  await t.test('usage counts what each image, project and region takes', async () => {
    const usage = await json(place, 'store', 'usage', '--region', HOME)
    const image = usage.images.find(({ name }: { name: string }) => name === 'kept')
    assert.deepEqual([image.id, image.logicalBytes >= DISK_BYTES, image.dataBytes], [kept, true, DISK_BYTES])
    assert.equal(image.uniqueBytes + image.sharedBytes, image.storedBytes)
    assert.ok(image.uniqueBytes > OWN_BYTES)
    assert.equal(usage.projects[0].chargedBytes, 3 * DISK_BYTES)
    assert.ok(usage.regions[0].packBytes >= usage.regions[0].liveBytes)
    assert.match(await ok(place, 'store', 'usage', '--region', HOME), /RECLAIMABLE/)
  })

  await t.test('a scrub reads everything, and a flipped bit is mended from another region', async () => {
    await ok(place, 'image', 'copy', kept, '--region', HOME, '--to', AWAY, '--wait')
    const scrubbed = await json(place, 'store', 'scrub', '--all', '--region', HOME, '--rate', '1GB')
    assert.deepEqual([scrubbed.isWell, scrubbed.regions[0].damagedCount], [true, 0])
    const [pack = ''] = await packsOf(place, AWAY)
    await damage(pack)
    const found = await calotype(place, 'store', 'scrub', '--all', '--no-repair', '--region', AWAY)
    assert.equal(found.exitCode, 1)
    assert.match(found.stdout, /is damaged/)
    const mended = await json(place, 'store', 'scrub', '--region', AWAY)
    assert.deepEqual([mended.isWell, mended.regions[0].mendedCount], [true, 1])
    await ok(place, 'verify', '--deep', '--region', AWAY)
    // The damaged pack is kept for the grace: an index made anew would take it for one that is in use.
    await ok(place, 'store', 'gc', '--region', AWAY, '--grace', '0')
  })

  await t.test(
    'a guest reads right bytes from a damaged image, and the region is mended unasked',
    async () => {
      // The smallest one holds what is the image's own; it begins with the first chunk of the disk.
      const [pack = ''] = await packsOf(place, HOME)
      await damage(pack)
      const [machine = ''] = await launch(root, kept)
      const path = `/v1/machines/${machine}/console`
      const bytes = Buffer.from('cat 0 0 14\n').toString('base64')
      await good(root.native('POST', path, { body: { region: HOME, bytes } }))
      await until('the guest to say what it read', async () => {
        const said = await good<{ bytes: string }>(root.native('GET', path, { query: { region: HOME } }))
        return Buffer.from(said.bytes, 'base64').includes('first was here') || undefined
      })
      await until('the repair', async () => {
        const query = { kind: 'repair-region' }
        const { tasks } = await good<{ tasks: ShownTask[] }>(root.native('GET', '/v1/tasks', { query }))
        return tasks.find(({ state, region }) => state === 'done' && region === HOME)
      })
      await ok(place, 'verify', '--deep', '--region', HOME)
      await ok(place, 'store', 'gc', '--region', HOME, '--grace', '0')
    },
  )

  await t.test('catalog and indexes are lost, and made anew from the objects', async () => {
    const busy = await calotype(place, 'store', 'rebuild-catalog')
    assert.equal(busy.exitCode, 1)
    assert.match(busy.stderr, /Another server uses .*Stop it first/)
    const names = [await namesOf(root, HOME), await namesOf(root, AWAY)]
    const { images: before } = { images: await imagesOf(root, HOME) }
    await stopServer(place.server)
    for (const end of ['', '-wal', '-shm']) {
      await rm(join(place.data, `catalog.db${end}`), { force: true })
      for (const region of [HOME, AWAY]) {
        await rm(join(place.data, 'regions', region, `index.db${end}`), { force: true })
      }
    }
    const index = await ok(place, 'store', 'rebuild-index', '--region', HOME, AWAY)
    assert.match(index, /^REGION +PACKS +CHUNKS +IMAGES +REFS +DAMAGED\n/)
    const rows: { what: string; name: string; result: string }[] = await json(
      place,
      'store',
      'rebuild-catalog',
    )
    assert.deepEqual(
      rows
        .map(({ what, name, result }) => `${what} ${name} ${result}`)
        .filter((row) => row.startsWith('image'))
        .sort(),
      ['image base first', 'image base second', 'image kept', 'image kept'].map((row) => `${row} restored`),
    )
    assert.equal(rows.filter(({ what }) => what === 'machine').length, 3)
    const again: { result: string }[] = await json(place, 'store', 'rebuild-catalog', '--region', HOME)
    assert.ok(again.length > 0 && again.every(({ result }) => result === 'present'))

    await place.start()
    const person = personOf(place)
    assert.deepEqual([await namesOf(person, HOME), await namesOf(person, AWAY)], names)
    const bare = ({ storedBytes: _, movedBytes: __, updatedAtMs: ___, ...image }: ShownImage) => image
    assert.deepEqual((await imagesOf(person, HOME)).map(bare), before.map(bare))
    const [machine = ''] = await launch(person, kept)
    const { machines } = await good<{ machines: ShownMachine[] }>(
      person.native('GET', '/v1/machines', { query: { region: HOME } }),
    )
    // The simulated host forgets its machines with its process, so that those from before can only be deleted.
    assert.deepEqual(machines.map(({ id, state }) => (id === machine ? 'new' : state)).sort(), [
      'failed',
      'failed',
      'failed',
      'new',
    ])
    await ok(place, 'verify', '--deep')
    assert.match(await ok(place, 'store', 'gc', '--dry-run', '--grace', '0'), /^Nothing to collect\.\n/)
  })

  await t.test('a quota refuses what does not fit, in the words of each door', async () => {
    const person = personOf(place)
    const { projects } = await good<{ projects: { id: string; chargedBytes: number }[] }>(
      person.native('GET', '/v1/projects'),
    )
    const [project] = projects
    assert.ok(project !== undefined)
    const quota = `${project.chargedBytes + DISK_BYTES - 1}B`
    assert.match(await ok(place, 'project', 'quota', project.id, quota), /it is charged 16 MiB/)
    const copied = await calotype(place, 'image', 'copy', kept, '--region', HOME, '--to', 'cn-bj2')
    assert.equal(copied.exitCode, 1)
    const numbers =
      /is charged 16777216 bytes, 4194304 bytes more are wanted, and its quota is 20971519 bytes/
    assert.match(copied.stderr, numbers)
    const UImage = { SourceImageId: kept.replace('img-', 'uimage-'), TargetRegion: 'cn-bj2' }
    const where = { Region: HOME, ProjectId: project.id, TargetProjectId: project.id }
    const uhost = await person.uhost('CopyCustomImage', { ...where, ...UImage })
    assert.equal(uhost.json.RetCode, 8095)
    assert.match(String(uhost.json.Message), numbers)

    // What a capture holds is not known before it looks: its task is refused, before a byte is written.
    const packs = await storedBytes(place, HOME)
    const [machine = ''] = await launch(person, kept)
    const begun = await good<{ imageId: string; taskId: string }>(
      person.native('POST', '/v1/images/capture', { body: { region: HOME, machineId: machine, name: 'no' } }),
    )
    const task = await taskEnd(person, begun.taskId)
    assert.deepEqual([task.state, task.faultKind], ['failed', 'full'])
    assert.match(task.reason ?? '', /its quota is 20971519 bytes/)
    // The machine's ref is all that was added.
    await until('the end of the session', async () =>
      (await storedBytes(place, HOME)) - packs < 10_000 ? true : undefined,
    )

    // Used up: refused at once, at every door.
    await ok(place, 'project', 'quota', project.id, '1MiB')
    const wuying = await person.wuying('CreateImage', {
      RegionId: HOME,
      DesktopId: machine.replace('vm-', 'ecd-'),
      ImageName: 'never',
    })
    assert.deepEqual([wuying.status, wuying.json.Code], [400, 'QuotaExceeded.Storage'])
    await ok(place, 'verify')
    await ok(place, 'project', 'quota', project.id, 'none')
    await ok(place, 'image', 'copy', kept, '--region', HOME, '--to', 'cn-bj2', '--wait')
  })
})
