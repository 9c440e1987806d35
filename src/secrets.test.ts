import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { isFault } from './image/fault.ts'
import type { DomainId, RegionId } from './image/ids.ts'
import { openDirectoryObjects } from './objects/directory.ts'
import type { ObjectName } from './objects/names.ts'
import type { ObjectsPlace } from './objects/open.ts'
import { ensureDomainsKey, ensureRegionKey } from './secrets.ts'
import { LocalWrapper } from './store/keys.ts'
import { openRegionStore } from './store/region.ts'

const DOMAIN = 'org-a' as DomainId

async function withData(body: (data: string) => Promise<void>): Promise<void> {
  const data = await mkdtemp(join(tmpdir(), 'secrets-'))
  try {
    await body(data)
  } finally {
    await rm(data, { recursive: true, force: true })
  }
}

const hexOf = (key: Uint8Array) => Buffer.from(key).toString('hex')
const keyPath = (data: string) => join(data, 'keys', 'hk.key')
const ensure = (data: string, more: { given?: string; old?: string } = {}) =>
  ensureRegionKey({
    data,
    regionId: 'hk' as RegionId,
    objects: { kind: 'directory', folder: join(data, 'objects') },
    given: more.given,
    old: more.old,
  })

/** Opens a domain of the region, which makes its keys if need be. */
async function useDomain(data: string, key: Uint8Array): Promise<void> {
  const objects = await openDirectoryObjects({ folder: join(data, 'objects'), clean: false })
  const region = await openRegionStore({ objects, indexPath: ':memory:', wrapper: new LocalWrapper(key) })
  await region.ensureDomain(DOMAIN)
  region.close()
}

test('the first start makes the keys, for their owner alone, and the next one finds them', () =>
  withData(async (data) => {
    const domainsKey = await ensureDomainsKey(data)
    const key = await ensure(data)
    assert.equal(key.length, 32)
    assert.equal(await readFile(keyPath(data), 'latin1'), `${hexOf(key)}\n`)
    for (const path of [keyPath(data), join(data, 'domains.key')]) {
      assert.equal((await stat(path)).mode & 0o777, 0o600)
    }
    await useDomain(data, key)
    assert.deepEqual(await ensure(data), key)
    assert.deepEqual(await ensureDomainsKey(data), domainsKey)
    assert.equal(key.buffer.byteLength, 32, 'it shares its memory with nothing')
  }))

test('a key of the environment wins, and no file is made for it', () =>
  withData(async (data) => {
    const given = 'Ab'.repeat(32)
    assert.equal(hexOf(await ensure(data, { given })), given.toLowerCase())
    await assert.rejects(stat(keyPath(data)))
  }))

test('a region whose key is lost or wrong is refused, and no new key is made for it', () =>
  withData(async (data) => {
    const key = await ensure(data)
    await useDomain(data, key)
    await rm(keyPath(data))
    const isRefused = (error: unknown) =>
      isFault(error, 'denied') &&
      error.message.includes('Region hk') &&
      error.message.includes(new LocalWrapper(key).keyId)
    await assert.rejects(ensure(data), isRefused)
    await assert.rejects(stat(keyPath(data)))
    await assert.rejects(ensure(data, { given: 'cd'.repeat(32) }), isRefused)
    assert.deepEqual(await ensure(data, { given: hexOf(key) }), key)
  }))

test('a region with a key object of another format is refused, and no key is made for it', () =>
  withData(async (data) => {
    const objects = await openDirectoryObjects({ folder: join(data, 'objects'), clean: false })
    await objects.put('keys/org-a' as ObjectName, Buffer.from('{}'))
    await assert.rejects(
      ensure(data),
      (error) => isFault(error, 'corrupt') && /keys\/org-a/.test(error.message),
    )
    await assert.rejects(stat(keyPath(data)))
  }))

test('a file that holds no key is refused without showing what it holds', () =>
  withData(async (data) => {
    const key = await ensure(data)
    for (const text of [`${hexOf(key)}0`, hexOf(key).slice(1), '']) {
      await writeFile(keyPath(data), text)
      await assert.rejects(
        ensure(data),
        (error) => isFault(error, 'corrupt') && !error.message.includes(hexOf(key).slice(1, 60)),
      )
    }
    await writeFile(join(data, 'domains.key'), 'short')
    await assert.rejects(ensureDomainsKey(data), (error) => isFault(error, 'corrupt'))
  }))

test('a region that cannot be reached keeps the key it has, and gets no new one', () =>
  withData(async (data) => {
    const away: ObjectsPlace = {
      ...{ kind: 's3', endpoint: 'http://127.0.0.1:1', region: 'default', bucket: 'images', prefix: '' },
      ...{ isPathStyle: true, accessKeyId: 'id', secretAccessKey: 'secret' },
    }
    const key = await ensure(data)
    const options = { data, regionId: 'hk' as RegionId, objects: away, old: undefined }
    assert.deepEqual(await ensureRegionKey({ ...options, given: undefined }), key)
    assert.equal(hexOf(await ensureRegionKey({ ...options, given: 'ab'.repeat(32) })), 'ab'.repeat(32))
    await rm(keyPath(data))
    await assert.rejects(ensureRegionKey({ ...options, given: undefined }), (error) =>
      isFault(error, 'unavailable'),
    )
    await assert.rejects(stat(keyPath(data)))
  }))

test('a key is changed by giving the one before, to one that is given or made anew', () =>
  withData(async (data) => {
    const first = await ensure(data)
    await useDomain(data, first)
    await rm(keyPath(data))
    const second = await ensure(data, { old: hexOf(first) })
    assert.notDeepEqual(second, first)
    assert.deepEqual(await ensure(data), second)
    const third = 'ef'.repeat(32)
    assert.equal(hexOf(await ensure(data, { given: third, old: hexOf(second) })), third)
    await assert.rejects(ensure(data), (error) => isFault(error, 'denied'))
    await useDomain(data, Buffer.from(third, 'hex'))
  }))
