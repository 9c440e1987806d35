import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { isFault } from '../image/fault.ts'
import type { StoreJobs } from '../tasks/store-jobs.ts'
import { createJobs } from '../tasks/threads/jobs.ts'
import { type AppPlace, HOME, newAppPlace } from './fixture.ts'

const MIB = 1024 ** 2
/** As the fixture has it. */
const UPLOAD_MS = 3_600_000
const never = () => new AbortController().signal

describe('uploads over a store', () => {
  let folder: string
  let jobs: StoreJobs
  let place: AppPlace

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'uploads-'))
    jobs = createJobs({
      places: [
        {
          regionId: HOME,
          objects: { kind: 'directory', folder: join(folder, 'objects') },
          indexPath: join(folder, 'index.db'),
          domainsKey: new Uint8Array(randomBytes(32)),
          regionKey: new Uint8Array(randomBytes(32)),
          isEncrypting: true,
        },
      ],
      bundleSeed: new Uint8Array(32),
      threadCount: 1,
      nbdSocketPath: join(folder, 'images.sock'),
      log: () => {},
    })
    await jobs.prepare()
    place = await newAppPlace({ jobs })
  })
  afterEach(async () => {
    await place.close()
    await jobs.close()
    await rm(folder, { recursive: true })
  })

  const begin = (lengthBytes?: number) =>
    place.app.uploads.create(place.root, { regionId: HOME, name: 'disk', kind: 'custom', lengthBytes })
  async function* body(...pieces: Uint8Array[]) {
    yield* pieces
  }
  const send = (token: string, offsetBytes: number, bytes: Uint8Array, lengthBytes?: number) =>
    place.app.uploads.receive(
      token,
      { offsetBytes, partBytes: bytes.length, lengthBytes, body: body(bytes) },
      never(),
    )
  async function charged(): Promise<number> {
    const [project] = await place.app.projects.list(place.root)
    return project?.chargedBytes ?? Number.NaN
  }
  async function objects(): Promise<readonly string[]> {
    const entries = await readdir(join(folder, 'objects'), { recursive: true, withFileTypes: true })
    // The keys of a project stay.
    return entries
      .filter((entry) => !entry.isDirectory() && !entry.parentPath.includes('keys'))
      .map(({ name }) => name)
  }
  async function states(): Promise<readonly string[]> {
    const rows = await place.catalog.rows.selectFrom('upload').select(['id', 'state']).execute()
    return rows.map(({ id, state }) => `${id} ${state}`)
  }
  async function assertNothing(): Promise<void> {
    assert.deepEqual(await states(), [])
    assert.deepEqual(await jobs.sessions(HOME), [])
    assert.deepEqual(await objects(), [])
    assert.equal(await charged(), 0)
  }
  const isGone = (error: unknown) => isFault(error, 'absent') && error.subject === 'upload'

  test('what nobody went on with in its time is taken away whole', async () => {
    const { token, upload } = await begin(8 * MIB)
    const other = await begin()
    assert.equal(await charged(), 8 * MIB)
    await send(token, 0, randomBytes(3 * MIB))
    await send(other.token, 0, randomBytes(2 * MIB))
    assert.ok((await objects()).length > 0)
    assert.equal(await charged(), 10 * MIB)

    place.nowMs += UPLOAD_MS - 1
    await place.sweep()
    assert.equal((await place.app.uploads.find(token)).offsetBytes, 3 * MIB)

    // One went on, and has its whole time again.
    await send(other.token, 2 * MIB, randomBytes(MIB))
    place.nowMs += 1
    await assert.rejects(place.app.uploads.find(token), isGone)
    await assert.rejects(send(token, 3 * MIB, randomBytes(MIB)), isGone)
    const where = { regionId: HOME, uploadId: upload.id }
    await assert.rejects(place.app.uploads.get(place.root, where), isGone)
    await place.sweep()
    assert.deepEqual(await states(), [`${other.upload.id} receiving`])
    assert.equal(await charged(), 3 * MIB)

    place.nowMs += UPLOAD_MS
    await place.sweep()
    await assertNothing()
  })

  test('whoever still sends when the time is over is told, and nothing of it stays', async () => {
    const { token } = await begin(8 * MIB)
    const silent = Promise.withResolvers<void>()
    const came = Promise.withResolvers<void>()
    async function* slow() {
      yield randomBytes(2 * MIB)
      came.resolve()
      await silent.promise
    }
    const part = { offsetBytes: 0, partBytes: 8 * MIB, body: slow() }
    const sending = assert.rejects(place.app.uploads.receive(token, part, never()), isGone)
    await came.promise
    place.nowMs += UPLOAD_MS
    await place.sweep()
    await sending
    silent.resolve()
    await assertNothing()
  })

  test('one that was refused is told of until its time is over', async () => {
    const { token } = await begin(4 * MIB)
    const iso = Buffer.alloc(2 * MIB)
    iso.write('\x01CD001\x01', 32768, 'latin1')
    const refused = (error: unknown) => isFault(error, 'invalid') && error.subject === 'file'
    await assert.rejects(send(token, 0, iso), refused)
    assert.deepEqual(await objects(), [])
    assert.equal(await charged(), 0)
    await place.sweep()
    assert.equal((await place.app.uploads.find(token)).state.at, 'refused')
    await assert.rejects(send(token, 2 * MIB, randomBytes(MIB)), refused)
    place.nowMs += UPLOAD_MS
    await place.sweep()
    await assertNothing()
  })

  test('one that was received whole stays as long as its import reads it', async () => {
    const { token } = await begin(MIB)
    const { state } = await send(token, 0, randomBytes(MIB))
    assert(state.at === 'received')
    place.nowMs += 2 * UPLOAD_MS
    await place.sweep()
    // A collection knows by the row that somebody needs the bytes.
    assert.equal((await states()).length, 1)
    assert.equal((await jobs.sessions(HOME)).length, 1)
    await place.app.tasks.cancel(place.root, state.taskId)
    await place.sweep()
    assert.deepEqual(await states(), [])
  })

  test('a sender that lets us wait is ended, and what it sent is kept', async () => {
    const { token } = await begin(8 * MIB)
    async function* slow() {
      yield randomBytes(300 * 1024)
      place.nowMs += 130_000
      yield randomBytes(1024)
    }
    const part = { offsetBytes: 0, partBytes: 8 * MIB, body: slow() }
    const sent = place.app.uploads.receive(token, part, never())
    await assert.rejects(sent, (error) => isFault(error, 'unavailable') && /too slowly/.test(error.message))
    assert.equal((await place.app.uploads.find(token)).offsetBytes, 300 * 1024)
  })
})
