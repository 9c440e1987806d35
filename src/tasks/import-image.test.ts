import assert from 'node:assert/strict'
import { appendFileSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { Fault } from '../image/fault.ts'
import type { ProjectId, TaskId } from '../image/ids.ts'
import { HOME, newTaskPlace, PROJECT, type TaskPlace } from './fixture.ts'
import { FakeImports, MIB } from './import-image.fixture.ts'
import { importImage } from './import-image.ts'
import type { ImportInput } from './import-sources.ts'
import { chargedBytes } from './quota.ts'
import { createRunner, type Runner, type TaskDefinition } from './runner.ts'

const OTHER = 'org-other' as ProjectId

describe('imports', () => {
  let place: TaskPlace
  let imports: FakeImports
  let runner: Runner
  let folder: string
  let imageCount = 0
  beforeEach(async () => {
    place = await newTaskPlace()
    imports = new FakeImports(place.stores)
    folder = mkdtempSync(join(tmpdir(), 'calotype-imports-'))
    const { jobs, intake } = imports
    const parts = { ...place.parts, jobs, intake, importDirectory: folder }
    const definitions = [importImage(parts)] as readonly TaskDefinition<never>[]
    runner = createRunner({
      ...{ catalog: place.catalog, definitions },
      clock: place.parts.clock,
      log: (record) => void place.logged.push(record),
    })
    await place.catalog.rows
      .insertInto('project')
      .values({ id: OTHER, accountId: '1', name: 'other', isDefault: 0, createdAtMs: place.nowMs })
      .execute()
  })
  afterEach(async () => {
    await runner.close()
    await place.close()
    rmSync(folder, { recursive: true })
  })

  async function begin(
    from: ImportInput['from'],
    more: Partial<ImportInput> & { projectId?: ProjectId } = {},
  ): Promise<TaskId> {
    const { projectId = PROJECT, ...given } = more
    const imageId = await place.image(`imported ${imageCount++}`, { state: 'creating' })
    const input = { imageId, kind: 'custom', from, said: {}, ...given }
    const task = { kind: 'import-image', projectId, regionId: HOME, imageId, input } as const
    const id = await runner.add(place.catalog.rows, task)
    runner.kick(id)
    return id
  }
  const find = (id: TaskId) =>
    place.catalog.rows.selectFrom('task').selectAll().where('id', '=', id).executeTakeFirstOrThrow()
  async function ended(id: TaskId) {
    for (;;) {
      const row = await find(id)
      if (row.endedAtMs !== null) return row
      await runner.changed(id, 20, new AbortController().signal)
    }
  }
  const done = async (id: TaskId) => {
    const { state, reason } = await ended(id)
    assert.equal(state, 'done', reason ?? '')
  }
  const url = { is: 'url', shown: 'https://example.org/', sealed: 'sealed' } as const
  const charged = () => chargedBytes(place.catalog.rows, PROJECT)
  const upload = (sizeBytes: number) =>
    ({ is: 'upload', sessionId: 'uploaded', map: { sizeBytes, chunkBytes: 65_536, pages: [] } }) as const

  test('QEMU is asked to read what the thread that holds the file does not read by itself', async () => {
    imports.plainFormats = ['raw', 'vhdx']
    for (const format of ['vhdx', 'qcow2', 'raw'] as const) {
      imports.inspections = [{ is: 'disk', disk: imports.disk(format) }]
      await done(await begin(upload(MIB)))
    }
    assert.deepEqual(imports.foreign, ['qcow2'])
  })

  test('servers that are silent keep neither uploads nor other projects waiting', async () => {
    imports.body = (_offset, signal) => imports.silence(signal)
    const silent = await Promise.all(Array.from({ length: 20 }, () => begin(url)))
    await imports.opened(4)
    // Each has all that the others do not have: 4 of one project, and then those of another.
    const others = await Promise.all(Array.from({ length: 20 }, () => begin(url, { projectId: OTHER })))
    await imports.opened(8)
    await done(await begin(upload(MIB)))
    assert.equal(imports.opens.length, 8)
    await Promise.all([...silent, ...others].map((id) => runner.cancel(id)))
    for (const id of [...silent, ...others]) assert.equal((await ended(id)).state, 'cancelled')
    imports.body = () => imports.bytes(MIB)
    await done(await begin(url))
  })

  test('a server that drips is asked again behind what came, and in the end given up', async () => {
    imports.sizeBytes = 10 * MIB
    imports.body = async function* (offset) {
      for (let at = offset; at < 10 * MIB; at += 1024) {
        place.nowMs += 1000
        yield new Uint8Array(1024)
        // The third time it is well.
        if (imports.opens.length > 2) {
          yield* imports.bytes(10 * MIB - at - 1024)
          return
        }
      }
    }
    await done(await begin(url))
    const step = 120 * 1024
    assert.deepEqual(imports.opens, [0, step, 2 * step])
    assert.equal(imports.takenBytes, 10 * MIB)
  })

  test('the time for a fetch ends it in the middle of a body', async () => {
    imports.fetchMs = 50
    imports.body = (_offset, signal) => imports.silence(signal)
    const { state, reason } = await ended(await begin(url))
    assert.equal(state, 'failed')
    assert.match(reason ?? '', /in the time that imports have.*imports\.fetchHours/)
    assert.deepEqual(imports.opens, [0])
  })

  test('while we have our hands full nothing is counted as a failure of the other side', async () => {
    imports.body = () => imports.bytes(MIB)
    let busyCount = 2
    imports.onOpenBlob = () => {
      if (busyCount-- > 0) {
        throw new Fault('unavailable', 'Too many at once.', { subject: 'store', reason: 'busy' })
      }
    }
    await done(await begin(url))
    assert.deepEqual(imports.opens, [0, 0, 0])
  })

  test('a file of the folder is one file in all steps, and unchanged at the end', async () => {
    const path = join(folder, 'disk.raw')
    const from = { is: 'file', fileName: 'disk.raw' } as const
    const checksum = { algorithm: 'sha256', hex: imports.sha256 } as const
    const write = () => writeFileSync(path, Buffer.alloc(MIB, 1))
    write()
    await done(await begin(from, { checksum }))
    const replace = () => {
      writeFileSync(`${path}.other`, Buffer.alloc(MIB, 2))
      renameSync(`${path}.other`, path)
    }
    for (const [moment, act] of [
      ['checksums', replace],
      ['openFile', replace],
      ['checksums', () => appendFileSync(path, 'x')],
      ['write', () => appendFileSync(path, 'x')],
    ] as const) {
      write()
      let isFirst = true
      place.stores.gates.set(moment, async () => {
        if (isFirst) act()
        isFirst = false
      })
      const { state, faultKind, reason } = await ended(await begin(from, { checksum }))
      assert.deepEqual([state, faultKind], ['failed', 'conflict'], `${moment}: ${reason}`)
      assert.match(reason ?? '', /changed or replaced while it was imported\. Import it again\./)
      place.stores.gates.clear()
    }
    assert.equal(place.stores.holders(HOME).length, 1)
  })

  test('what lies there is charged until the end, and then what the image holds', async () => {
    const seen: number[] = []
    const look = async () => void seen.push(await charged())
    place.stores.measuredBytes = 5 * MIB
    place.stores.dataBytes = 3 * MIB
    imports.inspections = [{ is: 'disk', disk: imports.disk('qcow2') }]
    place.stores.gates.set('write', look)
    await done(await begin(upload(2 * MIB)))
    assert.deepEqual([...seen, await charged()], [7 * MIB, 3 * MIB])

    // Packed: while it comes out beside what came, then without it.
    seen.length = 0
    imports.inspections = [
      { is: 'packed', packing: 'zstd' },
      { is: 'disk', disk: imports.disk('qcow2') },
    ]
    imports.unpackedBytes = 4 * MIB
    place.stores.gates.set('unpacked', look)
    const aborted = imports.aborted.length
    await done(await begin(upload(2 * MIB)))
    const ahead = 1024 ** 3
    assert.deepEqual(seen, [3 * MIB + 2 * MIB + 4 * MIB + ahead, 3 * MIB + 4 * MIB + 5 * MIB])
    assert.equal(imports.aborted[aborted + 1], 'uploaded')
    assert.equal(await charged(), 6 * MIB)

    // A file of the folder lies elsewhere.
    seen.length = 0
    writeFileSync(join(folder, 'disk.qcow2'), Buffer.alloc(MIB, 1))
    imports.inspections = [{ is: 'disk', disk: imports.disk('qcow2') }]
    await done(await begin({ is: 'file', fileName: 'disk.qcow2' }))
    assert.deepEqual(seen, [6 * MIB + 5 * MIB])
  })

  test('a region without room is told before anything is written to it', async () => {
    imports.inspections = [{ is: 'disk', disk: imports.disk('qcow2') }]
    place.stores.measuredBytes = 20 * MIB
    // Not even for a quarter of them.
    imports.freeBytes = 5 * MIB - 1
    const refused = await ended(await begin(upload(MIB)))
    assert.deepEqual([refused.state, refused.faultKind], ['failed', 'full'])
    assert.match(refused.reason ?? '', /no room for the 20971520 bytes that are not zero/)
    imports.freeBytes = 5 * MIB
    await done(await begin(upload(MIB)))

    imports.inspections = [{ is: 'packed', packing: 'gzip' }]
    imports.unpackedBytes = 4 * MIB
    imports.freeBytes = 4 * MIB - 1
    const unpacked = await ended(await begin(upload(MIB)))
    assert.deepEqual([unpacked.state, unpacked.faultKind], ['failed', 'full'])
    assert.match(unpacked.reason ?? '', /no room for 4194304 bytes more/)
    assert.equal(place.stores.written.length, 1)
  })
})
