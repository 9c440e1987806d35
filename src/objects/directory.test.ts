import assert from 'node:assert/strict'
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { isFault } from '../image/fault.ts'
import { listTemporary, openDirectoryObjects } from './directory.ts'
import { parseObjectName } from './names.ts'
import { objectStoreSuite } from './suite.ts'

const name = parseObjectName('packs/ab/abcdef')

async function inFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'objects-'))
  try {
    await body(folder)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

objectStoreSuite('directory', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'objects-'))
  return {
    objects: await openDirectoryObjects({ folder, clean: true }),
    again: () => openDirectoryObjects({ folder, clean: false }),
    dispose: () => rm(folder, { recursive: true, force: true }),
  }
})

test('directory: what a crash left half written goes at the next clean opening, and is never listed', () =>
  inFolder(async (folder) => {
    await openDirectoryObjects({ folder, clean: true })
    await writeFile(join(folder, '.tmp', '0123'), 'half')
    const second = await openDirectoryObjects({ folder, clean: false })
    assert.deepEqual(await listTemporary(folder), ['0123'])
    assert.deepEqual(await Array.fromAsync(second.list('')), [])
    await openDirectoryObjects({ folder, clean: true })
    assert.deepEqual(await listTemporary(folder), [])
  }))

test('directory: bytes are read into memory of the caller, and a short object is a fault', () =>
  inFolder(async (folder) => {
    const objects = await openDirectoryObjects({ folder, clean: true })
    await objects.put(name, Buffer.from('hello world'))
    const target = Buffer.alloc(7, '.')
    await objects.getInto?.(name, 6, target.subarray(1, 6))
    assert.equal(target.toString(), '.world.')
    await assert.rejects(objects.getInto?.(name, 6, Buffer.alloc(6)) ?? Promise.resolve(), (error) =>
      isFault(error, 'corrupt'),
    )
  }))

test('directory: an aborted put leaves no temporary file', () =>
  inFolder(async (folder) => {
    const objects = await openDirectoryObjects({ folder, clean: true })
    const abort = new AbortController()
    const put = objects.put(name, Buffer.alloc(20_000_000, 1), abort.signal)
    abort.abort()
    await put.catch(() => {})
    await objects.put(parseObjectName('keys/public'), Buffer.from('x'))
    assert.deepEqual(await listTemporary(folder), [])
  }))

test('directory: a folder that cannot be used is a fault, not a crash', () =>
  inFolder(async (folder) => {
    await writeFile(join(folder, 'file'), '')
    await assert.rejects(openDirectoryObjects({ folder: join(folder, 'file'), clean: true }), (error) =>
      isFault(error, 'unavailable'),
    )
    assert.deepEqual(await readdir(folder), ['file'])
  }))
